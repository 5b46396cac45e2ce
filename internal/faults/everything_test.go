package faults_test

import (
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// All processes are killed at once, Temporal among them. What they had
// acknowledged is there when they are back, on the addresses they had.
func TestEverythingKilled(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	label := func(name string) string { return t.Name() + " " + name }
	both := map[string]*client{}
	for _, wire := range wires {
		both[wire] = w.connect(wire)
	}
	c, modern := both[wire2025], both[wire2026]
	create := func(name, tool string, arguments object) string {
		t.Helper()
		arguments["label"] = label(name)
		h, err := c.create(label(name), tool, arguments)
		w.must(err)
		return h.id
	}
	ended := create("ended", "plain__once", object{})
	c.wantResult(ended, label("ended"))
	cancelled := create("cancelled", "plain__slow", object{"ms": 120_000})
	_, err := c.do("tasks/cancel", object{"taskId": cancelled}, nil)
	w.must(err)
	waiting := create("waiting", "plain__ask", object{"questions": 1})
	workflow := create("workflow", "workflow__ask", object{"questions": 1})
	held := create("held", "held__ask", object{"questions": 1})
	keys := map[string]string{}
	for _, id := range []string{waiting, workflow, held} {
		modern.awaitAsks(id)
		keys[id], err = modern.asks(id)
		w.must(err)
	}
	once := create("once", "plain__once", object{"ms": 120_000})
	w.awaitEffect(effects.Began, label("once"))
	round := w.arm("round-ended")
	again := create("again", "plain__commit", object{})
	w.hit(round)

	w.Temporal.Kill()
	for _, p := range w.Processes() {
		p.Kill()
	}
	round.Disarm()
	w.must(w.Temporal.Start(w.ctx))
	for _, p := range w.Processes() {
		w.must(p.Start(w.ctx))
	}

	c = c.on(w.APIs[1]) // the session is that of the other process before
	same := func(w *world, id string) {
		w.t.Helper()
		key, err := (modern.of(w)).asks(id)
		if err != nil || key != keys[id] {
			w.t.Errorf("the task asks %q, error %v, and has asked %q", key, err, keys[id])
		}
	}
	t.Run("a result is the same", func(t *testing.T) {
		w := w.of(t)
		for _, c := range both {
			c.of(w).wantResult(ended, label("ended"))
		}
		w.wantEffects(effects.Happened, label("ended"), 1)
	})
	t.Run("a cancelled task is cancelled", func(t *testing.T) {
		for _, c := range both {
			if s, err := c.of(w.of(t)).get(cancelled); err != nil || s.Status != "cancelled" {
				t.Errorf("the task is %+v, error %v", s, err)
			}
		}
	})
	t.Run("a key finds its task", func(t *testing.T) {
		h, err := c.of(w.of(t)).create(label("once"), "plain__once", object{"label": label("once"), "ms": 120_000})
		if err != nil || h.id != once {
			t.Errorf("the task is %+v, error %v, not %s", h, err, once)
		}
	})
	for id, name := range map[string]string{waiting: "waiting", workflow: "workflow", held: "held"} {
		t.Run("a task that asks: "+name, func(t *testing.T) {
			w := w.of(t)
			same(w, id)
			w.must(c.of(w).answer(id, "yes"))
			c.of(w).wantResult(id, label(name), "yes") // and is not asked again
			w.wantAnswers(label(name), "yes")
		})
	}
	t.Run("a running tool that may be run again", func(t *testing.T) {
		w := w.of(t)
		c.of(w).wantResult(again, label("again"))
		w.wantEffects(effects.Began, label("again"), 2)
		w.wantEffects(effects.Committed, label("again"), 1)
	})
	t.Run("a running tool that may not", func(t *testing.T) {
		w := w.of(t)
		c.of(w).wantUnknown(once)
		w.wantEffects(effects.Began, label("once"), 1)
	})
}
