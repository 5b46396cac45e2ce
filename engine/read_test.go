package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// A task that is not the caller's looks like none at all (2025-11-25, tasks,
// "Task Isolation and Access Control").
func TestForeignTasksAreUnknown(t *testing.T) {
	f := setup(t)
	mine := f.create()
	ctx := t.Context()
	watch := func(ref task.Ref) error {
		for _, err := range f.Watch(ctx, ref, task.WatchOptions{}) {
			return err
		}
		return nil
	}
	_, err := f.client.ExecuteWorkflow(ctx, startOptions("not-a-task", f.queue), "SomethingElse")
	if err != nil {
		t.Fatal(err)
	}
	unknown := map[string]task.Ref{
		"unknown":        {ID: "nothing", Owner: owner},
		"foreign":        {ID: mine.ID, Owner: "bob"},
		"anonymous":      {ID: mine.ID},
		"held":           {ID: mine.ID, Owner: owner, Held: true},
		"not a task":     {ID: "not-a-task", Owner: owner},
		"empty":          {Owner: owner},
		"too long":       {ID: strings.Repeat("x", 5000), Owner: owner},
		"no valid UTF-8": {ID: "\xff\xfe", Owner: owner},
		"strange":        {ID: "' OR 1=1 --\x00", Owner: owner},
	}
	for name, ref := range unknown {
		for method, call := range map[string]func() error{
			"Get":           func() error { _, err := f.Get(ctx, ref); return err },
			"GetOutcome":    func() error { _, err := f.GetOutcome(ctx, ref); return err },
			"Watch":         func() error { return watch(ref) },
			"Answer":        func() error { return f.Answer(ctx, ref, answers("k")) },
			"Cancel":        func() error { _, err := f.Cancel(ctx, ref, ""); return err },
			"RequestCancel": func() error { return f.RequestCancel(ctx, ref, "") },
			"Delete":        func() error { return f.Delete(ctx, ref) },
		} {
			err := call()
			if !errors.Is(err, task.ErrNotFound) || err.Error() != task.ErrNotFound.Error() {
				t.Errorf("%s of %s: got %v", method, name, err)
			}
		}
	}
	if got := f.get(mine); got.Status != task.StatusWorking {
		t.Errorf("strangers made it %s", got.Status)
	}
}

func TestGetWithoutWorker(t *testing.T) {
	t.Run("answers from the memo", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		for range 20 {
			if got := f.get(ref); got.Status != task.StatusWorking || got.Rev != 1 {
				t.Fatalf("got %+v", got)
			}
		}
	})

	t.Run("keeps signals for the worker to come", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		if err := f.client.SignalWorkflow(t.Context(), ref.ID, "", task.SignalCancel, task.CancelSignal{Reason: "changed my mind"}); err != nil {
			t.Fatal(err)
		}
		if got := f.get(ref); got.Status != task.StatusWorking {
			t.Fatalf("got %+v", got)
		}
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
			t.Error("a round was run")
			return done("no"), nil
		})
		if got := f.await(ref, terminal); got.Status != task.StatusCancelled || !strings.Contains(got.StatusMessage, "changed my mind") {
			t.Errorf("got %+v", got)
		}
	})
}

// A read after an acknowledged answer sees what the answer did, although it
// is the worker that does it, and although other answers arrive meanwhile.
func TestGetIsStrong(t *testing.T) {
	f := setup(t)
	f.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
		if in.Round > 30 {
			return done("ok"), nil
		}
		return ask("a", "b", "c"), nil
	})
	ref := f.create()
	now := f.await(ref, inputRequired)
	for now.Status == task.StatusInputRequired {
		before := now.Rev
		var answered sync.WaitGroup
		for _, in := range now.Inputs {
			answered.Go(func() {
				if err := f.Answer(t.Context(), ref, answers(in.Key)); err != nil {
					t.Error(err)
					return
				}
				got, err := f.Get(t.Context(), ref)
				if err != nil {
					t.Error(err)
					return
				}
				if got.Rev <= before {
					t.Errorf("an answer took the revision from %d to %d", before, got.Rev)
				}
				for _, still := range got.Inputs {
					if still.Key == in.Key {
						t.Errorf("%s was answered and is still asked", in.Key)
					}
				}
			})
		}
		answered.Wait()
		if t.Failed() {
			return
		}
		now = f.await(ref, func(n *task.Task) bool { return n.Status != task.StatusWorking })
	}
	if now.Status != task.StatusCompleted {
		t.Errorf("got %+v", now)
	}
}

