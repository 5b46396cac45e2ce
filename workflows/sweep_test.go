package workflows_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

func TestSweepTellsTheTimeByTemporal(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(patient)
	env.SetStartTime(epoch)
	workflows.Register(env, nil)
	var got task.SweepRange
	env.RegisterActivityWithOptions(func(_ context.Context, in task.SweepRange) (task.SweepResult, error) {
		got = in
		return task.SweepResult{Deleted: 2}, nil
	}, activity.RegisterOptions{Name: task.ActivitySweep})
	env.ExecuteWorkflow(task.WorkflowSweep, task.SweepInput{GraceMillis: time.Minute.Milliseconds()})
	var result task.SweepResult
	if err := env.GetWorkflowResult(&result); err != nil || result.Deleted != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	if !got.ExpiredBefore.Equal(epoch.Add(-time.Minute)) || !got.SweptBefore.Equal(epoch.Add(-time.Hour)) {
		t.Errorf("%+v", got)
	}
}
