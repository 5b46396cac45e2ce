package faults_test

import (
	"errors"
	"testing"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/task"
)

// With no workers at all everything works but the tools, and what was done
// meanwhile counts when a worker returns.
func TestNoWorkers(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	type asking struct{ wire, tool, label, id string }
	var asked []*asking
	c2026 := w.connect(wire2026)
	for _, wire := range wires {
		for _, tool := range []string{"plain__ask", "held__ask", "workflow__ask"} {
			a := &asking{wire: wire, tool: tool, label: tool + " on " + wire}
			a.id = w.connect(wire).created(tool, object{"label": a.label, "questions": 1})
			c2026.awaitAsks(a.id)
			asked = append(asked, a)
		}
	}
	for _, p := range w.Workers {
		p.Kill()
	}

	type ended struct{ wire, label, id string }
	var created, cancelled []ended
	for _, wire := range wires {
		t.Run(wire, func(t *testing.T) {
			w := w.of(t)
			c := w.connect(wire).moving()
			t.Run("create, get and list", func(t *testing.T) {
				w, label := w.of(t), "created on "+wire
				c := c.of(w)
				h, err := c.create(label, "plain__once", object{"label": label})
				w.must(err)
				for range w.APIs {
					again, err := c.create(label, "plain__once", object{"label": label})
					if err != nil || again.id != h.id {
						t.Errorf("created again it is %+v, error %v, not %s", again, err, h.id)
					}
					if s, err := c.get(h.id); err != nil || s.Status != "working" {
						t.Errorf("the task is %+v, error %v", s, err)
					}
				}
				for _, p := range w.APIs {
					w.connect(wire2025).on(p).awaitListed(h.id)
				}
				created = append(created, ended{wire, label, h.id})
			})
			t.Run("cancel", func(t *testing.T) {
				w, label := w.of(t), "cancelled on "+wire
				c := c.of(w)
				id := c.created("plain__once", object{"label": label})
				_, err := c.do("tasks/cancel", object{"taskId": id}, nil)
				w.must(err)
				for range w.APIs {
					if s, err := c.get(id); err != nil || s.Status != "cancelled" {
						t.Errorf("the task is %+v, error %v", s, err)
					}
				}
				cancelled = append(cancelled, ended{wire, label, id})
			})
		})
	}
	for _, a := range asked {
		t.Run("answer "+a.label, func(t *testing.T) {
			w := w.of(t)
			c, other := w.connect(a.wire).moving(), c2026.of(w).moving()
			key, err := other.asks(a.id)
			w.must(err)
			w.must(c.answer(a.id, "first"))
			for range w.APIs {
				if s, err := other.get(a.id); err != nil || s.Status != "working" || len(s.InputRequests) > 0 {
					t.Errorf("the task has its answer, and is %+v, error %v", s, err)
				}
				w.must(other.update(a.id, key, "second"))
			}
		})
	}
	t.Run("delete", func(t *testing.T) {
		w := w.of(t)
		operator := w.operator()
		if err := operator.Delete(w.ctx, task.Ref{ID: created[0].id}); !errors.Is(err, task.ErrRunning) {
			t.Errorf("of a task that has not ended: %v", err)
		}
		id := w.connect(wire2025).created("plain__once", object{"label": t.Name()})
		_, err := w.connect(wire2025).do("tasks/cancel", object{"taskId": id}, nil)
		w.must(err)
		w.must(operator.Delete(w.ctx, task.Ref{ID: id}))
		for _, wire := range wires {
			for _, p := range w.APIs {
				c := w.connect(wire).on(p)
				w.poll("the task is gone", func() bool {
					_, err := c.get(id)
					if err != nil {
						wantError(t, err, codeInvalidParams, "not found")
					}
					return err != nil
				})
			}
		}
	})

	for _, p := range w.Workers {
		w.must(p.Start(w.ctx))
	}
	for _, e := range created {
		t.Run("what was "+e.label+" runs", func(t *testing.T) {
			w := w.of(t)
			w.connect(e.wire).wantResult(e.id, e.label)
			w.wantEffects(effects.Happened, e.label, 1)
		})
	}
	for _, a := range asked {
		t.Run("the answer to "+a.label+" is used once", func(t *testing.T) {
			w := w.of(t)
			w.connect(a.wire).wantResult(a.id, a.label, "first")
			w.wantAnswers(a.label, "first")
		})
	}
	for _, e := range cancelled {
		t.Run("what was "+e.label+" never runs", func(t *testing.T) {
			w := w.of(t)
			for _, wire := range wires {
				if s, err := w.connect(wire).get(e.id); err != nil || s.Status != "cancelled" {
					t.Errorf("the task is %+v, error %v", s, err)
				}
			}
			w.wantEffects(effects.Began, e.label, 0)
		})
	}
}

// operator is an engine beside the apis: no wire deletes tasks.
func (w *world) operator() *engine.Engine {
	w.t.Helper()
	temporal, err := w.Dial(w.ctx)
	w.must(err)
	w.t.Cleanup(temporal.Close)
	e, err := engine.New(engine.Options{Client: temporal, Key: make([]byte, 32)})
	w.must(err)
	w.t.Cleanup(e.Close)
	return e
}
