package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	sdk "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/task"
)

// workflowsOf are the IDs of all workflows that are tasks or held calls.
func workflowsOf(ctx context.Context, c sdk.Client, query string) (ids []string, err error) {
	query = fmt.Sprintf("WorkflowType IN ('%s', '%s')%s", task.WorkflowTask, task.WorkflowCall, query)
	var token []byte
	for {
		page, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, NextPageToken: token, PageSize: 1000})
		if err != nil {
			return nil, err
		}
		for _, e := range page.GetExecutions() {
			ids = append(ids, e.GetExecution().GetWorkflowId())
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return ids, nil
		}
	}
}

// readers is how many histories are read at once.
const readers = 8

// readHistories reads the histories of workflows.
func readHistories(ctx context.Context, c sdk.Client, ids []string) ([]History, error) {
	histories, errs := make([]History, len(ids)), make([]error, len(ids))
	next := make(chan int)
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for i := range next {
				histories[i], errs[i] = readHistory(ctx, c, ids[i])
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	reading.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("the history of %s: %w", ids[i], err)
		}
	}
	return histories, nil
}

func readHistory(ctx context.Context, c sdk.Client, id string) (History, error) {
	h := History{ID: id}
	events := c.GetWorkflowHistory(ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return h, err
		}
		h.Events++
		if err := h.take(e); err != nil {
			return h, fmt.Errorf("event %d: %w", e.GetEventId(), err)
		}
	}
	return h, nil
}

var closings = map[enums.EventType]string{
	enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:  "Completed",
	enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:     "Failed",
	enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:   "Canceled",
	enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "Terminated",
	enums.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:  "TimedOut",
}

// take takes in an event.
func (h *History) take(e *history.HistoryEvent) error {
	if closed, ok := closings[e.GetEventType()]; ok {
		h.Closed, h.ClosedAt = closed, e.GetEventTime().AsTime()
	}
	payloads := converter.GetDefaultDataConverter()
	switch {
	case e.GetWorkflowExecutionStartedEventAttributes() != nil:
		a := e.GetWorkflowExecutionStartedEventAttributes()
		h.Type = a.GetWorkflowType().GetName()
		var in task.StartInput
		if err := payloads.FromPayloads(a.GetInput(), &in); err != nil {
			return err
		}
		var call struct{ Label string }
		err := json.Unmarshal(in.Arguments, &call)
		h.Label = call.Label
		return err
	case e.GetWorkflowExecutionSignaledEventAttributes() != nil:
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		if a.GetSignalName() == task.SignalCancel {
			h.Cancels++
			return nil
		}
		var s task.InputSignal
		if err := payloads.FromPayloads(a.GetInput(), &s); err != nil {
			return err
		}
		for key, answer := range s.Responses {
			h.Answers = append(h.Answers, RecordedAnswer{Key: key, Answer: answer, Refused: s.Refused[key] != ""})
		}
	case e.GetWorkflowExecutionUpdateAcceptedEventAttributes() != nil:
		h.Unfinished++
	case e.GetWorkflowExecutionUpdateCompletedEventAttributes() != nil:
		h.Unfinished--
	case e.GetWorkflowTaskFailedEventAttributes() != nil:
		a := e.GetWorkflowTaskFailedEventAttributes()
		switch a.GetCause() {
		case enums.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
			enums.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE:
			h.Failures = append(h.Failures, a.GetCause().String()+": "+a.GetFailure().GetMessage())
		}
	}
	return nil
}