func TestGetShowsProgressOfTheRound(t *testing.T) {
	f := setup(t)
	release := make(chan struct{})
	f.work(func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
		activity.RecordHeartbeat(ctx, task.Heartbeat{Progress: &task.Progress{Progress: 3, Total: 4, Message: "nearly"}})
		<-release
		return done("ok"), nil
	})
	ref := f.create()
	f.await(ref, func(n *task.Task) bool { return n.Progress != nil })
	got := f.get(ref)
	if got.Progress == nil || *got.Progress != (task.Progress{Progress: 3, Total: 4, Message: "nearly"}) {
		t.Errorf("got %+v", got.Progress)
	}
	close(release)
	if got := f.await(ref, terminal); got.Progress != nil {
		t.Errorf("an ended task shows progress %+v", got.Progress)
	}
}

func TestOutcomes(t *testing.T) {
	f := setup(t)
	f.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
		switch in.Tool {
		case "error":
			return task.RoundResult{Error: &task.RPCError{Code: -32042, Message: "no", Data: json.RawMessage(`{"x":[1]}`)}}, nil
		case "isError":
			r := done("bad")
			r.IsError = true
			return r, nil
		case "unknown":
			return task.RoundResult{Unknown: "The connection broke."}, nil
		default:
			return done("good"), nil
		}
	})
	tests := map[string]struct {
		status task.Status
		closed enumspb.WorkflowExecutionStatus
		full   task.Outcome
	}{
		"result": {task.StatusCompleted, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			task.Outcome{Kind: task.OutcomeResult, Result: done("good").Result}},
		"isError": {task.StatusCompleted, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			task.Outcome{Kind: task.OutcomeResult, Result: done("bad").Result, IsError: true}},
		"error": {task.StatusFailed, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
			task.Outcome{Kind: task.OutcomeError, Message: "no", Error: &task.RPCError{Code: -32042, Message: "no", Data: json.RawMessage(`{"x":[1]}`)}}},
		"unknown": {task.StatusFailed, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
			task.Outcome{Kind: task.OutcomeUnknown, Message: "The connection broke."}},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			ref := f.create(func(r *task.CreateRequest) { r.Tool = name })
			ended := f.await(ref, terminal)
			got, err := f.GetOutcome(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != want.status || asJSON(got.Outcome) != asJSON(want.full) {
				t.Errorf("got %s with %s", got.Status, asJSON(got.Outcome))
			}
			head := f.get(ref)
			if asJSON(head.Outcome) != asJSON(want.full.Head()) || head.Rev != ended.Rev {
				t.Errorf("Get says %+v", head)
			}
			f.awaitClosed(ref)
			if status := f.executionStatus(ref); status != want.closed {
				t.Errorf("the workflow is %s", status)
			}
		})
	}
}

// A workflow that somebody ends in Temporal had no chance to write its state.
func TestWorkflowsEndedFromOutside(t *testing.T) {
	t.Run("terminated is cancelled", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		if err := f.client.TerminateWorkflow(t.Context(), ref.ID, "", "by hand"); err != nil {
			t.Fatal(err)
		}
		f.checkEnded(ref, task.StatusCancelled, task.OutcomeCancelled)
	})
	t.Run("canceled before any worker came is cancelled", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		if err := f.client.CancelWorkflow(t.Context(), ref.ID, ""); err != nil {
			t.Fatal(err)
		}
		f.work(askOnce)
		f.await(ref, terminal)
		f.checkEnded(ref, task.StatusCancelled, task.OutcomeCancelled)
	})
	t.Run("timed out is expired", func(t *testing.T) {
		f := setup(t)
		ref := f.start(time.Second)
		f.awaitClosed(ref)
		f.checkEnded(ref, task.StatusFailed, task.OutcomeExpired)
	})
	t.Run("failed without a word is unknown", func(t *testing.T) {
		f := setup(t)
		w := worker.New(f.client, f.queue, worker.Options{})
		w.RegisterWorkflowWithOptions(func(workflow.Context) error { return errors.New("a bug") },
			workflow.RegisterOptions{Name: task.WorkflowTask})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		ref := f.create()
		f.await(ref, terminal)
		f.checkEnded(ref, task.StatusFailed, task.OutcomeUnknown)
	})
	t.Run("completed without a word in the memo is a success", func(t *testing.T) {
		f := setup(t)
		w := worker.New(f.client, f.queue, worker.Options{})
		w.RegisterWorkflowWithOptions(func(workflow.Context, task.StartInput) (*task.Outcome, error) {
			return task.ResultOutcome(json.RawMessage(`{"content":[]}`), false), nil
		}, workflow.RegisterOptions{Name: task.WorkflowTask})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		ref := f.create()
		f.await(ref, terminal)
		f.checkEnded(ref, task.StatusCompleted, task.OutcomeResult)
		d, err := f.client.DescribeWorkflowExecution(t.Context(), ref.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := f.get(ref); !got.UpdatedAt.Equal(d.GetWorkflowExecutionInfo().GetCloseTime().AsTime()) {
			t.Errorf("got %+v, want it as of %v", got, d.GetWorkflowExecutionInfo().GetCloseTime().AsTime())
		}
	})
}

