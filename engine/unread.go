package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

// answeredFor is how long an answer is remembered that Temporal may be holding
// back: it adds a signal to the history only after the workflow task that a
// worker has taken, and a worker that dies keeps one for three seconds.
const (
	answeredFor = 5 * time.Second
	maxAnswered = 10_000
)

// answer is one that was recorded.
type answer struct{ id, key string }

// anticipate takes the answers into r that no worker has taken in yet, as the
// workflow will do: whoever gave one is not to be asked again only because a
// worker is away, and whoever gave one that was refused not until the worker has
// made the request again, under another key. It is errTakenIn if a worker has come since r was described,
// and taken in answers that r does not show.
func (e *Engine) anticipate(ctx context.Context, r *reading) error {
	if len(r.state.Inputs) == 0 {
		return nil
	}
	m := task.Machine{State: r.state}
	take := func(at time.Time, key string, refused bool) {
		rev := m.State.Rev
		if m.Answer(at, key, nil); refused {
			m.State.Rev = rev // the next is that in which the request is made again
		}
	}
	signals, err := e.unread(ctx, r)
	switch {
	case errors.Is(err, errTakenIn):
		return err
	case err != nil:
		return translate(err)
	}
	for _, event := range slices.Backward(signals) {
		a := event.GetWorkflowExecutionSignaledEventAttributes()
		if a.GetSignalName() != task.SignalInput {
			continue
		}
		var s task.InputSignal
		if err := e.o.DataConverter.FromPayloads(a.GetInput(), &s); err != nil {
			e.o.Logger.Debug("an answer to a task cannot be read", "task_id", r.id, "error", err)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(s.Responses)) {
			take(event.GetEventTime().AsTime(), key, s.Refused[key] != "")
		}
	}
	for _, in := range slices.Clone(m.State.Inputs) {
		if refused, ok := e.answered.get(answer{r.id, in.Key}); ok {
			take(e.o.Now(), in.Key, refused)
		}
	}
	r.state = m.State
	return nil
}

var errTakenIn = errors.New("a worker has taken the signals in")

// unread are the signals since the last workflow task, the newest first, or
// errTakenIn if there has been another one since r was described.
func (e *Engine) unread(ctx context.Context, r *reading) ([]*historypb.HistoryEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var signals []*historypb.HistoryEvent
	var token []byte
	for {
		resp, err := e.client.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
			Namespace:     e.o.Namespace,
			Execution:     &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.runID},
			NextPageToken: token,
		})
		if err != nil {
			return nil, err
		}
		for _, event := range resp.GetHistory().GetEvents() {
			switch event.GetEventType() {
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
				signals = append(signals, event)
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
				if event.GetEventId() > r.events {
					return nil, errTakenIn
				}
				return signals, nil
			}
		}
		if token = resp.GetNextPageToken(); len(token) == 0 {
			return signals, nil
		}
	}
}
