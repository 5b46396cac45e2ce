// Package activities runs the rounds of tasks: one activity is one call of
// the upstream tool.
//
// A round has to outlive trouble on both sides. Temporal may be away for a
// while in the middle of it, so the round keeps its own heartbeat and its own
// delivery of the result instead of the SDK's, whose short deadlines would
// cancel every running tool in an outage of some seconds:
//
//   - the tool runs on a context that only a confirmed cancel, the round's
//     deadline or the loss of the round ends; a heartbeat that fails is tried
//     again a second later;
//   - the result is delivered until Temporal has it, or says that nobody
//     waits for it any more. Until then the heartbeat goes on, so that the
//     round is not given to another worker and its tool run twice.
//
// So it is with the store of what is too large for Temporal ([claims.Store]):
// arguments are read from it, and results put into it, until it is there.
//
// The upstream may go away too. What happens then depends on whether the call
// had been sent, and on whether the tool may be run again: see [Rounds.lost].
package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

const (
	// rpcTimeout bounds one call to Temporal.
	rpcTimeout = 5 * time.Second
	// maxDeliveries is how many ends a worker reports at a time. More at once are
	// not reported any sooner, and when Temporal is so busy that each waits for
	// longer than rpcTimeout, all of them are in vain.
	maxDeliveries = 32
	// maxAttempts is how often the upstream may be lost before the round fails
	// for good. Workers that were lost do not count.
	maxAttempts = 5
	// againAfter is when a round that a stopping worker gave up runs again, and
	// the first pause after a loss of the upstream. Temporal's own delay would
	// grow with every worker that was stopped under the round.
	againAfter = time.Second
)

// Caller calls tools: an [upstream.Set].
type Caller interface {
	Call(ctx context.Context, c upstream.Call) (task.RoundResult, error)
}

// Reporter is the part of Temporal's client with which a round reports.
type Reporter interface {
	RecordActivityHeartbeat(ctx context.Context, taskToken []byte, details ...any) error
	CompleteActivity(ctx context.Context, taskToken []byte, result any, err error) error
	UpdateWorkflow(ctx context.Context, options client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error)
}

// Rounds runs rounds.
type Rounds struct {
	upstream Caller
	temporal Reporter
	claims   claims.Store
	logger   *slog.Logger
	// deliveries has an entry for each that is under way.
	deliveries chan struct{}
}

// New returns Rounds that call tools through upstream and report to temporal.
// What is too large for Temporal is kept in store; without one, nil, it is
// refused.
func New(upstream Caller, temporal Reporter, store claims.Store, logger *slog.Logger) *Rounds {
	return &Rounds{
		upstream: upstream, temporal: temporal, claims: store, logger: logger,
		deliveries: make(chan struct{}, maxDeliveries),
	}
}

