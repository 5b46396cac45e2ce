package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
)

// sweepsKept is how long ended sweeps can be looked at: each deletes those
// before it, which would otherwise stay for as long as tasks may.
const sweepsKept = time.Hour

// sweep deletes the tasks whose time and grace are over, by Temporal's clock.
func sweep(ctx workflow.Context, in task.SweepInput) (task.SweepResult, error) {
	now := workflow.Now(ctx)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		// An attempt goes on where the one before was. What is not done after all
		// of them is left to the next sweep.
		StartToCloseTimeout: 10 * time.Minute,
		HeartbeatTimeout:    time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    time.Minute,
			MaximumAttempts:    10,
		},
	})
	var result task.SweepResult
	err := workflow.ExecuteActivity(ctx, task.ActivitySweep, task.SweepRange{
		ExpiredBefore: now.Add(-in.Grace()),
		SweptBefore:   now.Add(-sweepsKept),
	}).Get(ctx, &result)
	return result, err
}
