package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
)

// FunctionCleanupTimeout is how long a workflow function has to compensate
// once its task was cancelled or has expired, unless the tool says otherwise.
const FunctionCleanupTimeout = time.Minute

// maxResultBytes bounds what a function may return: what is larger cannot be
// stored.
const maxResultBytes = 1 << 20

// Function is a tool written as a workflow. It runs as a coroutine of its
// task's workflow and must be deterministic like any. When the task is
// cancelled or expires, ctx is cancelled, and the function has a bounded time
// to compensate, on a context of workflow.NewDisconnectedContext.
//
// An error ends the task with [task.OutcomeError]; what the tool means to tell
// the model belongs into the result, with IsError.
type Function func(ctx workflow.Context, arguments json.RawMessage) (task.RoundResult, error)

type runKey struct{}

// errNoFunction: what is below works for workflow functions only.
var errNoFunction = errors.New("this is not the context of a workflow tool")

func runOf(ctx workflow.Context) (*run, error) {
	t, ok := ctx.Value(runKey{}).(*run)
	if !ok {
		return nil, errNoFunction
	}
	return t, nil
}

// Ask puts a request to the task's owner and waits for the answer, holding
// nothing. The error is a [*task.RPCError] if the client cannot serve such a
// request, and a CanceledError when ctx is cancelled.
func Ask(ctx workflow.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	t, err := runOf(ctx)
	if err != nil {
		return nil, err
	}
	// Not the round but the task: a function that goes on in a new run is in
	// another round, but must not use a key again.
	t.machine.Asks++
	request := task.InputRequest{Key: fmt.Sprintf("ask-%d", t.machine.Asks), Method: method, Params: params}
	answer, err := t.awaitAnswer(ctx, request)
	switch {
	case err != nil:
		return nil, err
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Over:
		// The task is over, and ctx about to be cancelled.
		return nil, temporal.NewCanceledError()
	default:
		return answer.Response, nil
	}
}

// Report makes the function's progress visible, of a message its first 1000
// characters. Each report is an event in the workflow's history.
func Report(ctx workflow.Context, p task.Progress) error {
	t, err := runOf(ctx)
	if err != nil {
		return err
	}
	// Both would keep the state from being written.
	p.Message = task.ClipMessage(p.Message)
	if _, err := json.Marshal(p); err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	t.machine.Report(t.now(), p)
	t.project()
	return nil
}

// continueError ends a run of a function that goes on in a new one.
type continueError struct{ arguments json.RawMessage }

func (*continueError) Error() string { return "the workflow function continues as new" }

// ContinueAsNew is the error with which a function asks to be called again
// with other arguments, in a new run with an empty history. The task goes on:
// its ID, its state and what was asked stay.
func ContinueAsNew(arguments json.RawMessage) error { return &continueError{arguments} }

// IsContinueAsNew reports whether err is from [ContinueAsNew].
func IsContinueAsNew(err error) bool {
	var again *continueError
	return errors.As(err, &again)
}

// Reason is err without the frames in which Temporal tells where an activity
// or a child workflow was run, and how often: the words of those who wrote it.
func Reason(err error) string {
	var (
		step  *temporal.ActivityError
		child *temporal.ChildWorkflowExecutionError
		app   *temporal.ApplicationError

		frame error
		cause string
	)
	switch {
	case errors.As(err, &step) && errors.Unwrap(step) != nil:
		frame, cause = step, Reason(errors.Unwrap(step))
	case errors.As(err, &child) && errors.Unwrap(child) != nil:
		frame, cause = child, Reason(errors.Unwrap(child))
	case errors.As(err, &app):
		frame, cause = app, app.Message()
	default:
		return err.Error()
	}
	return strings.Replace(err.Error(), frame.Error(), cause, 1)
}

// startFunction runs the function in place of a round.
func (t *run) startFunction() {
	var ctx workflow.Context
	ctx, t.cancelRound = workflow.WithCancel(workflow.WithValue(t.ctx, runKey{}, t))
	future, end := workflow.NewFuture(ctx)
	t.round = future
	workflow.GoNamed(ctx, t.in.Workflow, func(ctx workflow.Context) {
		result, err := t.function(ctx, t.in.Arguments)
		var rpc *task.RPCError
		if errors.As(err, &rpc) {
			result, err = task.RoundResult{Error: rpc}, nil
		}
		if size := len(result.Result); size > maxResultBytes {
			err = fmt.Errorf("the tool's result has %d bytes; at most %d can be stored", size, maxResultBytes)
		}
		if err != nil && !IsContinueAsNew(err) {
			result, err = task.RoundResult{Error: &task.RPCError{Code: task.CodeInternalError, Message: Reason(err)}}, nil
		}
		end.Set(result, err)
	})
}

// awaitRound waits for an event. A round that is an activity has the task's
// time to live as its own timeout; a function has not.
func (t *run) awaitRound() error {
	if t.function == nil {
		return workflow.Await(t.ctx, t.eventPending)
	}
	return t.awaitEvent("Until the task expires")
}

func (t *run) cleanupTimeout() time.Duration {
	switch d := t.in.Policy.Cleanup(); {
	case d > 0:
		return d
	case t.function != nil:
		return FunctionCleanupTimeout
	default:
		return CleanupTimeout
	}
}
