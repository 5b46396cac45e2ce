package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// clock is when things happen in records written by hand: at seconds.
func clock(second float64) time.Time {
	return time.Unix(1_000_000_000, 0).Add(time.Duration(second * float64(time.Second)))
}

// at makes an operation take the second from s on.
func at(s float64, o Op) Op {
	o.Begin, o.End = clock(s), clock(s+0.5)
	if o.Outcome == "" {
		o.Outcome = OK
	}
	if o.Wire == "" {
		o.Wire = Wire2026
	}
	o.Label = "l"
	return o
}

// kept is the record of one call that kept every promise: it asked one
// question, was answered twice, and had one effect.
func kept() *Record {
	const final = finalResult + `{"structuredContent":{"answers":["a1"],"label":"l"}}`
	return &Record{
		Calls: map[string]Call{"l": {Label: "l", Tool: "workflow__ask", Owner: "ada", Key: "k", Questions: 1}},
		Ops: []Op{
			at(0, Op{Kind: OpCreate, Outcome: Unknown}),
			at(1, Op{Kind: OpCreate, TaskID: "t", Status: "working"}),
			at(2, Op{Kind: OpCreate, Wire: Wire2025, TaskID: "t", Status: "working"}),
			at(3, Op{Kind: OpReuse, Outcome: Failed, Error: "-32602 Idempotency key was already used for a different call"}),
			at(4, Op{Kind: OpGet, TaskID: "t", Status: "input_required"}),
			at(5, Op{Kind: OpAnswer, TaskID: "t", Key: "ask-1", Question: "q1", Value: "a1"}),
			at(6, Op{Kind: OpAnswer, TaskID: "t", Key: "ask-1", Question: "q1", Value: "a2"}),
			at(7, Op{Kind: OpList, Wire: Wire2025, Owner: "ada", Listed: []string{"t"}}),
			at(7, Op{Kind: OpStranger, TaskID: "t", Foreign: "404", Nobodys: "404"}),
			at(8, Op{Kind: OpGet, TaskID: "t", Status: "completed", Final: final}),
			at(9, Op{Kind: OpGet, Wire: Wire2025, TaskID: "t", Status: "completed"}),
			at(10, Op{Kind: OpResult, Wire: Wire2025, TaskID: "t", Final: final}),
			at(11, Op{Kind: OpCancel, Wire: Wire2025, TaskID: "t", Outcome: Failed, Status: "completed", Error: "-32602 Cannot cancel task"}),
		},
		Effects: []effects.Effect{
			{Kind: effects.Answered, Label: "l", Question: "q1", Answer: "a1"},
			{Kind: effects.Committed, Label: "l", Key: "t/1"},
		},
		Histories: []History{{
			ID: "t", Type: "Task", Label: "l", Closed: "Completed", ClosedAt: clock(7), Events: 20,
			Answers: []RecordedAnswer{accepted("ask-1", "a1"), accepted("ask-1", "a2")},
		}},
	}
}

func accepted(key, value string) RecordedAnswer {
	return RecordedAnswer{Key: key, Answer: json.RawMessage(fmt.Sprintf(`{"action":"accept","content":{"value":%q}}`, value))}
}

func refused(key string) RecordedAnswer {
	return RecordedAnswer{Key: key, Answer: json.RawMessage(`{"action":"accept","content":{"value":7}}`), Refused: true}
}

// find returns the operation of a kind on a wire.
func (r *Record) find(t *testing.T, k Kind, wire string) *Op {
	t.Helper()
	i := slices.IndexFunc(r.Ops, func(o Op) bool { return o.Kind == k && o.Wire == wire && o.Outcome != Unknown })
	if i < 0 {
		t.Fatalf("there is no %s on %s", k, wire)
	}
	return &r.Ops[i]
}

// cancelled makes the call one that was cancelled, on 2025.
func (r *Record) cancelled() {
	r.Ops = []Op{
		at(1, Op{Kind: OpCreate, TaskID: "t", Status: "working"}),
		at(2, Op{Kind: OpCancel, Wire: Wire2025, TaskID: "t", Status: "cancelled"}),
		at(3, Op{Kind: OpGet, Wire: Wire2025, TaskID: "t", Status: "cancelled"}),
		at(3, Op{Kind: OpGet, TaskID: "t", Status: "cancelled", Final: finalCancelled}),
	}
	r.Effects, r.Histories[0].Closed, r.Histories[0].Cancels = nil, "Canceled", 1
}

