package engine

import (
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/task"
)

// What a watch reads out of the events of a workflow's history.

// conclusion is how a task ended, as the last events of its history say.
type conclusion struct {
	outcome *task.Outcome
	at      time.Time // by Temporal's clock
	// began and seen are when the poll did that found it, and when it had.
	began, seen time.Time
	// plain: a success of which nothing is in the memo that the close event does
	// not say.
	plain bool
}

func (c *conclusion) isPlain() bool { return c != nil && c.plain }

// conclusion is nil if the outcome has to be read.
func (h *hub) conclusion(w *watch, events []*historypb.HistoryEvent, began time.Time) *conclusion {
	if len(events) == 0 {
		return nil
	}
	before, last := events[:len(events)-1], events[len(events)-1]
	o, err := h.e.outcomeIn(last)
	if err != nil {
		h.e.o.Logger.Debug("a close event cannot be read", "task_id", w.id, "error", err)
	}
	if o == nil {
		return nil
	}
	return &conclusion{
		outcome: o,
		at:      last.GetEventTime().AsTime(),
		began:   began,
		seen:    h.e.o.Now(),
		plain: last.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED &&
			!o.IsError && o.ResultClaim == nil && !slices.ContainsFunc(before, changesState),
	}
}

// lastRound is the last round in a history.
type lastRound struct {
	scheduled int64 // the event that scheduled it
	final     bool  // it has ended, and with it will the task
}

// take takes in the events that come next.
func (l *lastRound) take(events []*historypb.HistoryEvent, dc converter.DataConverter) {
	for _, event := range events {
		switch event.GetEventType() {
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			if event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == task.ActivityRound {
				*l = lastRound{scheduled: event.GetEventId()}
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			completed := event.GetActivityTaskCompletedEventAttributes()
			if completed.GetScheduledEventId() != l.scheduled {
				continue // a step of a workflow function
			}
			var result task.RoundResult
			// What cannot be read is nothing to rely on.
			l.final = dc.FromPayloads(completed.GetResult(), &result) == nil && result.Ends()
		}
	}
}

// changesState reports whether a task may be in another state after the event
// than before it, or at its creation: it changed the memo, closed the workflow,
// or began a run with what another one has left.
func changesState(event *historypb.HistoryEvent) bool {
	switch event.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		return event.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId() != ""
	case enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		return true
	default:
		return false
	}
}

// continues reports whether another run follows the one that events end.
func continues(events []*historypb.HistoryEvent) bool {
	return len(events) > 0 &&
		events[len(events)-1].GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
}
