package workflows_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

func setupFunction(t *testing.T, f workflows.Function) *fixture {
	x := setupWith(t, done, map[string]workflows.Function{"f": f})
	x.in.Workflow = "f"
	return x
}

func result(raw json.RawMessage) (task.RoundResult, error) { return task.RoundResult{Result: raw}, nil }

// askSure asks and returns the answer.
func askSure(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
	answer, err := workflows.Ask(ctx, task.MethodElicit, json.RawMessage(`{"message":"Sure?"}`))
	if err != nil {
		return task.RoundResult{}, err
	}
	return result(answer)
}

func answer(x *fixture, key, response string) {
	x.SignalWorkflow(task.SignalInput, task.InputSignal{Responses: map[string]json.RawMessage{key: json.RawMessage(response)}})
}

func TestFunction(t *testing.T) {
	t.Run("its result is the task's", func(t *testing.T) {
		x := setupFunction(t, func(_ workflow.Context, arguments json.RawMessage) (task.RoundResult, error) {
			return result(arguments)
		})
		x.in.Arguments = json.RawMessage(`{"a":1}`)
		if o := x.run(t); string(o.Result) != `{"a":1}` || len(x.memo) != 0 {
			t.Errorf("outcome %+v, projections %+v", o, x.memo)
		}
	})

	t.Run("asks and waits for days", func(t *testing.T) {
		x := setupFunction(t, func(ctx workflow.Context, a json.RawMessage) (task.RoundResult, error) {
			if _, err := askSure(ctx, a); err != nil {
				return task.RoundResult{}, err
			}
			if err := workflow.Sleep(ctx, time.Minute); err != nil {
				return task.RoundResult{}, err
			}
			return askSure(ctx, a)
		})
		x.in.Card.TTLMillis = (100 * time.Hour).Milliseconds()
		var keys []string
		for i := range 2 {
			x.RegisterDelayedCallback(func() {
				s := x.state(t)
				if len(s.Inputs) != 1 {
					t.Fatalf("state %+v", s)
				}
				keys = append(keys, s.Inputs[0].Key)
				answer(x, s.Inputs[0].Key, `{"action":"accept"}`)
			}, time.Duration(i+1)*24*time.Hour)
		}
		if o := x.run(t); string(o.Result) != `{"action":"accept"}` {
			t.Errorf("outcome %+v", o)
		}
		if len(keys) != 2 || keys[0] == keys[1] {
			t.Errorf("asked under %v", keys)
		}
	})

	t.Run("progress shows", func(t *testing.T) {
		x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			if err := workflows.Report(ctx, task.Progress{Progress: 1, Total: 2, Message: "half"}); err != nil {
				return task.RoundResult{}, err
			}
			return result(nil)
		})
		x.run(t)
		if len(x.memo) != 1 || x.memo[0].Progress == nil || x.memo[0].Progress.Message != "half" {
			t.Errorf("projections %+v", x.memo)
		}
	})

	t.Run("an error ends the task with its root cause", func(t *testing.T) {
		x := setupFunction(t, func(workflow.Context, json.RawMessage) (task.RoundResult, error) {
			return task.RoundResult{}, errors.New("no way")
		})
		if o := x.run(t); o.Kind != task.OutcomeError || o.Error.Message != "no way" {
			t.Errorf("outcome %+v", o)
		}
	})

	t.Run("the error of a step says what the author and the step said, not where it ran", func(t *testing.T) {
		x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2},
			})
			if err := workflow.ExecuteActivity(ctx, "copy").Get(ctx, nil); err != nil {
				return task.RoundResult{}, fmt.Errorf("copying 3 files: %w", err)
			}
			return result(nil)
		})
		x.RegisterActivityWithOptions(func() error { return errors.New("the disk is full") }, activity.RegisterOptions{Name: "copy"})
		if o := x.run(t); o.Kind != task.OutcomeError || o.Error.Message != "copying 3 files: the disk is full" {
			t.Errorf("outcome %+v", o.Error)
		}
	})

	t.Run("a result that cannot be stored is an error", func(t *testing.T) {
		x := setupFunction(t, func(workflow.Context, json.RawMessage) (task.RoundResult, error) {
			return result(json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`))
		})
		if o := x.run(t); o.Kind != task.OutcomeError || !strings.Contains(o.Error.Message, "2097154 bytes") {
			t.Errorf("outcome %s", o.Kind)
		}
	})

	t.Run("progress that cannot be stored is not reported", func(t *testing.T) {
		x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			if err := workflows.Report(ctx, task.Progress{Progress: math.NaN()}); err == nil {
				t.Error("no error")
			}
			return result(nil)
		})
		x.run(t)
		if len(x.memo) != 0 {
			t.Errorf("projections %+v", x.memo)
		}
	})

	t.Run("a long message is cut", func(t *testing.T) {
		x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			if err := workflows.Report(ctx, task.Progress{Message: strings.Repeat("é", 300<<10)}); err != nil {
				return task.RoundResult{}, err
			}
			return result(nil)
		})
		x.run(t)
		if n := utf8.RuneCountInString(x.memo[0].Progress.Message); n != 1000 {
			t.Errorf("%d characters", n)
		}
	})

	t.Run("a cancel lets it compensate, within a bound", func(t *testing.T) {
		for _, tc := range []struct {
			name  string
			needs time.Duration
			want  bool
		}{{"in time", 30 * time.Second, true}, {"too slow", time.Hour, false}} {
			t.Run(tc.name, func(t *testing.T) {
				compensated := false
				x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
					err := workflow.Sleep(ctx, time.Hour)
					undo, _ := workflow.NewDisconnectedContext(ctx)
					if workflow.Sleep(undo, tc.needs) == nil {
						compensated = true
					}
					return task.RoundResult{}, err
				})
				x.RegisterDelayedCallback(func() { x.SignalWorkflow(task.SignalCancel, task.CancelSignal{}) }, time.Minute)
				x.RegisterDelayedCallback(func() {
					if s := x.state(t); s.Status != task.StatusCancelled {
						t.Errorf("while it compensates: %+v", s)
					}
				}, time.Minute+time.Second)
				if o := x.run(t); o.Kind != task.OutcomeCancelled || compensated != tc.want {
					t.Errorf("outcome %+v, compensated: %v", o, compensated)
				}
			})
		}
	})

	t.Run("expires with its context cancelled", func(t *testing.T) {
		var got error
		x := setupFunction(t, func(ctx workflow.Context, a json.RawMessage) (task.RoundResult, error) {
			_, got = workflows.Ask(ctx, task.MethodElicit, json.RawMessage(`{}`))
			return task.RoundResult{}, got
		})
		if o := x.run(t); o.Kind != task.OutcomeExpired || got == nil {
			t.Errorf("outcome %+v, Ask returned %v", o, got)
		}
	})

	t.Run("a request the client did not declare is its error", func(t *testing.T) {
		var got error
		x := setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			_, got = workflows.Ask(ctx, task.MethodSample, json.RawMessage(`{}`))
			return result(nil)
		})
		x.run(t)
		var rpc *task.RPCError
		if !errors.As(got, &rpc) || rpc.Code != task.CodeMissingCapability {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a request it no longer waits for is no longer shown", func(t *testing.T) {
		var shown task.State
		var x *fixture
		x = setupFunction(t, func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
			asking, stop := workflow.WithCancel(ctx)
			workflow.Go(ctx, func(ctx workflow.Context) {
				_ = workflow.Sleep(ctx, time.Minute)
				stop()
			})
			if _, err := workflows.Ask(asking, task.MethodElicit, json.RawMessage(`{}`)); err == nil {
				t.Error("there was an answer")
			}
			_ = workflow.Sleep(ctx, time.Minute) // whoever reads now reads the memo
			shown = x.memo[len(x.memo)-1]
			return result(nil)
		})
		if x.run(t); shown.Status != task.StatusWorking || len(shown.Inputs) > 0 {
			t.Errorf("the memo says %+v", shown)
		}
	})

	t.Run("goes on in a new run with other arguments", func(t *testing.T) {
		f := func(ctx workflow.Context, arguments json.RawMessage) (task.RoundResult, error) {
			answer, err := askSure(ctx, nil)
			if err != nil || string(arguments) == `{"n":2}` {
				return answer, err
			}
			return task.RoundResult{}, workflows.ContinueAsNew(json.RawMessage(`{"n":2}`))
		}
		x := setupFunction(t, f)
		x.RegisterDelayedCallback(func() { answer(x, "ask-1", `{"action":"decline"}`) }, time.Minute)
		x.ExecuteWorkflow(task.WorkflowTask, x.in)
		var next *workflow.ContinueAsNewError
		if err := x.GetWorkflowError(); !errors.As(err, &next) {
			t.Fatalf("the workflow ended with %v", err)
		}
		y := setupFunction(t, f)
		if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &y.in); err != nil {
			t.Fatal(err)
		}
		// Of many large ones the sum could be more than Temporal takes.
		if len(y.in.Resume.Answers) > 0 {
			t.Errorf("starts with the answers that the last one had: %s", y.in.Resume.Answers)
		}
		y.RegisterDelayedCallback(func() { answer(y, "ask-2", `{"action":"accept"}`) }, time.Minute)
		if o := y.run(t); string(o.Result) != `{"action":"accept"}` {
			t.Errorf("outcome %+v", o)
		}
	})
}

func TestAskOutsideAFunction(t *testing.T) {
	x := setup(t, done)
	x.ExecuteWorkflow(func(ctx workflow.Context) error {
		_, err := workflows.Ask(ctx, task.MethodElicit, nil)
		return err
	})
	if x.GetWorkflowError() == nil {
		t.Error("no error")
	}
}
