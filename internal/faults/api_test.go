package faults_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// An api process is killed, and the client goes to the other one.
func TestAPIKilled(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	t.Run("between the start of a workflow and the reply", func(t *testing.T) { killedBeforeReply(t, w) })
	t.Run("mid tasks/result", func(t *testing.T) { killedMidResult(t, w) })
	t.Run("mid stream", func(t *testing.T) { killedMidStream(t, w) })
}

func killedBeforeReply(t *testing.T, w *world) {
	// losing makes a call of the first api, which is killed when it has started
	// the workflow.
	losing := func(w *world, call func(on *cluster.Process) error) {
		w.t.Helper()
		started := w.arm("task-started")
		lost := make(chan error, 1)
		go func() { lost <- call(w.APIs[0]) }()
		if victim := w.killAt(started); victim != w.APIs[0] {
			w.t.Fatalf("it was %s that started the workflow", victim.Name)
		}
		if err := <-lost; err == nil {
			w.t.Fatal("a killed api has replied")
		}
	}
	for _, wire := range wires {
		t.Run(wire+", with an idempotency key: the same task is found", func(t *testing.T) {
			w := w.in(t)
			c, label := w.connect(wire), t.Name()
			create := func(on *cluster.Process) (handle, error) {
				return c.on(on).create(label, "held__once", object{"label": label, "questions": 1})
			}
			losing(w, func(on *cluster.Process) error { _, err := create(on); return err })
			first := taskID(w.awaitEffect(effects.Happened, label))
			w.must(w.APIs[0].Start(w.ctx))
			for _, p := range w.APIs {
				if h, err := create(p); err != nil || h.id != first {
					t.Errorf("%s has task %q, error %v, not task %s", p.Name, h.id, err, first)
				}
			}
			c = c.on(w.APIs[1])
			c.awaitAsks(first)
			w.must(c.answer(first, "yes"))
			c.wantResult(first, label, "yes")
			w.wantEffects(effects.Happened, label, 1)
		})
		t.Run(wire+", without a key: the task is listed and runs to its end", func(t *testing.T) {
			w := w.in(t)
			c, label := w.connect(wire), t.Name()
			losing(w, func(on *cluster.Process) error {
				_, err := c.on(on).create("", "plain__once", object{"label": label})
				return err
			})
			id := taskID(w.awaitEffect(effects.Happened, label))
			w.must(w.APIs[0].Start(w.ctx))
			w.connect(wire2025).on(w.APIs[1]).awaitListed(id)
			c.on(w.APIs[1]).wantResult(id, label)
			w.wantEffects(effects.Happened, label, 1)
		})
		t.Run(wire+", of a held call with a key: its result is found", func(t *testing.T) {
			w := w.in(t)
			c, label := w.connect(wire), t.Name()
			call := func(on *cluster.Process) (json.RawMessage, error) {
				x, err := c.on(on).call(w.ctx, label, "plain__once", object{"label": label})
				if err != nil {
					return nil, err
				}
				return x.response()
			}
			losing(w, func(on *cluster.Process) error { _, err := call(on); return err })
			w.wantCall(call(w.APIs[1]))(label)
			w.wantEffects(effects.Happened, label, 1)
		})
	}
}

// wantCall checks the result of a held call.
func (w *world) wantCall(raw json.RawMessage, err error) func(label string, answers ...string) {
	w.t.Helper()
	w.must(err)
	d, err := doneOf(raw)
	w.must(err)
	return func(label string, answers ...string) {
		w.t.Helper()
		w.wantDone(d, label, answers...)
	}
}

func killedMidResult(t *testing.T, w *world) {
	t.Run("the other api has the same result", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		id := c.created("held__once", object{"label": label, "questions": 1})
		waits := w.arm("result-waits")
		lost := make(chan error, 1)
		go func() {
			_, err := c.on(w.APIs[0]).result(id)
			lost <- err
		}()
		w.killAt(waits)
		if err := <-lost; err == nil {
			t.Fatal("a killed api has replied")
		}
		w.must(c.on(w.APIs[1]).answer(id, "yes"))
		c.on(w.APIs[1]).wantResult(id, label, "yes")
		w.must(w.APIs[0].Start(w.ctx))
		// "exactly what the underlying request would have returned", every time
		// (2025-11-25, tasks, "Result Retrieval").
		var results [2]json.RawMessage
		for i, p := range w.APIs {
			var err error
			results[i], err = c.on(p).do("tasks/result", object{"taskId": id}, nil)
			w.must(err)
		}
		if !bytes.Equal(results[0], results[1]) {
			t.Errorf("the results differ:\n%s\n%s", results[0], results[1])
		}
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("what it has asked is answered to the other api", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		id := c.created("held__once", object{"label": label, "questions": 1})
		x, err := c.on(w.APIs[0]).send(w.ctx, "tasks/result", object{"taskId": id}, nil)
		w.must(err)
		m, err := x.asked()
		w.must(err)
		w.APIs[0].Kill()
		if _, err := x.response(); err == nil {
			t.Fatal("a killed api has replied")
		}
		w.must(c.on(w.APIs[1]).respond(m, "yes"))
		c.on(w.APIs[1]).wantResult(id, label, "yes") // and is not asked again
		w.wantAnswers(label, "yes")
	})
	t.Run("what it was about to ask is asked by the other api", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		id := c.created("held__once", object{"label": label, "questions": 1})
		c.awaitAsks(id)
		unsent := w.arm("event-unsent")
		lost := make(chan error, 1)
		go func() { lost <- c.on(w.APIs[0]).answer(id, "nobody's") }()
		w.killAt(unsent)
		if err := <-lost; err == nil {
			t.Fatal("a killed api has asked")
		}
		w.must(c.on(w.APIs[1]).answer(id, "yes"))
		c.on(w.APIs[1]).wantResult(id, label, "yes")
		w.wantAnswers(label, "yes")
	})
}

