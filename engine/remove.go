package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

// remove deletes an ended task with all there is of it. Nothing else in
// Longhaul deletes one. Temporal carries it out some time later.
func (e *Engine) remove(ctx context.Context, r *reading, runs []*workflowpb.WorkflowExecutionInfo) error {
	for _, run := range runs {
		if err := e.removeRun(ctx, run.GetExecution()); err != nil {
			return err
		}
	}
	// The newest goes last: without it nobody finds the others.
	if err := e.removeRun(ctx, &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.runID}); err != nil {
		return err
	}
	e.forget(ctx, claimSet(r.id, r.card))
	for _, run := range runs {
		if earlier, err := e.decode(run); err == nil && !earlier.card.CreatedAt.Equal(r.card.CreatedAt) {
			e.forget(ctx, claimSet(r.id, earlier.card))
		}
	}
	return nil
}

// removeRun deletes one run. One that is gone is no error.
func (e *Engine) removeRun(ctx context.Context, run *commonpb.WorkflowExecution) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := e.client.WorkflowService().DeleteWorkflowExecution(ctx, &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace:         e.o.Namespace,
		WorkflowExecution: run,
	})
	if err := translate(err); err != nil && !errors.Is(err, task.ErrNotFound) {
		return err
	}
	return nil
}

// earlierRuns are the runs before r under its ID, the oldest first: those that
// continued as new, and the calls whose ID a held call uses again. What runs
// under the ID by now is none of them.
func (e *Engine) earlierRuns(ctx context.Context, r *reading) ([]*workflowpb.WorkflowExecutionInfo, error) {
	query := "WorkflowId = " + quote(r.id) // IDs are not always ours
	var runs []*workflowpb.WorkflowExecutionInfo
	for token, more := []byte(nil), true; more; more = len(token) > 0 {
		infos, next, err := e.visible(ctx, query, 0, token)
		if err != nil {
			return nil, unavailable(err)
		}
		for _, info := range infos {
			if info.GetExecution().GetRunId() != r.runID && info.GetStartTime().AsTime().Before(r.startedAt) {
				runs = append(runs, info)
			}
		}
		token = next
	}
	slices.SortFunc(runs, func(a, b *workflowpb.WorkflowExecutionInfo) int {
		return a.GetStartTime().AsTime().Compare(b.GetStartTime().AsTime())
	})
	return runs, nil
}

// began is when the first of a task's runs did, by Temporal's clock.
func (r *reading) began(earlier []*workflowpb.WorkflowExecutionInfo) time.Time {
	began := r.startedAt
	for _, run := range slices.Backward(earlier) {
		if run.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			break // another call's
		}
		began = run.GetStartTime().AsTime()
	}
	return began
}

// visible is a page of the workflows that match a query.
func (e *Engine) visible(ctx context.Context, query string, size int, token []byte) (_ []*workflowpb.WorkflowExecutionInfo, next []byte, _ error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	resp, err := e.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace:     e.o.Namespace,
		PageSize:      int32(size),
		NextPageToken: token,
		Query:         query,
	})
	return resp.GetExecutions(), resp.GetNextPageToken(), err
}
