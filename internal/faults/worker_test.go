package faults_test

import (
	"slices"
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
	// effects are how many there are in the end, if the tool may not be run
	// again, and answers what it has seen.
	effects int
	answers []string

	label string
	id    string
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

	afterEffect := []*workerFault{
		{name: "after the effect and before it is recorded: one effect, under one key", tool: "plain__commit"},
		{name: "after the effect and before it is recorded, and may not run again: one effect, outcome unknown", tool: "plain__once", effects: 1},
	}
	answered := []*workerFault{
		{name: "with an answer on its way to the tool: the tool has it, and nobody is asked again", tool: "held__ask", questions: 1, answers: []string{"yes"}},
	}
	midRound := []*workerFault{
		{name: "mid round: runs again elsewhere", tool: "plain__commit", millis: 10_000},
		{name: "mid round, and may not run again: has run once, outcome unknown", tool: "plain__once", millis: 120_000},
	}
	draining := []*workerFault{
		{name: "while draining: runs again elsewhere", tool: "plain__commit", millis: 10_000},
		{name: "while draining, and may not run again: has run once, outcome unknown", tool: "plain__once", millis: 120_000},
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
	begin(answered...)
	for _, f := range answered {
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
	for _, f := range slices.Concat(afterEffect, answered, midRound, draining) {
		t.Run(f.name, func(t *testing.T) {
			w := w.of(t)
			for _, wire := range wires {
				if f.tool == "plain__once" {
					w.connect(wire).wantUnknown(f.id)
				} else {
					w.connect(wire).wantResult(f.id, f.label, f.answers...)
				}
			}
			switch f.tool {
			case "plain__once":
				w.wantRuns(f.label, killed)
				w.wantEffects(effects.Happened, f.label, f.effects)
			case "plain__commit":
				w.wantRuns(f.label, killed, other)
				w.wantEffects(effects.Committed, f.label, 1)
			default:
				w.wantRuns(f.label, killed, other)
				w.wantAnswers(f.label, f.answers...)
			}
		})
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
