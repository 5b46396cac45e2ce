package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// roleBare is the work of a task without Longhaul: a client and a worker of the
// Temporal SDK, as its own samples put them together, with a workflow of one
// activity. Its requests after the first are rounds.
const roleBare = "bare"

// place is where the workflows of a process are.
type place struct {
	TemporalAddr string
	TaskQueue    string
}

func (p place) dial(ctx context.Context) (client.Client, error) {
	return client.DialContext(ctx, client.Options{
		HostPort: p.TemporalAddr,
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
}

// startBare starts a worker of the workflow "bare", which has do for an
// activity, and returns its client.
func startBare(ctx context.Context, at place, do func(context.Context, string) (string, error)) (c client.Client, stop func(), err error) {
	if c, err = at.dial(ctx); err != nil {
		return nil, nil, err
	}
	w := worker.New(c, at.TaskQueue, worker.Options{
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
	})
	w.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: "do"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		err = workflow.ExecuteActivity(ctx, "do", in).Get(ctx, &out)
		return out, err
	}, workflow.RegisterOptions{Name: "bare"})
	if err := w.Start(); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, func() { w.Stop(); c.Close() }, nil
}

// executeBare starts the workflow "bare".
func (p place) executeBare(ctx context.Context, c client.Client, in string) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: uuid.NewString(), TaskQueue: p.TaskQueue, EnableEagerStart: true,
	}, "bare", in)
}

func runBare(ctx context.Context, r *role) error {
	var at place
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	c, stop, err := startBare(ctx, at, func(context.Context, string) (string, error) { return "done", nil })
	if err != nil {
		return err
	}
	defer stop()
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	return serve(r, func(n round) (sample, error) {
		return measure(n, func() (string, error) {
			run, err := at.executeBare(ctx, c, "{}")
			if err != nil {
				return "", err
			}
			return run.GetID(), run.Get(ctx, nil)
		})
	})
}