// An outcome may be final some time before its workflow closes.
func TestOutcomeBeforeTheWorkflowCloses(t *testing.T) {
	beforeQuery := func() {}
	f := setup(t, func(o *engine.Options) { o.Client = hookedClient{o.Client, func() { beforeQuery() }} })
	want := task.ResultOutcome(json.RawMessage(`{"content":[]}`), false)
	w := worker.New(f.client, f.queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in task.StartInput) (*task.Outcome, error) {
		m := task.NewMachine(in.Card.CreatedAt)
		m.Decide(workflow.Now(ctx), want)
		if err := workflow.UpsertMemo(ctx, map[string]any{task.MemoState: m.State}); err != nil {
			return nil, err
		}
		err := workflow.SetQueryHandler(ctx, task.QueryResult, func() (*task.Outcome, error) { return m.Outcome, nil })
		if err != nil {
			return nil, err
		}
		workflow.GetSignalChannel(ctx, "close").Receive(ctx, nil)
		return m.Outcome, nil
	}, workflow.RegisterOptions{Name: task.WorkflowTask})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ref := f.create()
	f.await(ref, terminal)
	check := func() {
		t.Helper()
		got, err := f.GetOutcome(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if asJSON(got.Outcome) != asJSON(want) {
			t.Errorf("got %s", asJSON(got.Outcome))
		}
	}
	check()
	beforeQuery = func() { // it was open when its close event was looked for
		if err := f.client.SignalWorkflow(t.Context(), ref.ID, "", "close", nil); err != nil {
			t.Fatal(err)
		}
		f.awaitClosed(ref)
	}
	check()
	check()
}

// hookedClient calls a function before each query.
type hookedClient struct {
	client.Client
	beforeQuery func()
}

func (c hookedClient) QueryWorkflowWithOptions(ctx context.Context, r *client.QueryWorkflowWithOptionsRequest) (*client.QueryWorkflowWithOptionsResponse, error) {
	c.beforeQuery()
	return c.Client.QueryWorkflowWithOptions(ctx, r)
}

// checkEnded checks that every way to read the task agrees on how it ended.
func (f *fixture) checkEnded(ref task.Ref, status task.Status, kind task.OutcomeKind) {
	f.t.Helper()
	ctx := f.t.Context()
	got, err := f.GetOutcome(ctx, ref)
	if err != nil {
		f.t.Fatal(err)
	}
	if got.Status != status || got.Outcome == nil || got.Outcome.Kind != kind || got.Rev < 2 {
		f.t.Errorf("GetOutcome: %+v with %+v", got, got.Outcome)
	}
	if again := f.get(ref); again.Status != status || again.Rev != got.Rev || again.Outcome.Kind != kind {
		f.t.Errorf("Get: %+v with %+v", again, again.Outcome)
	}
	n := 0
	// A process that has only just created the task may first show it as it was then.
	for now, err := range setup(f.t).Watch(ctx, ref, task.WatchOptions{}) {
		if n++; err != nil || now.Status != status {
			f.t.Errorf("Watch: %+v, %v", now, err)
		}
	}
	if n != 1 {
		f.t.Errorf("a watch of an ended task yields %d states", n)
	}
	wantError(f.t, f.Answer(ctx, ref, answers("k")), task.ErrTerminal)
	if now, err := f.Cancel(ctx, ref, ""); !errors.Is(err, task.ErrTerminal) || now == nil || now.Status != status {
		f.t.Errorf("Cancel: %+v, %v", now, err)
	}
	if err := f.RequestCancel(ctx, ref, ""); err != nil {
		f.t.Errorf("RequestCancel: %v", err)
	}
	eventually(f.t, "the list says so", func() bool {
		page, err := f.List(ctx, task.ListRequest{Owner: ref.Owner, PageSize: 1000})
		if err != nil {
			f.t.Fatal(err)
		}
		listed := find(page.Tasks, ref.ID)
		return listed != nil && listed.Status == status && listed.Outcome.Kind == kind
	})
}

