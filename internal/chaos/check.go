package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// Violation is a promise that was not kept.
type Violation struct {
	// Promise is the one that was not.
	Promise string
	Label   string
	TaskID  string
	Detail  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: call %s, task %s: %s", v.Promise, cmp.Or(v.Label, "-"), cmp.Or(v.TaskID, "-"), v.Detail)
}

// The promises.
const (
	PromiseFound      = "an acknowledged task is found"
	PromiseResolves   = "an acknowledged task resolves"
	PromiseOnce       = "one call is one task"
	PromiseKey        = "an idempotency key is for one call"
	PromiseTerminal   = "a terminal status never changes"
	PromiseResult     = "a result is identical in every read, on both wires"
	PromiseOwnResult  = "a result is that of its own call"
	PromiseCancelled  = "an acknowledged cancel of 2025 reads cancelled for ever"
	PromiseUncalled   = "nothing is cancelled that nobody cancels"
	PromiseTaken      = "a cancel that comes before the end is taken in"
	PromiseAnswer     = "the tool sees the first acceptable answer, and no other"
	PromiseRecorded   = "an acknowledged answer is recorded"
	PromiseAtMostOnce = "a tool that may not be run twice has its effect at most once"
	PromiseCommitted  = "an idempotent tool that ended has one committed effect"
	PromiseRan        = "a tool that ended was called"
	PromiseStranger   = "to a stranger a task is as unknown as one that is not there"
	PromiseHistory    = "workflow code is deterministic and does not panic"
	PromiseHandlers   = "update handlers return before the workflow ends"
	PromiseForeseen   = "every error is foreseen"
	PromiseLeaks      = "goroutines and descriptors return to their baseline"
)

// check proves the promises from the record of a run, or says what breaks them.
// It is a pure function: all that is observed is in the record.
func check(r *Record) []Violation {
	c := checker{calls: make(map[string]*evidence)}
	c.sort(r)
	for _, label := range c.labels {
		c.call(c.calls[label])
	}
	owners := make(map[string]string) // by task
	for _, e := range c.calls {
		for _, id := range e.ids {
			owners[id] = e.Owner
		}
	}
	for _, o := range r.Ops {
		c.op(o)
		for _, id := range o.Listed {
			if owner, known := owners[id]; known && owner != o.Owner {
				c.violated(PromiseStranger, "", id, "it is %s's, and listed for %s", owner, o.Owner)
			}
		}
	}
	for _, line := range r.Logs {
		c.violated(PromiseHistory, "", "", "%s", line)
	}
	for _, leak := range r.Leaks {
		c.violated(PromiseLeaks, "", "", "%s", leak)
	}
	return c.violations
}

type checker struct {
	calls      map[string]*evidence
	labels     []string
	violations []Violation
}

// evidence is all that is known of one call.
type evidence struct {
	Call
	ids       []string // acknowledged, each once
	ops       []Op
	effects   []effects.Effect
	histories []History
}

func (c *checker) violated(promise, label, id, format string, args ...any) {
	c.violations = append(c.violations, Violation{promise, label, id, fmt.Sprintf(format, args...)})
}

func (c *checker) of(label string) *evidence {
	e := c.calls[label]
	if e == nil {
		e = &evidence{Call: Call{Label: label}}
		c.calls[label] = e
		c.labels = append(c.labels, label)
	}
	return e
}

// sort puts what belongs to a call together.
func (c *checker) sort(r *Record) {
	for _, call := range r.Calls {
		c.of(call.Label).Call = call
	}
	for _, o := range r.Ops {
		if o.Label == "" {
			continue
		}
		e := c.of(o.Label)
		e.ops = append(e.ops, o)
		if o.Kind == OpCreate && o.Outcome == OK && o.TaskID != "" && !slices.Contains(e.ids, o.TaskID) {
			e.ids = append(e.ids, o.TaskID)
		}
	}
	for _, f := range r.Effects {
		e := c.of(f.Label)
		e.effects = append(e.effects, f)
	}
	for _, h := range r.Histories {
		e := c.of(h.Label)
		e.histories = append(e.histories, h)
	}
	slices.Sort(c.labels)
}

