package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
)

// versionWithdrawal is the change by which the memo shows at once that a function
// no longer waits for an answer.
const versionWithdrawal = "withdrawal-shown"

// handleAsks takes the requests that a running round puts to the task's owner.
// A handler waits for as long as a person takes; all it holds is its place in
// this workflow. When a worker is lost, the round that is run in its place asks
// under the same update ID, and Temporal gives it the answer there is.
func (t *run) handleAsks(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, task.UpdateAsk, t.ask, workflow.UpdateHandlerOptions{
		Validator: func(in task.AskInput) error {
			if !t.asks(in.Round) {
				return errors.New("the round is over")
			}
			return nil
		},
		Description: "A running tool asks the task's owner for input.",
	})
}

// asks reports whether the round is the running one of a task that goes on.
func (t *run) asks(round int) bool {
	return t.machine.Outcome == nil && t.machine.Running && t.machine.Round == round
}

func (t *run) ask(ctx workflow.Context, in task.AskInput) (task.AskAnswer, error) {
	// A cancel from Temporal's side is an event like the others.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	return t.awaitAnswer(ctx, in.Request)
}

// awaitAnswer puts a request of the running round to the task's owner.
func (t *run) awaitAnswer(ctx workflow.Context, request task.InputRequest) (task.AskAnswer, error) {
	if err := t.machine.Ask(t.now(), request, t.in.Capabilities); err != nil {
		return task.AskAnswer{Error: err}, nil
	}
	t.project()
	// It is no longer outstanding when it was answered, and when the round or
	// the task ended; the end of the round may ask under the same key.
	round := t.machine.Round
	err := workflow.Await(ctx, func() bool { return !t.asks(round) || !t.machine.Asking(request.Key) })
	switch answer, ok := t.machine.Answered(request.Key); {
	case err != nil:
		if t.machine.Asking(request.Key) {
			t.machine.Withdraw(t.now(), request.Key)
			// Once this was not shown before the function's next step.
			if workflow.GetVersion(ctx, versionWithdrawal, workflow.DefaultVersion, 1) >= 1 {
				t.project()
			}
		}
		return task.AskAnswer{}, err
	case ok:
		return task.AskAnswer{Response: answer}, nil
	default:
		return task.AskAnswer{Over: true}, nil
	}
}

// awaitHandlers waits until whoever asked has its answer: what a handler has
// not returned is lost with the run.
func (t *run) awaitHandlers() error {
	return workflow.Await(t.ctx, func() bool { return workflow.AllHandlersFinished(t.ctx) })
}
