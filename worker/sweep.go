package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdk "go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul/task"
)

// Sweeper deletes expired tasks. It goes on at from, tells beat how far it has
// come, and ends with ctx.
type Sweeper func(ctx context.Context, in task.SweepRange, from task.SweepBeat, beat func(task.SweepBeat)) (task.SweepResult, error)

// scheduleTimeout bounds the time that a start waits for the schedule.
const scheduleTimeout = 10 * time.Second

// registerSweep makes an activity of sweep.
func registerSweep(r sdk.ActivityRegistry, sweep Sweeper, log *slog.Logger) {
	run := func(ctx context.Context, in task.SweepRange) (task.SweepResult, error) {
		var from task.SweepBeat
		if activity.HasHeartbeatDetails(ctx) {
			_ = activity.GetHeartbeatDetails(ctx, &from) // unreadable: from the beginning
		}
		stopping := activity.GetWorkerStopChannel(ctx)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		result, err := sweep(ctx, in, from, func(at task.SweepBeat) {
			activity.RecordHeartbeat(ctx, at)
			select {
			case <-stopping:
				cancel() // Another worker goes on.
			default:
			}
		})
		if result.Deleted > 0 {
			log.Info("expired tasks were deleted", "tasks", result.Deleted)
		}
		return result, err
	}
	r.RegisterActivityWithOptions(run, activity.RegisterOptions{Name: task.ActivitySweep})
}

// scheduleSweeps makes the schedule of the task queue's sweeps, or gives the
// one there is these times. Any number of workers may do so; whoever is last
// has its way. A schedule that an operator has paused stays so.
func scheduleSweeps(ctx context.Context, c client.Client, taskQueue string, every, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleTimeout)
	defer cancel()
	id := task.SweepPrefix + taskQueue
	want := client.ScheduleOptions{
		ID:            id,
		Spec:          client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}},
		Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		CatchupWindow: time.Minute, // One is like the other.
		Action: &client.ScheduleWorkflowAction{
			ID:                       id,
			Workflow:                 task.WorkflowSweep,
			Args:                     []any{task.SweepInput{GraceMillis: grace.Milliseconds()}},
			TaskQueue:                taskQueue,
			WorkflowExecutionTimeout: time.Hour,
			StaticSummary:            "Delete expired tasks",
		},
	}
	_, err := c.ScheduleClient().Create(ctx, want)
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		err = c.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
			DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
				s := in.Description.Schedule
				s.Spec, s.Action = &want.Spec, want.Action
				s.Policy = &client.SchedulePolicies{Overlap: want.Overlap, CatchupWindow: want.CatchupWindow}
				return &client.ScheduleUpdate{Schedule: &s}, nil
			},
		})
	}
	if err != nil {
		return fmt.Errorf("schedule %s: %w", id, err)
	}
	return nil
}