// op checks what an operation says by itself.
func (c *checker) op(o Op) {
	switch {
	case o.Outcome == Failed && strings.Contains(o.Error, "Internal error"):
		c.violated(PromiseForeseen, o.Label, o.TaskID, "%s on %s: %s", o.Kind, o.Wire, o.Error)
	case o.Kind == OpStranger && o.Outcome == OK && o.Foreign != o.Nobodys:
		c.violated(PromiseStranger, o.Label, o.TaskID, "on %s: %q is not %q", o.Wire, o.Foreign, o.Nobodys)
	case o.Kind == OpReuse && o.Outcome == OK:
		c.violated(PromiseKey, o.Label, o.TaskID, "a key that was used for this call was taken for another")
	}
}

// call checks a call.
func (c *checker) call(e *evidence) {
	id := ""
	if len(e.ids) > 0 {
		id = e.ids[0]
	}
	violated := func(promise, format string, args ...any) { c.violated(promise, e.Label, id, format, args...) }

	if len(e.ids) > 1 {
		violated(PromiseOnce, "it was acknowledged as the tasks %q", e.ids)
	}
	if len(e.histories) > 1 {
		violated(PromiseOnce, "there are %d workflows of it: %s", len(e.histories), ids(e.histories))
	}
	if id != "" && len(e.histories) == 0 {
		violated(PromiseFound, "Temporal has no workflow of it")
	}
	for _, h := range e.histories {
		if h.Closed == "" {
			violated(PromiseResolves, "its workflow still runs, after %d events", h.Events)
		}
		if h.Closed != "" && h.Closed != "Terminated" && h.Unfinished > 0 {
			violated(PromiseHandlers, "workflow %s was closed as %s with %d updates that were accepted and not completed", h.ID, h.Closed, h.Unfinished)
		}
		for _, f := range h.Failures {
			violated(PromiseHistory, "workflow %s: %s", h.ID, f)
		}
		if h.Cancels > 0 && h.Closed == "Completed" {
			violated(PromiseTaken, "workflow %s has the signal in its history, and completed", h.ID)
		}
	}
	e.reads(violated)
	e.answers(violated)
	e.sideEffects(violated)
}

func ids(histories []History) string {
	var s []string
	for _, h := range histories {
		s = append(s, h.Type+" "+h.ID)
	}
	return strings.Join(s, ", ")
}

func terminal(status string) bool {
	return status == "completed" || status == "failed" || status == "cancelled"
}

type report func(promise, format string, args ...any)

// reads checks what clients were told of a task.
func (e *evidence) reads(violated report) {
	var (
		first        = map[string]*Op{} // with a terminal status, by wire
		final        *Op
		cancelled    *Op // by an acknowledged cancel of 2025
		cancels      bool
		resolvedRead bool
	)
	for i := range e.ops {
		o := &e.ops[i]
		if o.Kind == OpCancel {
			cancels = true
		}
		if o.Outcome == Failed && (o.Kind == OpGet || o.Kind == OpResult) && strings.Contains(o.Error, "not found") {
			violated(PromiseFound, "%s on %s at %s: %s", o.Kind, o.Wire, o.API, o.Error)
		}
		if terminal(o.Status) && (first[o.Wire] == nil || o.End.Before(first[o.Wire].End)) {
			first[o.Wire] = o
		}
		if o.Final != "" {
			resolvedRead = true
			if final != nil && final.Final != o.Final {
				violated(PromiseResult, "%s on %s said %s, but %s on %s %s", final.Kind, final.Wire, final.Final, o.Kind, o.Wire, o.Final)
			}
			final = o
		}
		if o.Kind == OpCancel && o.Wire == Wire2025 && o.Outcome == OK {
			cancelled = o
			if o.Status != "cancelled" {
				violated(PromiseCancelled, "the reply itself says %s", o.Status)
			}
		}
	}
	for i := range e.ops {
		o := &e.ops[i]
		was := first[o.Wire]
		if o.Status == "" || was == nil || o.Outcome != OK && !terminal(o.Status) {
			continue
		}
		if (terminal(o.Status) || o.Begin.After(was.End)) && o.Status != was.Status {
			promise := PromiseTerminal
			if cancelled != nil {
				promise = PromiseCancelled
			}
			violated(promise, "%s on %s said %s, and %s %s", was.Kind, was.Wire, was.Status, o.Kind, o.Status)
		}
	}
	if a, b := first[Wire2025], first[Wire2026]; a != nil && b != nil && !e.agree(a.Status, b.Status) {
		violated(PromiseTerminal, "it is %s on 2025 and %s on 2026", a.Status, b.Status)
	}
	if final != nil && final.Final == finalCancelled && !cancels {
		violated(PromiseUncalled, "it is cancelled")
	}
	if final != nil && strings.HasPrefix(final.Final, finalResult) && !strings.Contains(final.Final, e.Label+`"`) {
		violated(PromiseOwnResult, "%s", final.Final)
	}
	if len(e.ids) > 0 && !resolvedRead {
		violated(PromiseResolves, "no read has seen its end")
	}
}

