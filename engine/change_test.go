package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
)

func startOptions(id, queue string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: id, TaskQueue: queue}
}

func TestAnswer(t *testing.T) {
	f := setup(t)
	f.work(askOnce)
	ref := f.create()
	f.await(ref, inputRequired)
	ctx := t.Context()
	if err := f.Answer(ctx, ref, answers("no such key")); err != nil {
		t.Errorf("an unknown key: %v", err)
	}
	wantError(t, f.Answer(ctx, ref, map[string]json.RawMessage{
		"confirm": json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`),
	}), task.ErrTooLarge)
	if got := f.get(ref); got.Status != task.StatusInputRequired {
		t.Fatalf("got %+v", got)
	}
	if err := f.Answer(ctx, ref, answers("confirm")); err != nil {
		t.Fatal(err)
	}
	if got := f.await(ref, terminal); got.Status != task.StatusCompleted {
		t.Errorf("got %+v", got)
	}
	wantError(t, f.Answer(ctx, ref, answers("confirm")), task.ErrTerminal)
}

// The status is cancelled before Cancel returns, and stays it (2025-11-25,
// tasks, "Task Cancellation").
func TestCancel(t *testing.T) {
	t.Run("with no worker terminates", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		got, err := f.Cancel(t.Context(), ref, "no longer needed")
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != task.StatusCancelled || got.Outcome.Kind != task.OutcomeCancelled {
			t.Errorf("got %+v", got)
		}
		if status := f.executionStatus(ref); status != enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED {
			t.Errorf("the workflow is %s", status)
		}
		f.checkEnded(ref, task.StatusCancelled, task.OutcomeCancelled)
	})

	t.Run("only requested, with no worker terminates", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		if err := f.RequestCancel(t.Context(), ref, "no longer needed"); err != nil {
			t.Fatal(err)
		}
		f.checkEnded(ref, task.StatusCancelled, task.OutcomeCancelled)
	})

	t.Run("of a workflow that no worker can run terminates", func(t *testing.T) {
		f := setup(t)
		w := worker.New(f.client, f.queue, worker.Options{})
		w.RegisterWorkflowWithOptions(func(workflow.Context) error { panic("a bug") },
			workflow.RegisterOptions{Name: task.WorkflowTask})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		ref := f.create()
		if got := f.get(ref); got.Status != task.StatusWorking {
			t.Errorf("got %+v", got)
		}
		if got, err := f.Cancel(t.Context(), ref, ""); err != nil || got.Status != task.StatusCancelled {
			t.Errorf("got %+v, %v", got, err)
		}
	})

	t.Run("does not wait for the round to clean up", func(t *testing.T) {
		f := setup(t)
		running, cancelled, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
		f.work(func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
			close(running)
			select {
			case <-ctx.Done():
			case <-release:
			}
			close(cancelled)
			<-release
			return done("too late"), nil
		})
		ref := f.create()
		<-running
		got, err := f.Cancel(t.Context(), ref, "no longer needed")
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != task.StatusCancelled || !strings.Contains(got.StatusMessage, "no longer needed") {
			t.Errorf("got %+v", got)
		}
		if status := f.executionStatus(ref); status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			t.Errorf("the workflow is %s", status)
		}
		full, err := f.GetOutcome(t.Context(), ref)
		if err != nil || full.Outcome.Kind != task.OutcomeCancelled {
			t.Errorf("got %+v, %v", full, err)
		}
		wantError(t, f.Delete(t.Context(), ref), task.ErrRunning)
		close(release)
		f.awaitClosed(ref)
		if status := f.executionStatus(ref); status != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
			t.Errorf("the workflow is %s", status)
		}
		f.checkEnded(ref, task.StatusCancelled, task.OutcomeCancelled)
	})

	t.Run("while input is awaited, for however long a reason", func(t *testing.T) {
		f := setup(t)
		f.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		got, err := f.Cancel(t.Context(), ref, strings.Repeat("because ", 100_000))
		if err != nil || got.Status != task.StatusCancelled || len(got.Inputs) != 0 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// However a cancel and a completion meet, there is one outcome, and everybody
// who reads the task from then on sees that one.
func TestCancelMeetsCompletion(t *testing.T) {
	f := setup(t)
	release := make(chan chan struct{}, 1)
	f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
		go1 := make(chan struct{})
		release <- go1
		<-go1
		return done("ok"), nil
	})
	count := map[task.Status]int{}
	for range 60 {
		ref := f.create()
		finish := <-release
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			close(finish)
		}()
		got, err := f.Cancel(t.Context(), ref, "")
		<-finished
		if err != nil && !errors.Is(err, task.ErrTerminal) {
			t.Fatal(err)
		}
		if !got.Status.Terminal() {
			t.Fatalf("Cancel returned %+v", got)
		}
		count[got.Status]++
		for range 2 {
			later, err := f.GetOutcome(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if later.Status != got.Status || later.Rev != got.Rev || later.Outcome.Kind != got.Outcome.Kind {
				t.Fatalf("was %s at revision %d, is %s at %d", got.Status, got.Rev, later.Status, later.Rev)
			}
			f.awaitClosed(ref)
		}
	}
	t.Log(count)
}

func TestDelete(t *testing.T) {
	f := setup(t)
	f.work(askOnce)
	ref := f.create()
	f.await(ref, inputRequired)
	ctx := t.Context()
	wantError(t, f.Delete(ctx, ref), task.ErrRunning)
	if err := f.Answer(ctx, ref, answers("confirm")); err != nil {
		t.Fatal(err)
	}
	f.await(ref, terminal)
	f.awaitClosed(ref)
	if err := f.Delete(ctx, ref); err != nil {
		t.Fatal(err)
	}
	_, err := f.Get(ctx, ref)
	wantError(t, err, task.ErrNotFound)
	wantError(t, f.Delete(ctx, ref), task.ErrNotFound)
	page, err := f.List(ctx, task.ListRequest{Owner: owner, PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if find(page.Tasks, ref.ID) != nil {
		t.Error("a deleted task is listed")
	}
	other := setup(t)
	eventually(t, "nobody finds the task", func() bool {
		_, err := other.Get(ctx, ref)
		return errors.Is(err, task.ErrNotFound)
	})
}

func TestDeleteRemovesEveryRun(t *testing.T) {
	f := setup(t)
	f.work(askOnce)
	// Two runs under one ID, as continue-as-new leaves behind as well.
	for range 2 {
		ref := f.create(held("call-twice"))
		f.await(ref, inputRequired)
		if _, err := f.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		f.awaitClosed(ref)
	}
	runs := func() int {
		resp, err := f.client.ListWorkflow(t.Context(), listRequest(`WorkflowId = "call-twice"`))
		if err != nil {
			t.Fatal(err)
		}
		return len(resp.GetExecutions())
	}
	eventually(t, "both runs are visible", func() bool { return runs() == 2 })
	if err := f.Delete(t.Context(), task.Ref{ID: "call-twice", Owner: owner, Held: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both runs are gone", func() bool { return runs() == 0 })
}

func TestLateSignalsFindAnEndedTask(t *testing.T) {
	f := setup(t)
	ref := f.start(time.Second)
	// The workflow times out between the read and the signal of some of these.
	for {
		err := f.Answer(t.Context(), ref, answers("k"))
		if errors.Is(err, task.ErrTerminal) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// "A bad answer": acknowledged, but its key is used up, and the request comes
// again with the reason; after three the tool is told there is none.
func TestAnswerThatIsNotAcceptable(t *testing.T) {
	f := setup(t)
	f.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
		if in.Round > 1 {
			return done(string(in.Answers["name"])), nil
		}
		return task.RoundResult{NeedsInput: true, Inputs: []task.InputRequest{{
			Key: "name", Method: task.MethodElicit,
			Params: json.RawMessage(`{"message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string","minLength":2}},"required":["name"]}}`),
		}}}, nil
	})
	bad := json.RawMessage(`{"action":"accept","content":{"name":"x"}}`)

	askedAnew := func(ref task.Ref, used map[string]bool) task.InputRequest {
		t.Helper()
		now := f.await(ref, func(now *task.Task) bool { return inputRequired(now) && !used[now.Inputs[0].Key] })
		used[now.Inputs[0].Key] = true
		return now.Inputs[0]
	}

	t.Run("then acceptable", func(t *testing.T) {
		ref, used := f.create(), map[string]bool{}
		first := askedAnew(ref, used)
		if err := f.Answer(t.Context(), ref, map[string]json.RawMessage{first.Key: bad}); err != nil {
			t.Fatal(err)
		}
		again := askedAnew(ref, used)
		if !strings.Contains(string(again.Params), "Who?") || !strings.Contains(string(again.Params), `\"name\"`) {
			t.Errorf("asked again with %s", again.Params)
		}
		good := json.RawMessage(`{"action":"accept","content":{"name":"Ada"}}`)
		// The used key is worth nothing any more.
		if err := f.Answer(t.Context(), ref, map[string]json.RawMessage{first.Key: good}); err != nil {
			t.Fatal(err)
		}
		if now := f.get(ref); !inputRequired(now) {
			t.Errorf("an answer under a used key was taken: %+v", now)
		}
		if err := f.Answer(t.Context(), ref, map[string]json.RawMessage{again.Key: good}); err != nil {
			t.Fatal(err)
		}
		if end := f.await(ref, terminal); !strings.Contains(string(end.Outcome.Result), "Ada") {
			t.Errorf("ended with %s", end.Outcome.Result)
		}
	})

	t.Run("three times", func(t *testing.T) {
		ref, used := f.create(), map[string]bool{}
		for range 3 {
			if err := f.Answer(t.Context(), ref, map[string]json.RawMessage{askedAnew(ref, used).Key: bad}); err != nil {
				t.Fatal(err)
			}
		}
		if end := f.await(ref, terminal); !strings.Contains(string(end.Outcome.Result), `cancel`) {
			t.Errorf("ended with %s", end.Outcome.Result)
		}
	})
}
