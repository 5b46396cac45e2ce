package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/worker"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// asks is a tool that asks for input and ends without it.
func asks(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"sure": &mcp.ElicitParams{
		Message: "Sure?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`),
	}}}, nil
}

// twice is a workflow function that ends in its second run.
func twice(_ workflow.Context, arguments json.RawMessage) (task.RoundResult, error) {
	if string(arguments) == "{}" {
		return task.RoundResult{}, workflows.ContinueAsNew(json.RawMessage(`{"again":true}`))
	}
	return task.RoundResult{Result: json.RawMessage(`{"content":[]}`)}, nil
}

func TestSweepBySchedule(t *testing.T) {
	c := temporaltest.Dial(t, temporalAddr)
	operator, err := engine.NewOperator(engine.OperatorOptions{Client: c, TaskQueue: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	sweeps := func(grace time.Duration) func(*worker.Options) {
		return func(o *worker.Options) {
			o.Upstream = serve(t, "", asks)
			o.Functions = map[string]workflows.Function{"twice": twice}
			o.Sweep, o.SweepInterval, o.Grace = operator.Sweep, time.Hour, grace
		}
	}
	e := setup(t, sweeps(time.Hour))
	setup(t, sweeps(time.Millisecond))

	schedule := c.ScheduleClient().GetHandle(t.Context(), task.SweepPrefix+t.Name())
	t.Run("there is one for all workers, and the last of them has its way", func(t *testing.T) {
		d, err := schedule.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		action := d.Schedule.Action.(*client.ScheduleWorkflowAction)
		var in task.SweepInput
		if err := converter.GetDefaultDataConverter().FromPayload(action.Args[0].(*commonpb.Payload), &in); err != nil {
			t.Fatal(err)
		}
		if in.Grace() != time.Millisecond || len(d.Schedule.Spec.Intervals) != 1 || d.Schedule.Spec.Intervals[0].Every != time.Hour {
			t.Errorf("grace %s, every %v", in.Grace(), d.Schedule.Spec.Intervals)
		}
	})

	create := func(ttl time.Duration, change func(*task.CreateRequest)) string {
		t.Helper()
		r := task.CreateRequest{
			Owner: owner, Tool: "tool", TTL: ttl, Capabilities: json.RawMessage(`{"elicitation":{}}`), Arguments: json.RawMessage(`{}`),
		}
		change(&r)
		created, err := e.Create(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.GetWorkflow(t.Context(), created.ID, "").Get(t.Context(), nil) // ends one way or another
		return created.ID
	}
	plain := func(*task.CreateRequest) {}
	const brief = 500 * time.Millisecond
	expired := []string{
		create(brief, func(r *task.CreateRequest) { r.HeldID = "sweep-by-schedule" }),
		create(brief, func(r *task.CreateRequest) { r.Workflow = "twice" }),
		create(brief, plain), // ends only when its time is over, as the others' was before
	}
	kept := create(time.Hour, func(r *task.CreateRequest) { r.Workflow = "twice" })

	runs := func(id, and string) int {
		t.Helper()
		resp, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf(`WorkflowId = "%s" AND ExecutionStatus %s`, id, and),
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(resp.GetExecutions())
	}
	for i, id := range expired {
		eventually(t, func() bool { return runs(id, "!= 'Running'") == []int{1, 2, 1}[i] })
	}
	if err := schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range expired {
		eventually(t, func() bool {
			var gone *serviceerror.NotFound
			_, err := c.DescribeWorkflowExecution(t.Context(), id, "")
			return errors.As(err, &gone) && runs(id, "!= 'Unspecified'") == 0
		})
	}
	if _, err := c.DescribeWorkflowExecution(t.Context(), kept, ""); err != nil || runs(kept, "!= 'Running'") != 2 {
		t.Errorf("one whose time is not over: %v", err)
	}
}

// eventually asks until the answer is yes, for what Temporal does a little
// later and tells nobody.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not yet")
		}
	}
}