// agree reports whether the statuses on the two wires mean the same. A result
// that says that it is an error has one of its own on each.
func (e *evidence) agree(on2025, on2026 string) bool {
	return on2025 == on2026 || e.Tool == "plain__refuse" && on2025 == "failed" && on2026 == "completed"
}

// answers checks what the tool saw against what was recorded, and that against
// what clients were told.
func (e *evidence) answers(violated report) {
	questions := make(map[string]string) // by key
	for _, o := range e.ops {
		if o.Kind == OpAnswer && o.Question != "" {
			questions[o.Key] = o.Question
		}
	}
	want := make(map[string]string)
	if len(e.histories) == 1 {
		h := e.histories[0]
		want = firstAcceptable(h.Answers, questions)
		for _, o := range e.ops {
			if o.Kind == OpAnswer && o.Outcome == OK && !o.Invalid && o.Question != "" &&
				(h.Closed == "" || o.End.Before(h.ClosedAt)) && !isRecorded(h.Answers, o) {
				violated(PromiseRecorded, "%q under %s, acknowledged by %s on %s", o.Value, o.Key, o.API, o.Wire)
			}
		}
	}
	for _, f := range e.effects {
		if f.Kind != effects.Answered {
			continue
		}
		if first, ok := want[f.Question]; !ok || f.Answer != first {
			violated(PromiseAnswer, "to %s the tool on %s saw %q, the first acceptable answer was %q", f.Question, f.Process, f.Answer, first)
		}
	}
}

// maxRefused is how many answers are refused before the tool gets none.
const maxRefused = 3

// firstAcceptable is what the tool is to see, by its name for what it asked.
func firstAcceptable(answers []RecordedAnswer, questions map[string]string) map[string]string {
	want := make(map[string]string)
	used := make(map[string]bool)
	refused := make(map[string]int)
	for _, a := range answers {
		question, known := questions[a.Key]
		if _, answered := want[question]; !known || used[a.Key] || answered {
			continue
		}
		used[a.Key] = true
		if !a.Refused {
			want[question] = seen(a.Answer)
		} else if refused[question]++; refused[question] == maxRefused {
			want[question] = "CANCEL"
		}
	}
	return want
}

// answerContent is an answer, as far as the tools look at it.
type answerContent struct {
	Action  string `json:"action"`
	Content struct {
		Value any `json:"value"`
	} `json:"content"`
}

// seen is an answer as the tools write it down.
func seen(raw json.RawMessage) string {
	var a answerContent
	if json.Unmarshal(raw, &a) != nil {
		return "not an answer"
	}
	if a.Action != "accept" {
		return strings.ToUpper(a.Action)
	}
	value, _ := a.Content.Value.(string)
	return value
}

func isRecorded(answers []RecordedAnswer, o Op) bool {
	return slices.ContainsFunc(answers, func(a RecordedAnswer) bool {
		return a.Key == o.Key && seen(a.Answer) == o.Value
	})
}

// sideEffects checks what the tool has left behind.
func (e *evidence) sideEffects(violated report) {
	count := map[effects.Kind]int{}
	for _, f := range e.effects {
		count[f.Kind]++
	}
	completed := false
	for _, o := range e.ops {
		completed = completed || strings.HasPrefix(o.Final, finalResult)
	}
	if n := count[effects.Happened]; n > 1 {
		violated(PromiseAtMostOnce, "it happened %d times: %+v", n, e.effects)
	}
	if n := count[effects.Committed]; n > 1 || n == 0 && completed && (e.Tool == "plain__commit" || e.Tool == "workflow__ask") {
		violated(PromiseCommitted, "it has %d: %+v", n, e.effects)
	}
	if completed && len(e.effects) == 0 && e.Tool != "" {
		violated(PromiseRan, "there is a result and no effect")
	}
}
