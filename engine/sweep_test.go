package engine_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

func (f *fixture) operator() *engine.Operator {
	f.t.Helper()
	o, err := engine.NewOperator(engine.OperatorOptions{Client: f.client, TaskQueue: f.queue, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

// ended creates a task and ends it.
func (f *fixture) ended(change ...func(*task.CreateRequest)) task.Ref {
	f.t.Helper()
	ref := f.create(change...)
	if err := f.client.TerminateWorkflow(f.t.Context(), ref.ID, "", "test"); err != nil {
		f.t.Fatal(err)
	}
	return ref
}

// awaitVisible waits until visibility shows that n workflows match.
func (f *fixture) awaitVisible(n int, query string) {
	f.t.Helper()
	eventually(f.t, query, func() bool {
		resp, err := f.client.ListWorkflow(f.t.Context(), listRequest(query))
		if err != nil {
			f.t.Fatal(err)
		}
		return len(resp.GetExecutions()) == n
	})
}

func (f *fixture) sweep(in task.SweepRange, from task.SweepBeat) task.SweepResult {
	f.t.Helper()
	var last task.SweepBeat
	result, err := f.operator().Sweep(f.t.Context(), in, from, func(at task.SweepBeat) { last = at })
	if err != nil {
		f.t.Fatal(err)
	}
	if last.Page != nil || last.Result != result {
		f.t.Errorf("the last beat is %+v, the result %+v", last, result)
	}
	return result
}

func isGone(t *testing.T, f *fixture, ref task.Ref) {
	t.Helper()
	other := setup(t) // has not deleted anything itself
	eventually(t, ref.ID+" is gone", func() bool {
		_, err := other.Get(t.Context(), ref)
		return errors.Is(err, task.ErrNotFound)
	})
	f.awaitVisible(0, `WorkflowId = "`+ref.ID+`"`)
}

func inTenMinutes(r *task.CreateRequest) { r.TTL = 10 * time.Minute }

func TestSweep(t *testing.T) {
	t.Run("deletes what ended and whose time was over, be it a task or a held call", func(t *testing.T) {
		f, elsewhere := setup(t), setup(t, func(o *engine.Options) { o.TaskQueue = "elsewhere" })
		due := []task.Ref{f.ended(inTenMinutes), f.ended(inTenMinutes, held("sweep-call"))}
		runs, later, other := f.create(inTenMinutes), f.ended(), elsewhere.ended(inTenMinutes)
		f.awaitVisible(3, `TaskQueue = "`+f.queue+`" AND ExecutionStatus = 'Terminated'`)

		in := task.SweepRange{ExpiredBefore: time.Now().Add(30 * time.Minute)}
		if got := f.sweep(in, task.SweepBeat{Result: task.SweepResult{Deleted: 3}}); got != (task.SweepResult{Deleted: 5}) {
			t.Errorf("%+v, want 2 more than 3", got)
		}
		for _, ref := range due {
			isGone(t, f, ref)
		}
		for _, ref := range []task.Ref{runs, later, other} {
			f.get(ref)
		}
	})

	t.Run("leaves what runs under the ID of a call that ended", func(t *testing.T) {
		f := setup(t)
		f.ended(inTenMinutes, held("call-again"))
		f.awaitVisible(1, `WorkflowId = "call-again" AND ExecutionStatus = 'Terminated'`)
		again := f.create(held("call-again"))
		if got := f.sweep(task.SweepRange{ExpiredBefore: time.Now().Add(30 * time.Minute)}, task.SweepBeat{}); got.Deleted != 1 {
			t.Errorf("%+v", got)
		}
		f.awaitVisible(1, `WorkflowId = "call-again"`)
		f.get(again)
	})

	t.Run("does not believe the clock of who created a task", func(t *testing.T) {
		f := setup(t, func(o *engine.Options) { o.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) } })
		ref := f.ended()
		f.awaitVisible(1, `TaskQueue = "`+f.queue+`" AND ExecutionStatus = 'Terminated'`)
		if got := f.sweep(task.SweepRange{ExpiredBefore: time.Now().Add(30 * time.Minute)}, task.SweepBeat{}); got.Deleted != 0 {
			t.Errorf("%+v", got)
		}
		f.get(ref)
		if got := f.sweep(task.SweepRange{ExpiredBefore: time.Now().Add(2 * time.Hour)}, task.SweepBeat{}); got.Deleted != 1 {
			t.Errorf("%+v", got)
		}
	})

	t.Run("is not kept from the others by one that cannot be read", func(t *testing.T) {
		f := setup(t)
		_, err := f.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			ID: f.queue, TaskQueue: f.queue,
			TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyTime(task.SearchExpiresAt).ValueSet(time.Now())),
		}, task.WorkflowTask)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.client.TerminateWorkflow(t.Context(), f.queue, "", "test"); err != nil {
			t.Fatal(err)
		}
		ref := f.ended(inTenMinutes)
		f.awaitVisible(2, `TaskQueue = "`+f.queue+`" AND ExecutionStatus = 'Terminated'`)
		if got := f.sweep(task.SweepRange{ExpiredBefore: time.Now().Add(time.Hour)}, task.SweepBeat{}); got != (task.SweepResult{Deleted: 1, Failed: 1}) {
			t.Errorf("%+v", got)
		}
		isGone(t, f, ref)
	})

	t.Run("deletes sweeps that ended long ago", func(t *testing.T) {
		f := setup(t)
		id := strings.ToLower(t.Name())
		if _, err := f.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: f.queue}, task.WorkflowSweep); err != nil {
			t.Fatal(err)
		}
		if err := f.client.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
			t.Fatal(err)
		}
		f.awaitVisible(1, `WorkflowId = "`+id+`" AND ExecutionStatus = 'Terminated'`)
		f.sweep(task.SweepRange{SweptBefore: time.Now().Add(-time.Hour)}, task.SweepBeat{})
		f.awaitVisible(1, `WorkflowId = "`+id+`"`)
		f.sweep(task.SweepRange{SweptBefore: time.Now().Add(time.Hour)}, task.SweepBeat{})
		f.awaitVisible(0, `WorkflowId = "`+id+`"`)
	})
}
