package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// tool stands for the activity: what one round of some tool does.
type tool func(ctx context.Context, in task.RoundInput) (task.RoundResult, error)

type fixture struct {
	*testsuite.TestWorkflowEnvironment
	in   task.StartInput
	memo []task.State // every state projected, in order
}

// patient workers do not take a coroutine that a busy machine keeps from running
// for a second for one in a deadlock.
var patient = worker.Options{DeadlockDetectionTimeout: 20 * time.Second}

func setup(t *testing.T, f tool) *fixture { return setupWith(t, f, nil) }

func setupWith(t *testing.T, f tool, functions map[string]workflows.Function) *fixture {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.SetWorkerOptions(patient)
	env.SetStartTime(epoch)
	workflows.Register(env, functions)
	env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: task.ActivityRound})
	x := &fixture{TestWorkflowEnvironment: env, in: task.StartInput{
		Card:         task.Card{Tool: "deploy", CreatedAt: epoch, TTLMillis: time.Hour.Milliseconds()},
		Capabilities: json.RawMessage(`{"elicitation":{}}`),
	}}
	env.OnUpsertMemo(mock.Anything).Run(func(args mock.Arguments) {
		x.memo = append(x.memo, args.Get(0).(map[string]any)[task.MemoState].(task.State))
	}).Return(nil).Maybe()
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Maybe()
	return x
}

// run runs the task and returns its outcome, however the workflow carries it.
func (x *fixture) run(t *testing.T) *task.Outcome {
	t.Helper()
	x.ExecuteWorkflow(task.WorkflowTask, x.in)
	if !x.IsWorkflowCompleted() {
		t.Fatal("the workflow did not complete")
	}
	var o *task.Outcome
	err := x.GetWorkflowError()
	var canceled *temporal.CanceledError
	var app *temporal.ApplicationError
	switch {
	case err == nil:
		if err := x.GetWorkflowResult(&o); err != nil {
			t.Fatal(err)
		}
	case errors.As(err, &canceled):
		if err := canceled.Details(&o); err != nil {
			t.Fatal(err)
		}
	case errors.As(err, &app) && app.Type() == task.FailureTask:
		if err := app.Details(&o); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatal(err)
	}
	last := task.InitialState(epoch)
	if len(x.memo) > 0 {
		last = x.memo[len(x.memo)-1]
	}
	// The memo of a plain success stays at working: see task.MemoState.
	plain := o.Kind == task.OutcomeResult && !o.IsError && last.Status == task.StatusWorking
	if !plain && (last.Status != o.Status() || last.Outcome == nil || last.Outcome.Kind != o.Kind) {
		t.Errorf("the memo says %+v, the outcome is %+v", last, o)
	}
	return o
}

func (x *fixture) state(t *testing.T) task.State {
	t.Helper()
	v, err := x.QueryWorkflow(task.QueryTask)
	if err != nil {
		t.Fatal(err)
	}
	var p task.Projection
	if err := v.Get(&p); err != nil {
		t.Fatal(err)
	}
	return p.State
}

func done(context.Context, task.RoundInput) (task.RoundResult, error) {
	return task.RoundResult{Result: json.RawMessage(`{"content":[]}`)}, nil
}