// Registry is the part of a worker that takes activities.
type Registry interface {
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// Register registers the activity [task.ActivityRound].
func (r *Rounds) Register(reg Registry) {
	reg.RegisterActivityWithOptions(r.Round, activity.RegisterOptions{Name: task.ActivityRound})
}

// The ways in which a running call is told to stop, as causes of its context.
var (
	errCancelled = errors.New("the task was cancelled")
	errTimeout   = errors.New("the tool's timeout is over")
	errExpired   = errors.New("the task's time is over")
	// After these a task that the upstream has made of the call may still be
	// rejoined.
	errAbandoned = fmt.Errorf("nobody waits for this round any more: %w", upstream.ErrLeave)
	errStopping  = fmt.Errorf("the worker is stopping: %w", upstream.ErrLeave)
)

// Round runs one round. It reports the end of a call itself and then returns
// [activity.ErrResultPending].
func (r *Rounds) Round(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
	info := activity.GetInfo(ctx)
	info.Deadline = deadline(info)
	log := r.logger.With("task_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID,
		"tool", in.Tool, "round", in.Round, "attempt", info.Attempt)

	var last task.Heartbeat
	if activity.HasHeartbeatDetails(ctx) {
		// A heartbeat that cannot be read means starting from the beginning,
		// which every tool that takes a checkpoint can.
		_ = activity.GetHeartbeatDetails(ctx, &last)
	}

	if info.Attempt > 1 && !in.Policy.Retry && last.UpstreamTask == nil {
		// The attempt before was lost with its worker.
		result := task.RoundResult{Unknown: "The outcome is unknown: the worker that ran the tool was lost, and the tool may not be run twice."}
		logEnd(log, result, nil)
		r.deliver(context.WithoutCancel(ctx), info, result, nil, log)
		return task.RoundResult{}, activity.ErrResultPending
	}

	call, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	b := &beat{
		temporal: r.temporal, token: info.TaskToken, timeout: info.HeartbeatTimeout, heartbeat: last, woken: make(chan struct{}, 1),
		onCancel: func() { stop(errCancelled) },
		onGone: func() {
			if !info.Deadline.IsZero() && time.Until(info.Deadline) < time.Second {
				stop(errExpired) // Temporal was a moment earlier.
				return
			}
			stop(errAbandoned)
		},
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() { b.run(ctx, done) })
	wg.Go(func() { r.watchStop(ctx, in.Policy, b, stop, done) })
	defer wg.Wait()
	defer close(done)

	set := task.ClaimSet{TaskID: info.WorkflowExecution.ID, CreatedAt: in.CreatedAt}
	//failpoint:round-started
	result, err := r.run(call, info, in, b, set, log)
	//failpoint:round-ended
	b.rest()
	logEnd(log, result, err)
	r.deliver(context.WithoutCancel(ctx), info, result, err, log)
	//failpoint:round-reported
	return task.RoundResult{}, activity.ErrResultPending
}

// deadline is when Temporal ends the round, as a time to wait from now on. The
// SDK's own is a time by Temporal's clock, and this machine's may be wrong.
func deadline(info activity.Info) time.Time {
	if info.ScheduleToCloseTimeout == 0 {
		return info.Deadline
	}
	return time.Now().Add(info.ScheduleToCloseTimeout - info.StartedTime.Sub(info.ScheduledTime))
}

// logEnd leaves a line per round for whoever looks for a task in the logs.
func logEnd(log *slog.Logger, r task.RoundResult, err error) {
	switch {
	case err != nil:
		log.Info("round interrupted", "error", err)
	case r.Unknown != "":
		log.Warn("round lost", "reason", r.Unknown)
	case r.Error != nil:
		log.Info("round failed", "code", r.Error.Code)
	case r.NeedsInput || len(r.Inputs) > 0:
		log.Info("round asks for input", "requests", len(r.Inputs))
	default:
		log.Info("round ended", "is_error", r.IsError)
	}
}

// watchStop ends the call when the worker stops and the round can be run
// again elsewhere. A round that cannot gets the worker's stop timeout to end.
func (r *Rounds) watchStop(ctx context.Context, p task.Policy, b *beat, stop context.CancelCauseFunc, done <-chan struct{}) {
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		//failpoint:worker-drains
		if p.Retry || b.latest().UpstreamTask != nil {
			stop(errStopping)
		}
	case <-done:
	}
}

// run is the call with all that is too large for Temporal.
func (r *Rounds) run(ctx context.Context, info activity.Info, in task.RoundInput, b *beat, set task.ClaimSet, log *slog.Logger) (task.RoundResult, error) {
	if !info.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, info.Deadline, errExpired)
		defer cancel()
	}
	args, err := r.arguments(ctx, in, set, log)
	switch {
	case ctx.Err() != nil:
		return r.stopped(context.Cause(ctx), in)
	case err != nil:
		return failure("The tool was not called: its arguments cannot be read: " + err.Error()), nil
	}
	in.Arguments = args
	result, err := r.call(ctx, info, in, b)
	if err != nil {
		return result, err
	}
	if result, err = r.keep(ctx, set, result, log); err != nil {
		return r.stopped(context.Cause(ctx), in)
	}
	return result, nil
}