func killedMidStream(t *testing.T, w *world) {
	// breaks makes a held call on the first api, which is killed at the
	// failpoint.
	breaks := func(w *world, failpoint string, call func(on *cluster.Process) (*exchange, error)) {
		w.t.Helper()
		point := w.arm(failpoint)
		broken := make(chan error, 1)
		go func() {
			x, err := call(w.APIs[0])
			if err == nil {
				_, err = x.response()
			}
			broken <- err
		}()
		w.killAt(point)
		if err := <-broken; err == nil {
			w.t.Fatal("a killed api has replied")
		}
	}
	t.Run("a plain call of 2025 survives", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		breaks(w, "result-waits", func(on *cluster.Process) (*exchange, error) {
			return c.on(on).call(w.ctx, "", "plain__once", object{"label": label, "ms": 1000})
		})
		w.wantCompleted(taskID(w.awaitEffect(effects.Happened, label)))
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("a plain call of 2025 with a key is found by the other api", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		call := func(on *cluster.Process) (*exchange, error) {
			return c.on(on).call(w.ctx, label, "plain__once", object{"label": label, "ms": 1000})
		}
		breaks(w, "result-waits", call)
		x, err := call(w.APIs[1])
		w.must(err)
		w.wantCall(x.response())(label)
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("what a plain call of 2025 was about to ask is asked by the other api", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		call := func(on *cluster.Process) (*exchange, error) {
			return c.on(on).call(w.ctx, label, "held__once", object{"label": label, "questions": 1})
		}
		breaks(w, "event-unsent", call)
		x, err := call(w.APIs[1])
		w.must(err)
		m, err := x.asked()
		w.must(err)
		w.must(c.on(w.APIs[1]).respond(m, "yes"))
		w.wantCall(x.response())(label, "yes")
		w.wantEffects(effects.Happened, label, 1)
		w.wantAnswers(label, "yes")
	})
	t.Run("a call of 2026 with a key is found by the other api", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2026), t.Name()
		ended := w.arm("round-ended")
		call := func(on *cluster.Process) (*exchange, error) {
			return c.on(on).call(w.ctx, label, "plain__once", object{"label": label})
		}
		broken := make(chan error, 1)
		go func() {
			x, err := call(w.APIs[0])
			if err == nil {
				_, err = x.response()
			}
			broken <- err
		}()
		hit := w.hit(ended)
		w.APIs[0].Kill()
		if err := <-broken; err == nil {
			t.Fatal("a killed api has replied")
		}
		hit.Go()
		ended.Disarm()
		x, err := call(w.APIs[1])
		w.must(err)
		w.wantCall(x.response())(label)
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("a session opens its GET stream on the other api", func(t *testing.T) {
		w := w.in(t)
		c := w.connect(wire2025)
		open := func(on *cluster.Process) *exchange {
			t.Helper()
			x, err := c.on(on).listen(w.ctx)
			w.must(err)
			return x
		}
		x := open(w.APIs[0])
		w.APIs[0].Kill()
		if m, err := x.next(); err == nil {
			t.Errorf("a killed api has sent %+v", m)
		}
		defer open(w.APIs[1]).body.Close()
		w.must(w.APIs[0].Start(w.ctx))
		defer open(w.APIs[0]).body.Close()
	})
	t.Run("a subscription of 2026 goes on, on the other api, with what became of the task", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2026), t.Name()
		id := c.created("held__once", object{"label": label, "questions": 1})
		c.awaitAsks(id)
		x := c.on(w.APIs[0]).subscribe(id)
		x.awaitStatus(w, "input_required")
		w.APIs[0].Kill()
		if m, err := x.next(); err == nil {
			t.Errorf("a killed api has sent %+v", m)
		}
		c = c.on(w.APIs[1])
		x = c.subscribe(id)
		defer x.body.Close()
		x.awaitStatus(w, "input_required")
		w.must(c.answer(id, "yes"))
		x.awaitStatus(w, "completed")
	})
}
