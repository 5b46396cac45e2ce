package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/overlay"
)

// Options are what a run is told.
type Options struct {
	Seed uint64
	// Duration is how long clients and nemesis work. With Tasks it bounds that.
	Duration time.Duration
	Clients  int
	// Tasks and Kills, if not 0, end the run: when so many tasks have been
	// acknowledged, and processes killed.
	Tasks, Kills int
	// Faults are what each nemesis draws from. Default: [processFaults] and
	// [linkFaults]; with Kills, these.
	Faults [][]Fault
	// Pause is the longest rest between two faults, Long the longest fault.
	Pause, Long time.Duration
	// Heartbeat, if not 0, takes the place of the product's heartbeat timeout: a
	// round whose worker was killed is given up so much later.
	Heartbeat time.Duration
	// Tools, if there are any, are what every other call is of.
	Tools []string
	// CutShort is how many of 100 things that clients do are to make a task and
	// cancel it as it ends.
	CutShort int
	// Patches break the product.
	Patches []overlay.Patch
	// Settle bounds the time that tasks have to end once all is healed.
	Settle time.Duration
	// Dir is for databases and logs.
	Dir string
	// Say tells how far the run is.
	Say func(format string, args ...any)
}

// Figures are what there was in a run.
type Figures struct {
	Seed     uint64
	Took     time.Duration
	Ops      map[Kind]map[Outcome]int
	Tasks    int // acknowledged
	Ended    map[string]int
	Flows    int // workflows, held calls among them
	Events   int
	Faults   map[Fault]int
	Restarts int
}

// run runs chaos and checks what came of it. The error is of the run itself.
func run(ctx context.Context, o Options) (*Figures, []Violation, error) {
	begin := time.Now()
	binaries := filepath.Join(o.Dir, "bin")
	if err := os.MkdirAll(binaries, 0o700); err != nil {
		return nil, nil, err
	}
	if o.Heartbeat > 0 {
		o.Patches = append(o.Patches[:len(o.Patches):len(o.Patches)], overlay.Patch{
			File: "workflows/task.go",
			Old:  "const HeartbeatTimeout = 60 * time.Second",
			New:  fmt.Sprintf("const HeartbeatTimeout = %d * time.Millisecond", o.Heartbeat.Milliseconds()),
		})
	}
	b, err := cluster.Build(ctx, binaries, o.Patches...)
	if err != nil {
		return nil, nil, err
	}
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tokens := map[string]string{"ada": "token-of-ada", "grace": "token-of-grace"}
	c, err := cluster.Start(starting, cluster.Options{
		Binaries: b, Dir: o.Dir, Tokens: tokens,
		// A round that waits for a person and may not be run twice would make every
		// orderly stop last.
		WorkerArgs: []string{"--stop-timeout", "5s"},
	})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	r := &runner{Options: o, cluster: c, work: &workload{
		cluster: c, owners: tokens, target: o.Tasks, tools: o.Tools, cutShort: o.CutShort, log: &ops{calls: make(map[string]Call)},
	}}
	if err := r.run(ctx); err != nil {
		return nil, nil, err
	}
	record, err := r.record(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := save(filepath.Join(o.Dir, "record.jsonl"), record); err != nil {
		return nil, nil, err
	}
	return r.figures(record, time.Since(begin)), check(record), nil
}

// runner is a run.
type runner struct {
	Options
	cluster *cluster.Cluster
	work    *workload
	clients []*client
	nemeses []*nemesis

	baseline map[string]size // by the kind of the process
	leaks    []string
}

func (r *runner) run(ctx context.Context) error {
	names := []string{"ada", "grace"}
	for n := range r.Clients {
		r.clients = append(r.clients, r.work.newClient(n, r.Seed, names))
	}
	if err := r.measure(ctx, r.clients[:2]); err != nil {
		return err
	}
	r.Say("%d clients begin", len(r.clients))
	if err := r.rage(ctx); err != nil {
		return err
	}
	if err := r.heal(); err != nil {
		return err
	}
	r.Say("all is healed; %d tasks were acknowledged, and settle", len(r.work.acknowledged()))
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.leaks = r.compare(ctx)
	return nil
}

// rage lets clients and nemesis loose.
func (r *runner) rage(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, r.Duration)
	defer stop()
	diary, err := os.Create(filepath.Join(r.Dir, "nemesis.log"))
	if err != nil {
		return err
	}
	defer diary.Close()
	faults := r.Faults
	switch {
	case r.Kills > 0:
		faults = [][]Fault{{FaultKill}}
	case faults == nil:
		faults = [][]Fault{processFaults, linkFaults}
	}
	var working sync.WaitGroup
	for _, c := range r.clients {
		working.Go(func() { c.work(ctx) })
	}
	errs := make([]error, len(faults))
	for i, own := range faults {
		n := &nemesis{
			cluster: r.cluster, rand: rand.New(rand.NewPCG(r.Seed, uint64(1+i)<<32)), faults: own,
			pause: r.Pause, long: r.Long, kills: r.Kills, diary: diary, done: make(map[Fault]int),
		}
		r.nemeses = append(r.nemeses, n)
		working.Go(func() {
			if errs[i] = n.rage(ctx); errs[i] != nil {
				stop()
			}
			if r.Kills > 0 {
				r.awaitFull(ctx)
				stop()
			}
		})
	}
	working.Wait()
	if err := errors.Join(errs...); err != nil || r.Kills == 0 {
		return err
	}
	if kills := r.nemeses[0].count(FaultKill); kills < r.Kills || !r.work.full() {
		return fmt.Errorf("time was over after %d tasks and %d kills", len(r.work.acknowledged()), kills)
	}
	return nil
}