func TestTask(t *testing.T) {
	t.Run("a plain call is one round and no projection", func(t *testing.T) {
		x := setup(t, done)
		if o := x.run(t); o.Kind != task.OutcomeResult || string(o.Result) != `{"content":[]}` {
			t.Errorf("outcome %+v", o)
		}
		if len(x.memo) != 0 {
			t.Errorf("%d projections: %+v", len(x.memo), x.memo)
		}
	})

	t.Run("a decided outcome runs no round", func(t *testing.T) {
		x := setup(t, func(context.Context, task.RoundInput) (task.RoundResult, error) {
			t.Error("a round was run")
			return task.RoundResult{}, nil
		})
		x.in.Decided = task.ResultOutcome(json.RawMessage(`{"isError":true}`), true)
		if o := x.run(t); !o.IsError {
			t.Errorf("outcome %+v", o)
		}
	})

	t.Run("answers start the next round", func(t *testing.T) {
		x := setup(t, confirm)
		x.RegisterDelayedCallback(func() {
			if s := x.state(t); s.Status != task.StatusInputRequired || s.Inputs[0].Key != "sure" {
				t.Errorf("state %+v", s)
			}
			x.SignalWorkflow(task.SignalInput, task.InputSignal{Responses: map[string]json.RawMessage{
				"sure": json.RawMessage(`{"action":"accept"}`), "other": json.RawMessage(`{}`),
			}})
			// Too late: only the first answer counts.
			x.SignalWorkflow(task.SignalInput, task.InputSignal{Responses: map[string]json.RawMessage{
				"sure": json.RawMessage(`{"action":"decline"}`),
			}})
		}, time.Minute)
		if o := x.run(t); string(o.Result) != `{"action":"accept"}` {
			t.Errorf("outcome %+v", o)
		}
		if len(x.memo) != 2 {
			t.Errorf("projections %+v, want input_required and working", x.memo)
		}
	})

	t.Run("expires while it waits", func(t *testing.T) {
		x := setup(t, confirm)
		if o := x.run(t); o.Kind != task.OutcomeExpired {
			t.Errorf("outcome %+v", o)
		}
		if got := x.Now().Sub(epoch); got < time.Hour || got > time.Hour+time.Minute {
			t.Errorf("expired after %s", got)
		}
	})

	t.Run("expires before a later run's first round", func(t *testing.T) {
		x := setup(t, done)
		x.in.Resume, x.in.Started = task.NewMachine(epoch), epoch
		x.SetStartTime(epoch.Add(2 * time.Hour))
		if o := x.run(t); o.Kind != task.OutcomeExpired {
			t.Errorf("outcome %+v", o)
		}
	})

	for name, off := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run("expires by Temporal's clock, with its creator's a day "+name, func(t *testing.T) {
			x := setup(t, confirm)
			x.in.Card.CreatedAt = epoch.Add(off)
			if o := x.run(t); o.Kind != task.OutcomeExpired {
				t.Errorf("outcome %+v", o)
			}
			if got := x.Now().Sub(epoch); got < time.Hour || got > time.Hour+time.Minute {
				t.Errorf("expired after %s", got)
			}
		})
	}

	t.Run("has its time from the first of its runs", func(t *testing.T) {
		x := setup(t, confirm)
		x.SetContinueAsNewSuggested(true)
		x.in.Card.CreatedAt = epoch.Add(24 * time.Hour)
		x.ExecuteWorkflow(task.WorkflowTask, x.in)
		var next *workflow.ContinueAsNewError
		if err := x.GetWorkflowError(); !errors.As(err, &next) {
			t.Fatalf("the workflow ended with %v", err)
		}
		y := setup(t, confirm)
		if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &y.in); err != nil {
			t.Fatal(err)
		}
		y.SetStartTime(epoch.Add(30 * time.Minute))
		if o := y.run(t); o.Kind != task.OutcomeExpired {
			t.Errorf("outcome %+v", o)
		}
		if got := y.Now().Sub(epoch); got < time.Hour || got > time.Hour+time.Minute {
			t.Errorf("expired after %s", got)
		}
	})

	t.Run("of a run before that did not say when it began, by the card", func(t *testing.T) {
		x := setup(t, confirm)
		x.in.Resume = task.NewMachine(epoch)
		x.SetStartTime(epoch.Add(30 * time.Minute))
		if o := x.run(t); o.Kind != task.OutcomeExpired {
			t.Errorf("outcome %+v", o)
		}
		if got := x.Now().Sub(epoch); got < time.Hour || got > time.Hour+time.Minute {
			t.Errorf("expired after %s", got)
		}
	})

	for name, cancel := range map[string]func(x *fixture){
		"signal":            func(x *fixture) { x.SignalWorkflow(task.SignalCancel, task.CancelSignal{Reason: "enough"}) },
		"cancel of the run": func(x *fixture) { x.CancelWorkflow() },
	} {
		t.Run("cancelled by "+name+" while it waits", func(t *testing.T) {
			x := setup(t, confirm)
			x.RegisterDelayedCallback(func() { cancel(x) }, time.Minute)
			if o := x.run(t); o.Kind != task.OutcomeCancelled {
				t.Errorf("outcome %+v", o)
			}
		})

		t.Run("cancelled by "+name+" while a round runs, which is told", func(t *testing.T) {
			told := make(chan struct{})
			x := setup(t, func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
				// Cancels reach an activity with the answer to a heartbeat.
				for ctx.Err() == nil {
					activity.RecordHeartbeat(ctx)
					runtime.Gosched()
				}
				close(told)
				return task.RoundResult{Result: json.RawMessage(`{"late":true}`)}, nil
			})
			x.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) { cancel(x) })
			if o := x.run(t); o.Kind != task.OutcomeCancelled {
				t.Errorf("outcome %+v", o)
			}
			<-told
		})
	}

	t.Run("a cancel that meets the result wins, once", func(t *testing.T) {
		x := setup(t, func(context.Context, task.RoundInput) (task.RoundResult, error) {
			return done(nil, task.RoundInput{})
		})
		x.SetOnActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) {
			x.SignalWorkflowSkippingWorkflowTask(task.SignalCancel, task.CancelSignal{})
		})
		o := x.run(t)
		if o.Kind != task.OutcomeCancelled && o.Kind != task.OutcomeResult {
			t.Errorf("outcome %+v", o)
		}
		terminal := 0
		for _, s := range x.memo {
			if s.Status.Terminal() {
				terminal++
			}
		}
		if want := map[task.OutcomeKind]int{task.OutcomeCancelled: 1}[o.Kind]; terminal != want {
			t.Errorf("projected %d terminal states: %+v", terminal, x.memo)
		}
	})

	t.Run("a lost round that is given up leaves the outcome unknown", func(t *testing.T) {
		runs := 0
		x := setup(t, func(context.Context, task.RoundInput) (task.RoundResult, error) {
			runs++
			return task.RoundResult{}, temporal.NewNonRetryableApplicationError("worker died", "", nil)
		})
		if o := x.run(t); o.Kind != task.OutcomeUnknown || runs != 1 {
			t.Errorf("outcome %+v after %d runs", o, runs)
		}
	})

	t.Run("a lost round that may be repeated is", func(t *testing.T) {
		runs := 0
		x := setup(t, func(context.Context, task.RoundInput) (task.RoundResult, error) {
			if runs++; runs < 3 {
				return task.RoundResult{}, errors.New("worker died")
			}
			return done(nil, task.RoundInput{})
		})
		x.in.Policy.Retry = true
		if o := x.run(t); o.Kind != task.OutcomeResult || runs != 3 {
			t.Errorf("outcome %+v after %d runs", o, runs)
		}
	})

	t.Run("continues as new between rounds with all it knows", func(t *testing.T) {
		x := setup(t, confirm)
		x.RegisterDelayedCallback(func() {
			x.SetContinueAsNewSuggested(true)
			x.SignalWorkflow(task.SignalInput, task.InputSignal{Responses: map[string]json.RawMessage{"sure": json.RawMessage(`{"action":"accept"}`)}})
		}, time.Minute)
		x.ExecuteWorkflow(task.WorkflowTask, x.in)
		var next *workflow.ContinueAsNewError
		if err := x.GetWorkflowError(); !errors.As(err, &next) {
			t.Fatalf("the workflow ended with %v", err)
		}
		y := setup(t, confirm)
		if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &y.in); err != nil {
			t.Fatal(err)
		}
		if o := y.run(t); string(o.Result) != `{"action":"accept"}` {
			t.Errorf("outcome %+v", o)
		}
	})
}

// confirm asks once and returns the answer as its result.
func confirm(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
	if answer := in.Answers["sure"]; answer != nil {
		return task.RoundResult{Result: answer}, nil
	}
	return task.RoundResult{NeedsInput: true, Inputs: []task.InputRequest{{
		Key: "sure", Method: task.MethodElicit, Params: json.RawMessage(`{"message":"Sure?"}`),
	}}}, nil
}
