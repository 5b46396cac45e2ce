package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/longhaul-mcp/longhaul/task"
)

// againAfter is when a reclaimed round runs again. Its next delay would be
// longer with every process that was killed under it, which is not its fault.
const againAfter = time.Second

// Reclaim gives up the running rounds of workers known to be dead, by their
// identity, and returns how many. The namespace is c's own, which a client
// does not tell. A round that may be run again is, a second later; any other
// ends its task with an unknown outcome. Without Reclaim the same happens when
// the rounds' heartbeats time out.
//
// It is for a process that starts where another was killed and that knows
// there is no third one. It looks at every open task.
func Reclaim(ctx context.Context, c client.Client, namespace string, dead func(identity string) bool) (int, error) {
	var reclaimed atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	err := eachOpenTask(ctx, c, func(w *workflowpb.WorkflowExecutionInfo) {
		g.Go(func() error {
			n, err := reclaim(ctx, c, namespace, w, dead)
			reclaimed.Add(int64(n))
			return err
		})
	})
	err = errors.Join(g.Wait(), err)
	return int(reclaimed.Load()), err
}

func eachOpenTask(ctx context.Context, c client.Client, f func(*workflowpb.WorkflowExecutionInfo)) error {
	var token []byte
	for {
		page, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query:         `ExecutionStatus = 'Running' AND WorkflowType IN ('` + task.WorkflowTask + `', '` + task.WorkflowCall + `')`,
			PageSize:      1000,
			NextPageToken: token,
		})
		if err != nil {
			return err
		}
		for _, w := range page.GetExecutions() {
			f(w)
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return nil
		}
	}
}

func reclaim(ctx context.Context, c client.Client, namespace string, w *workflowpb.WorkflowExecutionInfo, dead func(string) bool) (int, error) {
	id, run := w.GetExecution().GetWorkflowId(), w.GetExecution().GetRunId()
	d, err := c.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return 0, ignoreNotFound(err)
	}
	n := 0
	for _, a := range d.GetPendingActivities() {
		if a.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED || !dead(a.GetLastWorkerIdentity()) {
			continue
		}
		lost := temporal.NewApplicationErrorWithOptions("the process that ran the tool was killed", "WorkerLost",
			temporal.ApplicationErrorOptions{NextRetryDelay: againAfter})
		err := c.CompleteActivityByID(ctx, namespace, id, run, a.GetActivityId(), nil, lost)
		if err := ignoreNotFound(err); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// ignoreNotFound: what is gone needs no reclaiming.
func ignoreNotFound(err error) error {
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return nil
	}
	return err
}