func TestCheckKept(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"as it is":    func(*Record) {},
		"a cancelled": (*Record).cancelled,
		"an answer after refused ones": func(r *Record) {
			r.Ops = append(r.Ops, at(5, Op{Kind: OpAnswer, Key: "ask-1#2", Question: "q1", Value: "a3"}))
			r.Ops[5].Invalid = true
			r.Histories[0].Answers = []RecordedAnswer{refused("ask-1"), accepted("ask-1", "a2"), accepted("ask-1#2", "a3")}
			r.Effects[0].Answer = "a3"
		},
		"no answer after three refused ones": func(r *Record) {
			for _, key := range []string{"ask-1#2", "ask-1#3"} {
				r.Ops = append(r.Ops, at(5, Op{Kind: OpAnswer, Key: key, Question: "q1", Invalid: true}))
			}
			r.Ops[5].Invalid, r.Ops[6].Invalid = true, true
			r.Histories[0].Answers = []RecordedAnswer{refused("ask-1"), refused("ask-1#2"), refused("ask-1#3")}
			r.Effects[0].Answer = "CANCEL"
		},
		"an answer after the end": func(r *Record) {
			r.Ops = append(r.Ops, at(9, Op{Kind: OpAnswer, Key: "ask-1", Question: "q1", Value: "late"}))
		},
		"a read that began before the end": func(r *Record) {
			late := at(7, Op{Kind: OpGet, Status: "working"})
			late.End = clock(20)
			r.Ops = append(r.Ops, late)
		},
		"a result that says that it is an error": func(r *Record) {
			r.Calls["l"] = Call{Label: "l", Tool: "plain__refuse", Owner: "ada"}
			r.find(t, OpCancel, Wire2025).Status = "failed"
			r.Ops[10].Status = "failed"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := kept()
			change(r)
			for _, v := range check(r) {
				t.Error(v)
			}
		})
	}
}

