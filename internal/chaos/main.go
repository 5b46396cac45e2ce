// Command chaos tries to make Longhaul break a promise.
//
//	go run ./internal/chaos -seed 1 -duration 10m
//
// It runs a deployment of real processes on loopback (package cluster): two
// api, two worker and Temporal, with proxies between them. Clients of both
// generations of MCP create, read, list, answer and cancel tasks, twice and
// wrongly too, moving to another api with every request, as two owners who are
// strangers to each other. A nemesis kills (-9), stops, cuts, delays and
// restarts meanwhile; failpoints give it exact moments.
//
// Every operation is logged with its outcome: ok, failed, or unknown, which is
// what a broken connection leaves. The tools leave their effects on disk. When
// the time is over all is healed, every acknowledged task is brought to its end
// and read once more on both wires, and the histories are read from Temporal.
// A pure function (check.go) proves the promises from that record, or says
// what breaks them; mutants of the product show that it does
// (chaos_test.go).
//
// All that clients and nemesis decide is drawn from the seed. What happens in
// between is up to the machine, so a seed repeats a schedule, not a run.
//
// With -tasks and -kills the run ends when so many tasks were acknowledged and
// so many processes were killed:
//
//	go run ./internal/chaos -seed 1 -tasks 10000 -kills 100 -duration 1h
//
// The exit code is 1 if there is any violation, and the last line tells their
// number. Logs and databases are kept then, and their directory is told.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o Options
	flags.Uint64Var(&o.Seed, "seed", 1, "what clients and nemesis draw their decisions from")
	flags.DurationVar(&o.Duration, "duration", time.Minute, "how long they work, at most")
	flags.IntVar(&o.Clients, "clients", 8, "how many clients there are")
	flags.IntVar(&o.Tasks, "tasks", 0, "end when so many tasks were acknowledged, and -kills are done")
	flags.IntVar(&o.Kills, "kills", 0, "do nothing but kill, and so often")
	flags.DurationVar(&o.Pause, "pause", 2*time.Second, "the longest rest between two faults")
	flags.DurationVar(&o.Long, "long", 3*time.Second, "the longest time a fault lasts")
	flags.DurationVar(&o.Heartbeat, "heartbeat", 0, "give rounds of killed workers up so much later, and not when the product does")
	flags.DurationVar(&o.Settle, "settle", 6*time.Minute, "how long tasks have to end in the end")
	flags.StringVar(&o.Dir, "dir", "", "directory for databases and logs (default: a temporary one, kept if there are violations)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if o.Clients < 2 || (o.Tasks > 0) != (o.Kills > 0) {
		fmt.Fprintln(stderr, "chaos: there have to be two clients or more, and -tasks goes with -kills")
		return 2
	}
	keep := o.Dir != ""
	if !keep {
		var err error
		if o.Dir, err = os.MkdirTemp("", "longhaul-chaos-*"); err != nil {
			fmt.Fprintln(stderr, "chaos:", err)
			return 1
		}
	}
	begin := time.Now()
	o.Say = func(format string, args ...any) {
		fmt.Fprintf(stdout, "%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	figures, violations, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err, "(see "+o.Dir+")")
		return 1
	}
	figures.print(stdout)
	printViolations(stdout, violations)
	switch {
	case len(violations) > 0:
		fmt.Fprintf(stdout, "logs and databases are in %s\nviolations: %d\n", o.Dir, len(violations))
		return 1
	case !keep:
		_ = os.RemoveAll(o.Dir)
	}
	fmt.Fprintln(stdout, "violations: 0")
	return 0
}

func (f *Figures) print(w io.Writer) {
	fmt.Fprintf(w, "\nseed        %d\ntook        %s\noperations  ", f.Seed, f.Took.Round(time.Second))
	total := 0
	for _, outcomes := range f.Ops {
		for _, n := range outcomes {
			total += n
		}
	}
	fmt.Fprintln(w, total)
	for _, k := range []Kind{OpCreate, OpReuse, OpHeld, OpGet, OpResult, OpList, OpAnswer, OpCancel, OpStranger} {
		fmt.Fprintf(w, "  %-10s%7d ok %7d failed %7d unknown\n", k, f.Ops[k][OK], f.Ops[k][Failed], f.Ops[k][Unknown])
	}
	fmt.Fprintf(w, "tasks       %d acknowledged; %d workflows with held calls and those nobody was told of", f.Tasks, f.Flows)
	var closed []string
	for how, n := range f.Ended {
		closed = append(closed, fmt.Sprintf("%d %s", n, how))
	}
	slices.Sort(closed)
	fmt.Fprintf(w, ": %s; %d events\nfaults     ", strings.Join(closed, ", "), f.Events)
	for _, fault := range slices.Sorted(maps.Keys(f.Faults)) {
		fmt.Fprintf(w, " %d %s", f.Faults[fault], fault)
	}
	fmt.Fprintf(w, "; %d restarts\n\n", f.Restarts)
}

// maxPrinted bounds the violations of one kind that are printed.
const maxPrinted = 5

func printViolations(w io.Writer, violations []Violation) {
	count := map[string]int{}
	for _, v := range violations {
		if count[v.Promise]++; count[v.Promise] <= maxPrinted {
			fmt.Fprintln(w, v)
		}
	}
	for promise, n := range count {
		fmt.Fprintf(w, "%5d  %s\n", n, promise)
	}
}
