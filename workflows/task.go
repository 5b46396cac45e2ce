// Package workflows holds the workflow that a task is, and the sweep that
// deletes expired ones (sweep.go). A task's workflow feeds what happens into the
// state machine of package task, runs the rounds it asks for, and projects its
// state into the memo.
//
// A round is an activity that calls the tool (package activities) or, for a tool that is
// written as a workflow, a function that runs right here (function.go). Either
// may put requests to the task's owner while it runs (ask.go).
//
// The code here is replayed from histories that any released version wrote.
// It uses no clock, no client and no network, and it changes only behind
// workflow.GetVersion; the histories under testdata hold it to that.
package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
)

// HeartbeatTimeout is how long a running round may be silent before Temporal
// gives its worker up. It has to be longer than the longest outage of Temporal
// that a running tool shall survive.
const HeartbeatTimeout = 60 * time.Second

// CleanupTimeout bounds the time a cancelled round has to end by itself.
const CleanupTimeout = 10 * time.Second

// Registry is the part of a worker that takes workflows.
type Registry interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}

// Register registers the task workflow under both of its names, and the sweep. functions are
// the tools that are workflow functions, by [task.StartInput].Workflow.
func Register(r Registry, functions map[string]Function) {
	run := func(ctx workflow.Context, in task.StartInput) (*task.Outcome, error) {
		return runTask(ctx, in, functions)
	}
	r.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: task.WorkflowTask})
	r.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: task.WorkflowCall})
	r.RegisterWorkflowWithOptions(sweep, workflow.RegisterOptions{Name: task.WorkflowSweep})
}

// runTask runs one task to its outcome.
//
// A tool's result completes the workflow, a cancelled task ends it as
// Canceled, and everything else as Failed with a [task.FailureTask] error, so
// that Temporal's own tools show what became of it. In all three the
// [task.Outcome] is what the close event carries.
func runTask(ctx workflow.Context, in task.StartInput, functions map[string]Function) (*task.Outcome, error) {
	t := newRun(ctx, in)
	if in.Workflow != "" {
		t.function = functions[in.Workflow]
		if t.function == nil {
			// Not the task's fault: a worker that has it will take the task on.
			panic("this worker has no workflow function " + in.Workflow)
		}
	}
	if err := t.handleQueries(ctx); err != nil {
		return nil, err
	}
	if err := t.handleAsks(ctx); err != nil {
		return nil, err
	}
	return t.run()
}

// run is one run of the workflow.
type run struct {
	in      task.StartInput
	machine *task.Machine

	// root is the context that Temporal cancels; ctx is disconnected from it,
	// so that a cancel is an event like the others and nothing below it fails.
	root workflow.Context
	ctx  workflow.Context

	cancels workflow.ReceiveChannel
	inputs  workflow.ReceiveChannel

	function    Function        // nil if rounds call the tool
	round       workflow.Future // of the running round
	cancelRound workflow.CancelFunc

	next      json.RawMessage // the arguments of the next run, if the function wants one
	projected task.State      // what the memo shows
}

func newRun(ctx workflow.Context, in task.StartInput) *run {
	t := &run{
		in:      in,
		machine: in.Resume,
		root:    ctx,
		cancels: workflow.GetSignalChannel(ctx, task.SignalCancel),
		inputs:  workflow.GetSignalChannel(ctx, task.SignalInput),
	}
	t.ctx, _ = workflow.NewDisconnectedContext(ctx)
	if t.machine == nil {
		t.machine = task.NewMachine(in.Card.CreatedAt)
		t.in.Started = workflow.GetInfo(ctx).WorkflowStartTime
	} else if t.in.Started.IsZero() {
		t.in.Started = in.Card.CreatedAt // of a run whose predecessor did not say
	}
	t.projected = t.machine.State
	return t
}

func (t *run) handleQueries(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, task.QueryTask, func() (task.Projection, error) {
		return task.Projection{Card: t.in.Card, State: t.machine.State}, nil
	})
	if err != nil {
		return err
	}
	return workflow.SetQueryHandler(ctx, task.QueryResult, func() (*task.Outcome, error) {
		return t.machine.Outcome, nil
	})
}