// awaitFull waits until there are as many tasks as there are to be.
func (r *runner) awaitFull(ctx context.Context) {
	for ctx.Err() == nil && !r.work.full() {
		pause(ctx, 100*time.Millisecond)
	}
}

func (r *runner) heal() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := r.cluster.Heal()
	if err := errors.Join(err, r.cluster.Temporal.Start(ctx)); err != nil {
		return err
	}
	for _, p := range r.cluster.Processes() {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle brings every task to its end, and reads that everywhere.
func (r *runner) settle(ctx context.Context) error {
	settling, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	var working sync.WaitGroup
	for _, c := range r.clients {
		working.Go(func() { c.settle(settling) })
	}
	working.Wait()
	r.Say("the tasks have ended and been read")
	return r.endOrphans(ctx)
}

// settle ends what this client has begun.
func (c *client) settle(ctx context.Context) {
	for c.pending != nil && ctx.Err() == nil {
		c.create(ctx, *c.pending)
	}
	for c.retire(); len(c.open) > 0 && ctx.Err() == nil; c.retire() {
		for _, h := range c.open {
			c.answer(ctx, h)
		}
		pause(ctx, 200*time.Millisecond)
	}
	// What has not ended is read all the same: that is what is not promised.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalReads)
	defer cancel()
	for _, h := range append(c.finished, c.open...) {
		c.get(ctx, h, Wire2025)
		c.get(ctx, h, Wire2026)
		if h.hasEnded() {
			c.result(ctx, h, opTimeout)
		}
	}
}

// finalReads bounds the last reads of one client.
const finalReads = 5 * time.Minute

// endOrphans cancels, as an operator does, the workflows of calls that nobody
// was told of: their clients never heard, and wait for nothing.
func (r *runner) endOrphans(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	temporal, err := r.cluster.Dial(ctx)
	if err != nil {
		return err
	}
	defer temporal.Close()
	for cancelled := make(map[string]bool); ; {
		ids, err := workflowsOf(ctx, temporal, " AND ExecutionStatus = 'Running'")
		switch {
		case ctx.Err() != nil:
			return nil // the checker will see them
		case err != nil:
			return err
		case len(ids) == 0:
			return nil
		}
		for _, id := range ids {
			if !cancelled[id] {
				cancelled[id] = true
				// It may have ended meanwhile.
				_ = temporal.CancelWorkflow(ctx, id, "")
			}
		}
		pause(ctx, 500*time.Millisecond)
	}
}

// record collects all that is known.
func (r *runner) record(ctx context.Context) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	temporal, err := r.cluster.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer temporal.Close()
	ids, err := workflowsOf(ctx, temporal, "")
	if err != nil {
		return nil, err
	}
	r.Say("%d histories are read", len(ids))
	rec := &Record{Calls: r.work.log.calls, Ops: r.work.log.all, Leaks: r.leaks}
	if rec.Histories, err = readHistories(ctx, temporal, ids); err != nil {
		return nil, err
	}
	if rec.Effects, err = r.cluster.Effects.Read(); err != nil {
		return nil, err
	}
	for _, p := range r.cluster.Processes() {
		lines, err := suspicious(p.Log)
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			rec.Logs = append(rec.Logs, p.Name+": "+line)
		}
	}
	return rec, nil
}

// suspicions are what no process says that works as it should.
var suspicions = []string{"TMPRL1100", "TMPRL1102", "nondetermin", "panic", "unhandled signal", "deadlock"}

// maxSuspicious bounds the lines of one log.
const maxSuspicious = 20

func suspicious(log string) (lines []string, err error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 4<<20)
	for s.Scan() && len(lines) < maxSuspicious {
		for _, word := range suspicions {
			if strings.Contains(s.Text(), word) {
				lines = append(lines, s.Text())
				break
			}
		}
	}
	return lines, s.Err()
}

// save writes the record down for whoever has to find out.
func save(file string, r *Record) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for _, c := range r.Calls {
		err = errors.Join(err, e.Encode(map[string]any{"call": c}))
	}
	for _, o := range r.Ops {
		err = errors.Join(err, e.Encode(map[string]any{"op": o}))
	}
	for _, f := range r.Effects {
		err = errors.Join(err, e.Encode(map[string]any{"effect": f}))
	}
	for _, h := range r.Histories {
		err = errors.Join(err, e.Encode(map[string]any{"history": h}))
	}
	return errors.Join(err, w.Flush(), f.Close())
}

func (r *runner) figures(rec *Record, took time.Duration) *Figures {
	f := &Figures{
		Seed: r.Seed, Took: took, Tasks: len(r.work.acknowledged()), Flows: len(rec.Histories),
		Ops: make(map[Kind]map[Outcome]int), Ended: make(map[string]int), Faults: make(map[Fault]int),
	}
	for _, o := range rec.Ops {
		if f.Ops[o.Kind] == nil {
			f.Ops[o.Kind] = make(map[Outcome]int)
		}
		f.Ops[o.Kind][o.Outcome]++
	}
	for _, h := range rec.Histories {
		f.Ended[h.Closed]++
		f.Events += h.Events
	}
	for _, n := range r.nemeses {
		for fault, times := range n.done {
			f.Faults[fault] += times
		}
		f.Restarts += n.restarts
	}
	return f
}
