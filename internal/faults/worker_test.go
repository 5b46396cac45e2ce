package faults_test

import (
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// workerFault is one way to lose a worker.
type workerFault struct {
	name string
	tool string
	// millis is how long the tool takes, questions how much it asks.
	millis, questions int

	label string
	id    string
	check func(w *world, f *workerFault, c *client)
}

// A worker is killed, and another one goes on.
//
// Temporal gives up a dead worker's rounds when they have been silent for a
// minute. So all the faults come first, on the one worker there is, and what
// became of them is looked at when the other one has it.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	killed, other := w.Workers[0], w.Workers[1]
	w.must(other.Terminate(w.ctx))
	c := w.connect(wire2025)

	midRound := []*workerFault{
		{name: "mid round, of a tool that may be run again: it runs again elsewhere", tool: "plain__commit", millis: 10_000,
			check: func(w *world, f *workerFault, c *client) {
				c.wantResult(f.id, f.label)
				w.wantRuns(f.label, killed, other)
				w.wantEffects(effects.Committed, f.label, 1)
			}},
		{name: "mid round, of a tool that may not: it has run once, and the task fails with an unknown outcome", tool: "plain__once", millis: 120_000,
			check: func(w *world, f *workerFault, c *client) {
				c.wantUnknown(f.id)
				w.wantRuns(f.label, killed)
				w.wantEffects(effects.Happened, f.label, 0)
			}},
	}
	afterEffect := []*workerFault{
		{name: "after the effect and before it is recorded, of a tool that may be run again: one effect under one key", tool: "plain__commit",
			check: func(w *world, f *workerFault, c *client) {
				c.wantResult(f.id, f.label)
				w.wantRuns(f.label, killed, other)
				w.wantEffects(effects.Committed, f.label, 1)
			}},
		{name: "after the effect and before it is recorded, of a tool that may not: one effect, and the task fails with an unknown outcome", tool: "plain__once",
			check: func(w *world, f *workerFault, c *client) {
				c.wantUnknown(f.id)
				w.wantRuns(f.label, killed)
				w.wantEffects(effects.Happened, f.label, 1)
			}},
	}
	asking := []*workerFault{
		{name: "with an answer on its way to the tool: nobody is asked again, and the tool has the same answer", tool: "held__ask", questions: 1,
			check: func(w *world, f *workerFault, c *client) {
				c.wantResult(f.id, f.label, "yes")
				w.wantRuns(f.label, killed, other)
				w.wantAnswers(f.label, "yes")
			}},
	}
	draining := []*workerFault{
		{name: "while draining, of a tool that may be run again: it runs again elsewhere", tool: "plain__commit", millis: 10_000,
			check: func(w *world, f *workerFault, c *client) {
				c.wantResult(f.id, f.label)
				w.wantRuns(f.label, killed, other)
				w.wantEffects(effects.Committed, f.label, 1)
			}},
		{name: "while draining, of a tool that may not: it has run once, and the task fails with an unknown outcome", tool: "plain__once", millis: 120_000,
			check: func(w *world, f *workerFault, c *client) {
				c.wantUnknown(f.id)
				w.wantRuns(f.label, killed)
				w.wantEffects(effects.Happened, f.label, 0)
			}},
	}
	begin := func(faults ...*workerFault) {
		t.Helper()
		for _, f := range faults {
			f.label = f.name
			f.id = c.created(f.tool, object{"label": f.label, "ms": f.millis, "questions": f.questions})
		}
		for _, f := range faults {
			w.awaitEffect(effects.Began, f.label)
		}
	}

	ended, taken := w.arm("round-ended"), w.arm("answer-taken")
	begin(afterEffect...)
	for range afterEffect {
		w.hit(ended)
	}
	begin(asking...)
	for _, f := range asking {
		w.must(c.answer(f.id, "yes"))
		w.hit(taken)
	}
	begin(midRound...)
	killed.Kill()
	ended.Disarm()
	taken.Disarm()

	w.must(killed.Start(w.ctx))
	drains := w.arm("worker-drains")
	begin(draining...)
	terminated := make(chan error, 1)
	go func() { terminated <- killed.Terminate(w.ctx) }()
	for range draining {
		w.hit(drains)
	}
	killed.Kill()
	drains.Disarm()
	if err := <-terminated; err == nil {
		t.Error("a worker has drained that was killed before it could")
	}

	w.must(other.Start(w.ctx))
	for _, group := range [][]*workerFault{midRound, afterEffect, asking, draining} {
		for _, f := range group {
			t.Run(f.name, func(t *testing.T) {
				w := w.of(t)
				for _, wire := range wires {
					f.check(w, f, w.connect(wire))
				}
			})
		}
	}
}

// wantRuns checks on which processes a tool was called, and that every call had
// the same idempotency key.
func (w *world) wantRuns(label string, on ...*cluster.Process) {
	w.t.Helper()
	runs := w.effects(effects.Began, label)
	if len(runs) != len(on) {
		w.t.Errorf("the tool was called %d times, not %d: %+v", len(runs), len(on), runs)
		return
	}
	for i, p := range on {
		if runs[i].Process != p.Name || runs[i].Key == "" || runs[i].Key != runs[0].Key {
			w.t.Errorf("call %d of the tool is %+v, not on %s under the key of the first", i+1, runs[i], p.Name)
		}
	}
}
