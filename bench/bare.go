package main

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
)

// roleBare is the work of a task without Longhaul: a client and a worker of the
// Temporal SDK, as its own samples put them together, with a workflow of one
// activity. Its requests after the first are rounds of one kind of workflow.
const roleBare = "bare"

// bareRound is a round of [roleBare].
type bareRound struct {
	round
	Workflow string
}

// bareSample is what a round of [roleBare] has shown, and how many requests
// Temporal has had so far.
type bareSample struct {
	sample
	Requests int64
}

// The workflows of [roleBare]: one with an activity, and one with a local
// activity, which Temporal does not know of before it has ended.
const (
	workflowActivity      = "activity"
	workflowLocalActivity = "local activity"
)

// place is where the workflows of a process are.
type place struct {
	TemporalAddr string
	TaskQueue    string
}

// dial connects as Longhaul does to a Temporal on this machine: without the
// SDK's compression, so that it is not a difference between the sides.
func (p place) dial(ctx context.Context, interceptors ...grpc.UnaryClientInterceptor) (client.Client, error) {
	return client.DialContext(ctx, client.Options{
		HostPort: p.TemporalAddr,
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{
			GrpcCompression: &client.GrpcCompressionNone{},
			DialOptions:     []grpc.DialOption{grpc.WithChainUnaryInterceptor(interceptors...)},
		},
	})
}

// requests counts what a process asks of Temporal, but for the polls of its
// worker: how many of those there are depends on how long they wait.
type requests struct{ n atomic.Int64 }

func (r *requests) intercept(ctx context.Context, method string, request, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	if !strings.Contains(method, "/Poll") {
		r.n.Add(1)
	}
	return invoke(ctx, method, request, reply, c, o...)
}

// startBare starts a worker of both workflows, which have do for an activity,
// and returns its client.
func startBare(ctx context.Context, at place, do func(context.Context, string) (string, error), interceptors ...grpc.UnaryClientInterceptor) (c client.Client, stop func(), err error) {
	if c, err = at.dial(ctx, interceptors...); err != nil {
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
	}, workflow.RegisterOptions{Name: workflowActivity})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
		err = workflow.ExecuteLocalActivity(ctx, "do", in).Get(ctx, &out)
		return out, err
	}, workflow.RegisterOptions{Name: workflowLocalActivity})
	if err := w.Start(); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, func() { w.Stop(); c.Close() }, nil
}

// execute starts one of the workflows.
func (p place) execute(ctx context.Context, c client.Client, workflow, in string) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: uuid.NewString(), TaskQueue: p.TaskQueue, EnableEagerStart: true,
	}, workflow, in)
}

func runBare(ctx context.Context, r *role) error {
	var at place
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	var count requests
	c, stop, err := startBare(ctx, at, func(context.Context, string) (string, error) { return "done", nil }, count.intercept)
	if err != nil {
		return err
	}
	defer stop()
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	return serve(r, func(n bareRound) (bareSample, error) {
		made, err := measure(n.round, func() (string, error) {
			run, err := at.execute(ctx, c, n.Workflow, "{}")
			if err != nil {
				return "", err
			}
			return run.GetID(), run.Get(ctx, nil)
		})
		return bareSample{made, count.n.Load()}, err
	})
}
