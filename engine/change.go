package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/task"
)

// maxReason bounds the reason for a cancel, in bytes as encoded: it becomes
// part of the workflow's memo.
const maxReason = 1 << 10

func cancelSignal(reason string) task.CancelSignal {
	return task.CancelSignal{Reason: clipEncoded(reason, maxReason)}
}

// Answer implements [task.Service]. The answers are recorded, durably, when it
// returns; they are taken in when a worker gets to it. One that is not
// acceptable is recorded as such, and its request is made again.
func (e *Engine) Answer(ctx context.Context, ref task.Ref, responses map[string]json.RawMessage) error {
	r, err := e.describeOwned(ctx, ref)
	if err != nil {
		return err
	}
	if r.ended() {
		return task.ErrTerminal
	}
	signal := task.InputSignal{Responses: responses, Refused: refusals(r.state.Inputs, responses)}
	if err := fits("responses", signal); err != nil {
		return err
	}
	if err := e.signal(ctx, ref, task.SignalInput, signal); err != nil {
		return err
	}
	//failpoint:answer-recorded
	for _, in := range r.state.Inputs {
		if _, ok := responses[in.Key]; ok {
			e.answered.put(answer{r.id, in.Key}, signal.Refused[in.Key] != "")
		}
	}
	return nil
}

// refusals are the responses that are not acceptable, with the reason. Those to
// requests that are not outstanding are ignored anyway.
func refusals(inputs []task.InputRequest, responses map[string]json.RawMessage) map[string]string {
	var refused map[string]string
	for _, in := range inputs {
		response, ok := responses[in.Key]
		if !ok {
			continue
		}
		if reason := verdict(in, response); reason != "" {
			if refused == nil {
				refused = make(map[string]string)
			}
			refused[in.Key] = reason
		}
	}
	return refused
}

// Cancel implements [task.Service]. If no worker takes the request in within
// two seconds, the workflow is terminated, which cancels the task as well.
func (e *Engine) Cancel(ctx context.Context, ref task.Ref, reason string) (*task.Task, error) {
	r, err := e.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	if r.ended() {
		return r.task(), task.ErrTerminal
	}
	if r, err = e.cancel(ctx, ref, reason); err != nil {
		return nil, err
	}
	if err := e.settle(ctx, r); err != nil {
		return nil, err
	}
	t := r.task()
	if !t.Status.Terminal() {
		return nil, fmt.Errorf("%w: the task did not stop in time", task.ErrUnavailable)
	}
	return t, nil
}

// RequestCancel implements [task.Service]. It waits for a worker, or for the
// lack of one, as Cancel does.
func (e *Engine) RequestCancel(ctx context.Context, ref task.Ref, reason string) error {
	r, err := e.describeOwned(ctx, ref)
	if err != nil || r.ended() {
		return err
	}
	_, err = e.cancel(ctx, ref, reason)
	return err
}

// cancel tells a task to end and returns when it has, or was terminated.
func (e *Engine) cancel(ctx context.Context, ref task.Ref, reason string) (*reading, error) {
	err := e.signal(ctx, ref, task.SignalCancel, cancelSignal(reason))
	if err != nil && !errors.Is(err, task.ErrTerminal) {
		return nil, err
	}
	//failpoint:cancel-recorded
	r, err := e.awaitEnd(ctx, ref)
	if err != nil || r.ended() {
		return r, err
	}
	if err := e.terminate(ctx, r); err != nil {
		return nil, err
	}
	return e.describeKnown(ctx, ref)
}

// signal sends a signal to a task that was there a moment ago. It is
// [task.ErrTerminal] if the task has ended since.
func (e *Engine) signal(ctx context.Context, ref task.Ref, name string, payload any) error {
	signalCtx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	sent := e.watches.write(ref.ID)
	err := translate(e.client.SignalWorkflow(signalCtx, ref.ID, "", name, payload))
	sent()
	if !errors.Is(err, task.ErrNotFound) {
		return err
	}
	// Temporal says "not found" of a closed workflow too.
	if _, err := e.describeKnown(ctx, ref); err != nil {
		return err
	}
	return task.ErrTerminal
}

// awaitEnd reads a task that was told to end until it has, or until a worker
// has had its time to do it. A query waits for the workflow task that takes
// the signal in, so there is little to poll.
func (e *Engine) awaitEnd(ctx context.Context, ref task.Ref) (*reading, error) {
	patience, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	pause := time.NewTicker(40 * time.Millisecond)
	defer pause.Stop()
	for {
		r, err := e.describeKnown(ctx, ref)
		if err != nil {
			return nil, err
		}
		if r.pending != nil && !r.ended() {
			// An answer that does not come leaves the state as described.
			if err := e.queryState(patience, r, cancelTimeout); err != nil {
				e.o.Logger.Debug("no answer from a task that was told to end", "task_id", r.id, "error", err)
			}
			e.watches.saw(r)
		}
		if r.ended() {
			return r, nil
		}
		select {
		case <-patience.Done():
			return r, ctx.Err()
		case <-pause.C:
		}
	}
}

func (e *Engine) terminate(ctx context.Context, r *reading) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	e.o.Logger.Info("no worker took in a cancel; terminating", "task_id", r.id, "tool", r.card.Tool, "run_id", r.runID)
	defer e.watches.write(r.id)()
	err := translate(e.client.TerminateWorkflowWithOptions(ctx, client.TerminateWorkflowOptions{
		WorkflowID:          r.id,
		FirstExecutionRunID: r.firstRun,
		Reason:              fmt.Sprintf("cancelled by request; no worker acted on it within %s", cancelTimeout),
	}))
	if errors.Is(err, task.ErrNotFound) {
		return nil // it ended by itself
	}
	return err
}

// Delete implements [task.Service]. Temporal carries a deletion out some time
// later; this process does not find the task any more from now on.
func (e *Engine) Delete(ctx context.Context, ref task.Ref) error {
	r, err := e.describeOwned(ctx, ref)
	if err != nil {
		return err
	}
	if !r.closed() {
		return task.ErrRunning
	}
	earlier, err := e.earlierRuns(ctx, r)
	if err != nil {
		return err
	}
	defer e.watches.write(r.id)()
	if err := e.remove(ctx, r, earlier); err != nil {
		return err
	}
	e.deleted.put(r.id, struct{}{})
	e.outcomes.forget(r.id, e.o.Now())
	return nil
}