func TestExpiry(t *testing.T) {
	var now time.Time
	f := setup(t, func(o *engine.Options) {
		o.Grace = time.Minute
		o.Now = func() time.Time { return now }
	})
	f.work(askOnce)
	now = time.Now()
	ref := f.create(withKey(t.Name()))
	f.await(ref, inputRequired)
	if _, err := f.Cancel(t.Context(), ref, ""); err != nil {
		t.Fatal(err)
	}
	f.awaitClosed(ref)

	now = now.Add(time.Hour + 30*time.Second)
	if got := f.get(ref); got.Status != task.StatusCancelled {
		t.Errorf("within the grace: %+v", got)
	}

	now = now.Add(time.Minute)
	_, err := f.Get(t.Context(), ref)
	wantError(t, err, task.ErrExpired)
	_, err = f.Create(t.Context(), request(withKey(t.Name())))
	wantError(t, err, task.ErrExpired)
	_, err = f.Get(t.Context(), task.Ref{ID: ref.ID, Owner: "bob"})
	wantError(t, err, task.ErrNotFound)
	eventually(t, "the list leaves it out", func() bool { return f.listed(ref) == nil })
}

// listed is a task in its owner's list, or nil.
func (f *fixture) listed(ref task.Ref) *task.Task {
	f.t.Helper()
	page, err := f.List(f.t.Context(), task.ListRequest{Owner: ref.Owner, PageSize: 1000})
	if err != nil {
		f.t.Fatal(err)
	}
	return find(page.Tasks, ref.ID)
}

// What runs is there, whatever this process's clock says, and whatever that of
// the process said which created it.
func TestClockThatJumps(t *testing.T) {
	for name, jump := range map[string]struct{ created, read time.Duration }{
		"ahead since the creation":  {0, 24 * time.Hour},
		"behind since the creation": {0, -24 * time.Hour},
		"ahead at the creation":     {24 * time.Hour, 0},
		"behind at the creation":    {-24 * time.Hour, 0},
	} {
		t.Run("a day "+name, func(t *testing.T) {
			at := func(jump time.Duration) func(*engine.Options) {
				return func(o *engine.Options) { o.Now = func() time.Time { return time.Now().Add(jump) } }
			}
			creator := setup(t, at(jump.created))
			f := setup(t, at(jump.read))
			ref := creator.create(func(r *task.CreateRequest) { r.Owner = task.Owner(t.Name()) })
			if got := f.get(ref); got.Status != task.StatusWorking {
				t.Errorf("with no worker: %+v", got)
			}
			eventually(t, "it is listed", func() bool { return f.listed(ref) != nil })

			f.work(askOnce)
			asks := f.await(ref, inputRequired)
			if err := f.Answer(t.Context(), ref, answers(asks.Inputs[0].Key)); err != nil {
				t.Fatal(err)
			}
			if got := creator.await(ref, terminal); got.Status != task.StatusCompleted {
				t.Errorf("answered: %+v", got)
			}

			cancelled := creator.create(func(r *task.CreateRequest) { r.Owner = ref.Owner })
			f.await(cancelled, inputRequired)
			if got, err := f.Cancel(t.Context(), cancelled, ""); err != nil || got.Status != task.StatusCancelled {
				t.Errorf("cancelled: %+v, %v", got, err)
			}
		})
	}

	t.Run("a task's time is over when Temporal says so", func(t *testing.T) {
		f := setup(t, func(o *engine.Options) { o.Now = func() time.Time { return time.Now().Add(24 * time.Hour) } })
		f.work(askOnce)
		ref := f.create(func(r *task.CreateRequest) { r.TTL = 300 * time.Millisecond })
		if got := f.await(ref, terminal); got.Outcome.Kind != task.OutcomeExpired {
			t.Errorf("%+v", got)
		}
	})
}

func TestTemporalAway(t *testing.T) {
	l := newLink(t)
	ref := setup(t).create()
	f := setupAt(t, l.addr())
	if err := f.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.cut()
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Ready": func() error { return f.Ready(ctx) },
		"Get":   func() error { _, err := f.Get(ctx, ref); return err },
		"List":  func() error { _, err := f.List(ctx, task.ListRequest{Owner: owner}); return err },
		"Watch": func() error {
			for _, err := range f.Watch(ctx, ref, task.WatchOptions{}) {
				return err
			}
			return nil
		},
		"Create": func() error { _, err := f.Create(ctx, request()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := call()
			wantError(t, err, task.ErrUnavailable)
			if errors.Is(err, task.ErrNotFound) {
				t.Errorf("looks like an unknown task: %v", err)
			}
		})
	}
	l.mend()
	eventually(t, "Temporal is back", func() bool { return f.Ready(ctx) == nil })
	f.get(ref)
}

func TestReadyWantsTheNamespace(t *testing.T) {
	f := setup(t, func(o *engine.Options) { o.Namespace = "no-such-namespace" })
	wantError(t, f.Ready(t.Context()), task.ErrUnavailable)
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(b)
}

func find(tasks []*task.Task, id string) *task.Task {
	for _, t := range tasks {
		if t.ID == id {
			return t
		}
	}
	return nil
}
