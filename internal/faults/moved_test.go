package faults_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// Two api processes and two workers serve one client that is moved to the other
// api at every request. Nothing routes it.
func TestMovedClient(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	for _, wire := range wires {
		t.Run(wire, func(t *testing.T) {
			w := w.in(t)
			c, label := w.connect(wire).moving(), t.Name()
			t.Run("lists the tools", func(t *testing.T) {
				w := w.of(t)
				var lists []string
				for range w.APIs {
					raw, err := c.of(w).do("tools/list", object{}, nil)
					w.must(err)
					lists = append(lists, string(raw))
				}
				if len(slices.Compact(lists)) != 1 {
					t.Errorf("the lists differ: %s", lists)
				}
			})
			for _, tool := range []string{"plain__ask", "held__ask", "workflow__ask"} {
				t.Run("answers "+tool, func(t *testing.T) {
					w, label := w.of(t), label+tool
					c := c.of(w)
					id := c.created(tool, object{"label": label, "questions": 2})
					c.answerEach(id, 2)
					c.wantResult(id, label, "to q1", "to q2")
					w.wantAnswers(label, "to q1", "to q2")
				})
			}
			t.Run("reads a task as it was created", func(t *testing.T) {
				w, label := w.of(t), label+" read"
				c := c.of(w)
				id := c.created("plain__once", object{"label": label, "ms": 1000})
				for range w.APIs {
					if s, err := c.get(id); err != nil || s.Status != "working" {
						t.Errorf("the task is %+v, error %v", s, err)
					}
				}
				for range w.APIs {
					c.wantResult(id, label)
				}
			})
			t.Run("cancels", func(t *testing.T) {
				w := w.of(t)
				c := c.of(w)
				id := c.created("plain__slow", object{"label": label, "ms": 120_000})
				_, err := c.do("tasks/cancel", object{"taskId": id}, nil)
				w.must(err)
				for range w.APIs {
					c.await(id, "is cancelled", func(s state) bool { return s.Status == "cancelled" })
				}
			})
			t.Run("creates once", func(t *testing.T) {
				w, label := w.of(t), label+" once"
				c := c.of(w)
				arguments := object{"label": label, "questions": 1}
				var ids []string
				for range w.APIs {
					h, err := c.create(label, "held__once", arguments)
					w.must(err)
					ids = append(ids, h.id)
				}
				if len(slices.Compact(ids)) != 1 {
					t.Fatalf("there are the tasks %v", ids)
				}
				for range w.APIs {
					_, err := c.create(label, "held__once", object{"label": label})
					wantError(t, err, codeInvalidParams, "already used for a different call")
				}
				c.awaitAsks(ids[0])
				w.must(c.answer(ids[0], "yes"))
				c.wantResult(ids[0], label, "yes")
				w.wantEffects(effects.Happened, label, 1)
			})
		})
	}
	t.Run("a held call of 2025 is answered and cancelled elsewhere", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025).moving(), t.Name()
		x, err := c.call(w.ctx, "", "held__once", object{"label": label, "questions": 2})
		w.must(err)
		for _, value := range []string{"one", "two"} {
			m, err := x.asked()
			w.must(err)
			w.must(c.respond(m, value))
			c.at() // the next is for the other one, again
		}
		w.wantCall(x.response())(label, "one", "two")
		w.wantEffects(effects.Happened, label, 1)

		x, err = c.call(w.ctx, "", "plain__slow", object{"label": label, "ms": 120_000})
		w.must(err)
		w.awaitEffect(effects.Began, label)
		w.must(c.cancelCall(c.lastID.Load()))
		_, err = x.response()
		wantError(t, err, codeInternal, "cancelled")
	})
	t.Run("a held call of 2026 goes from one to the other by its requestState", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2026).moving(), t.Name()
		params := object{"name": "held__ask", "arguments": object{"label": label, "questions": 3}}
		for n := 0; ; n++ {
			raw, err := c.plain().do("tools/call", params, nil)
			w.must(err)
			var r struct {
				ResultType    string
				RequestState  string
				InputRequests map[string]any
			}
			w.must(json.Unmarshal(raw, &r))
			if r.ResultType == "complete" {
				w.wantCall(raw, nil)(label, "a0", "a1", "a2")
				break
			}
			params["requestState"] = r.RequestState
			answers := object{}
			for key := range r.InputRequests {
				answers[key] = accepted(fmt.Sprint("a", n))
			}
			params["inputResponses"] = answers
		}
		w.wantAnswers(label, "a0", "a1", "a2")
		w.wantEffects(effects.Began, label, 1)
	})
	t.Run("the pages of a list come from either", func(t *testing.T) {
		w := w.in(t)
		c, modern := w.connect(wire2025).moving(), w.connect(wire2026).moving()
		made := map[string]bool{}
		const more = 70 // than a page
		for n := range more {
			from := c
			if n%2 == 0 {
				from = modern
			}
			made[from.created("plain__ask", object{"label": t.Name(), "questions": 1})] = true
		}
		w.poll("all tasks are listed", func() bool {
			ids, err := c.listed()
			listed := 0
			for id := range made {
				if slices.Contains(ids, id) {
					listed++
				}
			}
			return err == nil && listed == more
		})
	})
}

// answerEach answers n questions, each with what it is an answer to.
func (c *client) answerEach(id string, n int) {
	c.w.t.Helper()
	answered := map[string]bool{}
	for range n {
		if c.wire == wire2025 {
			// A stream for each question. None asks what has been answered.
			x, err := c.send(c.w.ctx, "tasks/result", object{"taskId": id}, nil)
			c.w.must(err)
			m, err := x.asked()
			c.w.must(err)
			var question struct{ Message string }
			c.w.must(json.Unmarshal(m.Params, &question))
			if answered[question.Message] {
				c.w.t.Errorf("%s is asked again", question.Message)
			}
			answered[question.Message] = true
			c.w.must(c.respond(m, "to "+question.Message))
			c.w.must(x.body.Close())
			continue
		}
		var key, question string
		c.await(id, "asks something new", func(s state) bool {
			for k, in := range s.InputRequests {
				if !answered[k] {
					key, question = k, in.Params.Message
				}
			}
			return key != ""
		})
		answered[key] = true
		c.w.must(c.update(id, key, "to "+question))
	}
}