func TestCheckBroken(t *testing.T) {
	type change = func(*testing.T, *Record)
	for promise, changes := range map[string]map[string]change{
		PromiseFound: {
			"a read does not find it": func(_ *testing.T, r *Record) {
				r.Ops = append(r.Ops, at(12, Op{Kind: OpGet, Outcome: Failed, Error: "-32602 Failed to retrieve task: Task not found"}))
			},
			"it has no workflow": func(_ *testing.T, r *Record) { r.Histories = nil },
		},
		PromiseResolves: {
			"its workflow runs": func(_ *testing.T, r *Record) { r.Histories[0].Closed = "" },
			"nobody reads its end": func(_ *testing.T, r *Record) {
				r.Ops = r.Ops[:5]
				r.Effects = nil
			},
		},
		PromiseOnce: {
			"two ids are acknowledged": func(_ *testing.T, r *Record) { r.Ops[2].TaskID = "other" },
			"there are two workflows": func(_ *testing.T, r *Record) {
				r.Histories = append(r.Histories, History{ID: "call-x", Type: "Call", Label: "l", Closed: "Completed"})
			},
		},
		PromiseKey: {
			"another call is taken under its key": func(t *testing.T, r *Record) {
				o := r.find(t, OpReuse, Wire2026)
				o.Outcome, o.Error = OK, ""
			},
		},
		PromiseTerminal: {
			"it changes": func(_ *testing.T, r *Record) {
				r.Ops = append(r.Ops, at(12, Op{Kind: OpGet, Status: "failed"}))
			},
			"it goes on": func(_ *testing.T, r *Record) {
				r.Ops = append(r.Ops, at(12, Op{Kind: OpGet, Status: "working"}))
			},
			"a refused cancel names another": func(t *testing.T, r *Record) { r.find(t, OpCancel, Wire2025).Status = "cancelled" },
			"the wires do not agree": func(t *testing.T, r *Record) {
				r.find(t, OpGet, Wire2025).Status = "failed"
				r.find(t, OpCancel, Wire2025).Status = "failed"
			},
		},
		PromiseResult: {
			"the wires do not agree": func(t *testing.T, r *Record) { r.find(t, OpResult, Wire2025).Final += " " },
			"it is an error once":    func(t *testing.T, r *Record) { r.find(t, OpResult, Wire2025).Final = "error -32603 lost" },
		},
		PromiseOwnResult: {
			"it is another call's": func(_ *testing.T, r *Record) {
				for i := range r.Ops {
					r.Ops[i].Final = strings.ReplaceAll(r.Ops[i].Final, `"l"`, `"x"`)
				}
				call := r.Calls["l"]
				delete(r.Calls, "l")
				call.Label = "long"
				r.Calls["long"] = call
				for i := range r.Ops {
					r.Ops[i].Label = "long"
				}
				r.Effects[0].Label, r.Effects[1].Label, r.Histories[0].Label = "long", "long", "long"
			},
		},
		PromiseCancelled: {
			"it completes after all": func(_ *testing.T, r *Record) {
				r.cancelled()
				r.Ops[2].Status = "completed"
			},
			"it goes on": func(_ *testing.T, r *Record) {
				r.cancelled()
				r.Ops[2].Status = "working"
			},
			"the reply says something else": func(_ *testing.T, r *Record) {
				r.cancelled()
				r.Ops[1].Status, r.Ops[2].Status = "working", "working"
			},
		},
		PromiseUncalled: {
			"nobody has cancelled": func(_ *testing.T, r *Record) {
				r.cancelled()
				r.Ops = slices.Delete(r.Ops, 1, 2)
			},
		},
		PromiseTaken: {
			"the signal is in the history": func(_ *testing.T, r *Record) { r.Histories[0].Cancels = 1 },
		},
		PromiseAnswer: {
			"the tool saw the second":    func(_ *testing.T, r *Record) { r.Effects[0].Answer = "a2" },
			"the tool saw another":       func(_ *testing.T, r *Record) { r.Effects[0].Answer = "x" },
			"the tool saw a refused one": func(_ *testing.T, r *Record) { r.Histories[0].Answers[0].Refused = true },
			"the tool saw two": func(_ *testing.T, r *Record) {
				again := r.Effects[0]
				again.Answer = "a2"
				r.Effects = append(r.Effects, again)
			},
		},
		PromiseRecorded: {
			"an acknowledged answer is in no signal": func(_ *testing.T, r *Record) {
				r.Histories[0].Answers = r.Histories[0].Answers[:1]
			},
		},
		PromiseAtMostOnce: {
			"it happened twice": func(_ *testing.T, r *Record) {
				f := effects.Effect{Kind: effects.Happened, Label: "l"}
				r.Effects = append(r.Effects, f, f)
			},
		},
		PromiseCommitted: {
			"twice": func(_ *testing.T, r *Record) {
				r.Effects = append(r.Effects, effects.Effect{Kind: effects.Committed, Label: "l", Key: "t/2"})
			},
			"never": func(_ *testing.T, r *Record) { r.Effects = r.Effects[:1] },
		},
		PromiseRan: {
			"it was not": func(_ *testing.T, r *Record) { r.Effects = nil },
		},
		PromiseStranger: {
			"it is listed for somebody else": func(_ *testing.T, r *Record) {
				r.Ops = append(r.Ops, at(12, Op{Kind: OpList, Wire: Wire2025, Owner: "grace", Listed: []string{"t"}}))
			},
			"the replies differ": func(t *testing.T, r *Record) { r.find(t, OpStranger, Wire2026).Foreign += " " },
		},
		PromiseHistory: {
			"a workflow task failed": func(_ *testing.T, r *Record) { r.Histories[0].Failures = []string{"NonDeterministicError"} },
			"a log says so":          func(_ *testing.T, r *Record) { r.Logs = []string{"worker-1: [TMPRL1100]"} },
		},
		PromiseHandlers: {
			"one has not": func(_ *testing.T, r *Record) { r.Histories[0].Unfinished = 1 },
		},
		PromiseForeseen: {
			"one is not": func(_ *testing.T, r *Record) {
				r.Ops = append(r.Ops, at(12, Op{Kind: OpList, Outcome: Failed, Error: "-32603 Internal error"}))
			},
		},
		PromiseLeaks: {
			"one has not": func(_ *testing.T, r *Record) { r.Leaks = []string{"api-1 has 1000 goroutines"} },
		},
	} {
		for name, change := range changes {
			t.Run(promise+", but "+name, func(t *testing.T) {
				r := kept()
				change(t, r)
				violations := check(r)
				if !slices.ContainsFunc(violations, func(v Violation) bool { return v.Promise == promise }) {
					t.Errorf("found were %v", violations)
				}
			})
		}
	}
}
