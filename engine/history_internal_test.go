package engine

import (
	"encoding/json"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestLastRound(t *testing.T) {
	dc := converter.GetDefaultDataConverter()
	scheduled := func(id int64, activity string) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{
			EventId: id, EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
			Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
				ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
					ActivityType: &commonpb.ActivityType{Name: activity},
				},
			},
		}
	}
	completed := func(scheduled int64, result any) *historypb.HistoryEvent {
		payloads, err := dc.ToPayloads(result)
		if err != nil {
			t.Fatal(err)
		}
		return &historypb.HistoryEvent{
			EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
			Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
				ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{
					ScheduledEventId: scheduled, Result: payloads,
				},
			},
		}
	}
	result := task.RoundResult{Result: json.RawMessage(`{"content":[]}`)}
	asks := task.RoundResult{NeedsInput: true, RequestState: "state"}
	type events []*historypb.HistoryEvent
	for name, c := range map[string]struct {
		polls []events
		final bool
	}{
		"runs":            {[]events{{scheduled(5, task.ActivityRound)}}, false},
		"had a result":    {[]events{{scheduled(5, task.ActivityRound)}, {completed(5, result)}}, true},
		"is all there is": {[]events{{scheduled(5, task.ActivityRound), completed(5, result)}}, true},
		"had an error":    {[]events{{scheduled(5, task.ActivityRound), completed(5, task.RoundResult{Error: &task.RPCError{Code: 1}})}}, true},
		"asks":            {[]events{{scheduled(5, task.ActivityRound), completed(5, asks)}}, false},
		"asks, and another had a result": {[]events{
			{scheduled(5, task.ActivityRound)}, {completed(5, asks)}, {scheduled(11, task.ActivityRound)}, {completed(11, result)},
		}, true},
		"is a step of a function": {[]events{{scheduled(5, "build")}, {completed(5, result)}}, false},
		"is not to be read":       {[]events{{scheduled(5, task.ActivityRound)}, {completed(5, "all is well")}}, false},
	} {
		var last lastRound
		for _, events := range c.polls {
			last.take(events, dc)
		}
		if last.final != c.final {
			t.Errorf("a round that %s: final is %t", name, last.final)
		}
	}
}

// A run that goes on with a task does not show in its own events what the task
// has come to before.
func TestRunThatGoesOnChangesState(t *testing.T) {
	started := func(after string) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{
			EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
			Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
				WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{ContinuedExecutionRunId: after},
			},
		}
	}
	if changesState(started("")) {
		t.Error("a task is in another state at its creation than it was created in")
	}
	if !changesState(started("3f2c5f1e-8f5d-4c59-a11b-0d6f1a2b3c4d")) {
		t.Error("a task is as it was created when it goes on in another run")
	}
}