func (t *run) run() (*task.Outcome, error) {
	if t.in.Decided != nil {
		t.machine.Decide(t.now(), t.in.Decided)
	}
	for {
		t.takeEvents()
		switch t.machine.Next() {
		case task.StepRun:
			if t.machine.Delay() > 0 {
				t.project() // what the round asked is not asked any more
				if !t.pause(t.machine.Delay()) {
					continue
				}
			}
			if t.next != nil || workflow.GetInfo(t.ctx).GetContinueAsNewSuggested() {
				return nil, t.continueAsNew()
			}
			t.startRound()
		case task.StepAwaitRound:
			t.project()
			if err := t.awaitRound(); err != nil {
				return nil, err
			}
		case task.StepAwaitInput:
			t.project()
			if err := t.awaitInput(); err != nil {
				return nil, err
			}
		case task.StepEnd:
			return t.end()
		}
	}
}

// eventPending reports whether there is anything for takeEvents.
func (t *run) eventPending() bool {
	return t.root.Err() != nil || t.cancels.Len() > 0 || t.inputs.Len() > 0 ||
		(t.round != nil && t.round.IsReady())
}

// takeEvents feeds everything that has happened into the machine. The order
// decides who wins when several things meet in one workflow task: a cancel
// over a result, because its sender may already have been told "cancelled"
// (2025-11-25, tasks, "Task Cancellation": it MUST remain cancelled), and an
// answer over the result that overtook it.
func (t *run) takeEvents() {
	if t.root.Err() != nil {
		t.machine.Cancel(t.now(), "")
	}
	for {
		var s task.CancelSignal
		if !t.cancels.ReceiveAsync(&s) {
			break
		}
		t.machine.Cancel(t.now(), s.Reason)
	}
	for {
		var s task.InputSignal
		if !t.inputs.ReceiveAsync(&s) {
			break
		}
		for _, key := range workflow.DeterministicKeys(s.Responses) {
			if reason := s.Refused[key]; reason != "" {
				t.machine.Refuse(t.now(), key, reason)
			} else {
				t.machine.Answer(t.now(), key, s.Responses[key])
			}
		}
	}
	if t.round != nil && t.round.IsReady() {
		t.takeRound()
	}
}

// startRound schedules the activity that calls the tool. What is left of the
// TTL bounds it, retries included.
func (t *run) startRound() {
	left := t.timeLeft()
	if left <= 0 {
		t.expire()
		return
	}
	n, answers, state := t.machine.BeginRound()
	if t.function != nil {
		t.startFunction()
		return
	}
	ctx := workflow.WithActivityOptions(t.ctx, workflow.ActivityOptions{
		ActivityID:             fmt.Sprintf("round-%d", n),
		ScheduleToCloseTimeout: left,
		HeartbeatTimeout:       HeartbeatTimeout,
		WaitForCancellation:    true,
		// Also a round that may not be run again gets another attempt, which
		// finds out whether there is anything to go on with.
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    30 * time.Second,
		},
		Summary: fmt.Sprintf("%s, round %d", t.in.Card.Tool, n),
	})
	ctx, t.cancelRound = workflow.WithCancel(ctx)
	t.round = workflow.ExecuteActivity(ctx, task.ActivityRound, task.RoundInput{
		Round:          n,
		Tool:           t.in.Card.Tool,
		Arguments:      t.in.Arguments,
		ArgumentsClaim: t.in.ArgumentsClaim,
		CreatedAt:      t.in.Card.CreatedAt,
		Capabilities:   t.in.Capabilities,
		Policy:         t.in.Policy,
		Answers:        answers,
		RequestState:   state,
	})
}

// takeRound feeds the end of the running round into the machine.
func (t *run) takeRound() {
	var result task.RoundResult
	err := t.round.Get(t.ctx, &result)
	t.round, t.cancelRound = nil, nil
	var timeout *temporal.TimeoutError
	var again *continueError
	switch {
	case errors.As(err, &again):
		t.machine.Suspend(t.now())
		t.next = again.arguments
	case err == nil:
		t.machine.RoundEnded(t.now(), result, t.in.Capabilities)
	case errors.As(err, &timeout) && (t.in.Policy.Retry || timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE):
		// A round is only given up when the task's time is over.
		t.machine.Suspend(t.now())
		t.expire()
	case errors.As(err, &timeout):
		t.machine.Lose(t.now(), "The outcome is unknown: the worker that ran the tool was lost, and the tool may not be run twice.")
	default:
		t.machine.Lose(t.now(), "The outcome is unknown: "+Reason(err))
	}
}

// awaitInput waits for an event or for the task's time to be over. It holds
// nothing but a timer.
func (t *run) awaitInput() error { return t.awaitEvent("Waiting for input until the task expires") }