// call calls the tool once, or a few times while it cannot be reached at all.
func (r *Rounds) call(ctx context.Context, info activity.Info, in task.RoundInput, b *beat) (task.RoundResult, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	limit := newLimit(in.Policy.Timeout(), func() { stop(errTimeout) })
	defer limit.stop()
	questions := &asker{temporal: r.temporal, workflow: info.WorkflowExecution.ID, round: in.Round, beat: b, limit: limit}
	last := b.resume()
	c := upstream.Call{
		Tool:         in.Tool,
		Arguments:    in.Arguments,
		Capabilities: in.Capabilities,
		Answers:      in.Answers,
		RequestState: in.RequestState,
		// The same for every attempt, or the upstream could not tell a repeated
		// call from a new one.
		IdempotencyKey: info.WorkflowExecution.ID + "/" + info.ActivityID,
		Checkpoint:     last.Checkpoint,
		OnProgress:     b.progress,
		Ask:            questions.ask,
		Resume:         last.UpstreamTask,
		OnTask:         func(handle json.RawMessage) { b.upstreamTask(ctx, handle) },
	}
	var lost *upstream.LostError
	for attempt := 1; ; attempt++ {
		result, err := r.upstream.Call(ctx, c)
		switch {
		case err == nil:
			return result, nil
		case ctx.Err() != nil:
			return r.stopped(context.Cause(ctx), in)
		case !errors.As(err, &lost):
			return task.RoundResult{Error: &task.RPCError{Code: task.CodeInternalError, Message: err.Error()}}, nil
		case attempt == maxAttempts:
			return r.lost(ctx, lost, in.Policy, b)
		case b.latest().UpstreamTask != nil:
			c.Resume = b.latest().UpstreamTask // which runs nothing twice
		case lost.Sent || in.Policy.Retry:
			return r.lost(ctx, lost, in.Policy, b)
		}
		// Not sent, so nothing can have happened: safe to try again for any tool.
		select {
		case <-time.After(pause(attempt)):
		case <-ctx.Done():
		}
	}
}

// stopped says how a round ends that was told to stop.
func (r *Rounds) stopped(cause error, in task.RoundInput) (task.RoundResult, error) {
	switch {
	case errors.Is(cause, errCancelled):
		return task.RoundResult{}, temporal.NewCanceledError()
	case errors.Is(cause, errTimeout):
		return task.RoundResult{Error: &task.RPCError{
			Code:    task.CodeInternalError,
			Message: fmt.Sprintf("the tool did not end within its timeout of %s and was cancelled", in.Policy.Timeout()),
		}}, nil
	case errors.Is(cause, errStopping):
		return task.RoundResult{}, temporal.NewApplicationErrorWithOptions("the worker is stopping; the round will be run again", "WorkerStopping",
			temporal.ApplicationErrorOptions{NextRetryDelay: againAfter})
	default:
		return task.RoundResult{}, cause
	}
}

// lost says how a round ends whose upstream went away.
//
//   - The tool may be run again: an error, upon which Temporal retries.
//   - It was never reached: a plain failure, nothing has happened.
//   - It may not, and was called: nobody can tell what happened.
func (r *Rounds) lost(ctx context.Context, lost *upstream.LostError, p task.Policy, b *beat) (task.RoundResult, error) {
	switch {
	case p.Retry:
		losses := b.upstreamLost(ctx)
		if losses >= maxAttempts {
			return failure(fmt.Sprintf("gave up after %d attempts: %s", losses, lost.Error())), nil
		}
		return task.RoundResult{}, temporal.NewApplicationErrorWithOptions(lost.Error(), "UpstreamLost",
			temporal.ApplicationErrorOptions{Cause: lost, NextRetryDelay: pause(losses)})
	case !lost.Sent:
		return failure(lost.Error()), nil
	default:
		return task.RoundResult{Unknown: "The outcome is unknown: " + lost.Error() +
			". The tool may not be run twice, so it was not called again."}, nil
	}
}

// pause is the wait after the nth loss of the upstream.
func pause(n int) time.Duration { return againAfter << (n - 1) }

func failure(message string) task.RoundResult {
	return task.RoundResult{Error: &task.RPCError{Code: task.CodeInternalError, Message: message}}
}

// deliver reports the end of the round until Temporal has it or does not want
// it, at the latest until the round's deadline, at which Temporal ends it.
func (r *Rounds) deliver(ctx context.Context, info activity.Info, result task.RoundResult, failed error, log *slog.Logger) {
	if errors.Is(failed, errAbandoned) || errors.Is(failed, errExpired) {
		return
	}
	if !info.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, info.Deadline)
		defer cancel()
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		select {
		case r.deliveries <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := r.complete(ctx, info.TaskToken, result, failed)
		<-r.deliveries
		if err == nil || isGone(err) {
			return
		}
		log.Warn("could not report the end of a round, trying again", "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Rounds) complete(ctx context.Context, token []byte, result task.RoundResult, failed error) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	if failed != nil {
		return r.temporal.CompleteActivity(ctx, token, nil, failed)
	}
	return r.temporal.CompleteActivity(ctx, token, result, nil)
}

// isGone reports whether Temporal no longer knows the round: it was completed,
// it timed out, or its workflow is closed.
func isGone(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound)
}
