// Command bench compares Longhaul with what it stands on and with what others
// use instead, side by side in one run. Each comparison is made of rounds in
// which the sides take turns on one machine, so that its speed cancels out of the
// ratios that most targets are.
//
//	go run ./bench
//	go run ./bench -run create -json figures.json
//
// Every part of a measurement is a process of its own: Temporal, whatever is
// measured, and the generator of the load. All but Temporal and servers of other
// makers are this program again, in a role.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

// comparison is one measurement of several sides.
type comparison struct {
	name  string
	about string
	run   func(context.Context, *stage) error
}

// comparisons are all there are, in the order in which they are made.
func comparisons() []comparison {
	return []comparison{
		{"create-result", "a task from its creation to its result in hand, beside the bare Temporal SDK", createResult},
		{"get", "a read of a task, beside a bare Describe of its workflow", get},
		{"finish", "from the end of a tool to those who wait for it, beside the bare Temporal SDK", finish},
		{"list", "pages of the list of tasks, with few and with many stored", list},
		{"in-memory", "tasks beside those of servers that only have them in memory, each server on one core", inMemory},
		{"open", "10,000 open tasks, 1,000 of them watched: what they take of api, worker and Temporal", openTasks},
		{"growth", "a task where 1,000, 10,000 and 100,000 are stored; to store them takes a quarter of an hour", growth},
	}
}

// roles are what the processes of a measurement do.
func roles() map[string]func(context.Context, *role) error {
	return map[string]func(context.Context, *role) error{
		roleBare:       runBare,
		roleLonghaul:   runLonghaul,
		roleProgram:    runProgram,
		roleLoad:       runLoad,
		roleDescribe:   runDescribe,
		roleBareWaiter: runBareWaiter,
		roleWaiter:     runWaiter,
		roleOwner:      runOwner,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if name := os.Getenv(roleEnv); name != "" {
		if err := playRole(ctx, name); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %s\n", name, err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	file := flags.String("json", "", "`file` for the figures, as a list of {name, value, unit, target, met}")
	which := flags.String("run", "", "make only the comparisons whose names match this `regexp`")
	short := flags.Bool("short", false, "fewer and shorter rounds: to try whether it works, not for figures")
	logs := flags.String("logs", "", "`directory` for what the processes log (default: a temporary one, kept if a comparison fails)")
	profiles := flags.String("profile", "", "`directory` for CPU profiles of all processes")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "Compares Longhaul with others, side by side.\n\nComparisons:\n")
		for _, c := range comparisons() {
			fmt.Fprintf(flags.Output(), "  %-14s %s\n", c.name, c.about)
		}
		fmt.Fprint(flags.Output(), "\nFlags:\n")
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // It exits on errors.
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; -run chooses comparisons", flags.Arg(0))
	}
	chosen, err := regexp.Compile(*which)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	made := slices.DeleteFunc(comparisons(), func(c comparison) bool { return !chosen.MatchString(c.name) })
	if len(made) == 0 {
		return fmt.Errorf("no comparison matches %q", *which)
	}
	tools, err := newTools(ctx, *logs, *profiles)
	if err != nil {
		return err
	}
	defer tools.close()

	var all figures
	for _, c := range made {
		fmt.Printf("\n%s: %s\n", c.name, c.about)
		begun := time.Now()
		s := &stage{tools: tools, name: c.name, short: *short}
		err := c.run(ctx, s)
		s.close()
		if err != nil {
			return fmt.Errorf("%s: %w (logs: %s)", c.name, err, tools.logs)
		}
		s.figures.print(os.Stdout)
		fmt.Printf("(%.0f s)\n", time.Since(begun).Seconds())
		all = append(all, s.figures...)
	}
	if *logs == "" {
		_ = os.RemoveAll(tools.logs)
	}
	all.summarize(os.Stdout)
	if *file == "" {
		return nil
	}
	encoded, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*file, append(encoded, '\n'), 0o644)
}