func (t *run) awaitEvent(summary string) error {
	left := t.timeLeft()
	if left <= 0 {
		t.expire()
		return nil
	}
	ok, err := workflow.AwaitWithOptions(t.ctx, workflow.AwaitOptions{
		Timeout:      left,
		TimerOptions: workflow.TimerOptions{Summary: summary},
	}, t.eventPending)
	if err == nil && !ok {
		t.expire()
	}
	return err
}

// pause waits before the next round, but not beyond the task's time, and
// reports whether it may start.
func (t *run) pause(d time.Duration) bool {
	ok, err := workflow.AwaitWithOptions(t.ctx, workflow.AwaitOptions{
		Timeout:      max(min(d, t.timeLeft()), 0),
		TimerOptions: workflow.TimerOptions{Summary: "The tool asked to be called again later"},
	}, t.eventPending)
	return err == nil && !ok
}

// continueAsNew starts the next run between two rounds, with every event
// taken in: whatever is still unread would be lost with this run.
func (t *run) continueAsNew() error {
	t.project()
	if err := t.awaitHandlers(); err != nil {
		return err
	}
	next := t.in
	if t.next != nil {
		next.Arguments = t.next
		t.machine.Forget()
	}
	next.Decided = nil
	next.Resume = t.machine
	return workflow.NewContinueAsNewError(t.root, workflow.GetInfo(t.ctx).WorkflowType.Name, next)
}

// end gives a cancelled round a bounded time to clean up and closes the
// workflow with the outcome.
func (t *run) end() (*task.Outcome, error) {
	if t.succeeded() {
		workflow.SetCurrentDetails(t.ctx, details(t.in.Card, t.machine.State))
	} else {
		t.project()
	}
	if t.round != nil {
		t.cancelRound()
		_, err := workflow.AwaitWithOptions(t.ctx, workflow.AwaitOptions{
			Timeout:      t.cleanupTimeout(),
			TimerOptions: workflow.TimerOptions{Summary: "Waiting for the cancelled round to clean up"},
		}, func() bool { return t.round.IsReady() })
		if err != nil {
			return nil, err
		}
	}
	// Signals that arrived meanwhile change nothing, but unread they would
	// keep the workflow from closing cleanly.
	t.takeEvents()
	if err := t.awaitHandlers(); err != nil {
		return nil, err
	}
	o := t.machine.Outcome
	switch o.Kind {
	case task.OutcomeResult:
		return o, nil
	case task.OutcomeCancelled:
		return nil, temporal.NewCanceledError(o)
	default:
		return nil, temporal.NewApplicationErrorWithOptions(o.Message, task.FailureTask,
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{o}})
	}
}

// succeeded reports whether the workflow is about to complete with a plain
// success. That needs no projection: a workflow that completed with its memo at
// working can have ended in no other way, and most calls end so.
func (t *run) succeeded() bool {
	o := t.machine.Outcome
	return o.Kind == task.OutcomeResult && !o.IsError && t.round == nil && t.projected.Status == task.StatusWorking
}

// project writes the state into the memo, in the same workflow task in which
// it changed: a reader who sees no pending workflow task can rely on it.
func (t *run) project() {
	now := t.machine.State
	if now.Rev == t.projected.Rev {
		return
	}
	// Both upserts fail only on values that cannot be encoded; these always can.
	_ = workflow.UpsertMemo(t.ctx, map[string]any{task.MemoState: now})
	asked, asks := t.projected.Status == task.StatusInputRequired, now.Status == task.StatusInputRequired
	switch {
	case asks && !asked:
		_ = workflow.UpsertTypedSearchAttributes(t.ctx, searchStatus.ValueSet(string(now.Status)))
	case asked && !asks:
		_ = workflow.UpsertTypedSearchAttributes(t.ctx, searchStatus.ValueUnset())
	}
	workflow.SetCurrentDetails(t.ctx, details(t.in.Card, now))
	t.projected = now
}

var searchStatus = temporal.NewSearchAttributeKeyKeyword(task.SearchStatus)

func (t *run) expire() { t.machine.Expire(t.now(), t.in.Card.TTL()) }

func (t *run) timeLeft() time.Duration {
	return t.in.Started.Add(t.in.Card.TTL()).Sub(t.now())
}

func (t *run) now() time.Time { return workflow.Now(t.ctx) }
