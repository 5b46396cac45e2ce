// Package worker runs tasks: it polls a task queue and registers the
// workflows and activities on it.
package worker

import (
	"context"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul/activities"
	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// Options configure a worker. Client and Upstream are required.
type Options struct {
	Client   client.Client
	Upstream activities.Caller
	// Functions are the tools that are workflow functions, by the name that
	// [task.StartInput].Workflow has.
	Functions map[string]workflows.Function
	// Register, if not nil, registers what these functions run: activities and
	// child workflows.
	Register func(sdk.Registry)
	// Sweep, if not nil, deletes expired tasks. It is run every SweepInterval
	// (default 5 minutes), once for all workers of the task queue, and deletes
	// those whose time was over Grace ago (default 5 minutes).
	Sweep                Sweeper
	SweepInterval, Grace time.Duration
	// Claims keeps what is too large for Temporal; it is the engine's, too.
	// Default: none, then that is refused.
	Claims claims.Store
	// TaskQueue defaults to [task.DefaultTaskQueue].
	TaskQueue string
	// BuildID names the program in Temporal: a task can be reset to where the first
	// worker with a given one took it in hand. Engines that know it spare Temporal
	// work (engine.Options.BuildID). Default: a checksum of the executable.
	BuildID string
	// Identity names this worker in Temporal. Default: the client's identity.
	Identity string
	// StopTimeout is how long running rounds have to end when the worker stops.
	// Default 30 s.
	StopTimeout time.Duration
	// MaxRounds bounds the rounds run at once. Default 1000.
	MaxRounds int
	// CachedWorkflows bounds the open workflows that are kept in memory, some 80 KB
	// each: those of which something was heard last. When something happens to
	// another, its history is read and replayed first. All workers of a process
	// share them; what the first was made with holds. Default 1000, as many as
	// MaxRounds.
	CachedWorkflows int
	// OnFatal is called when the worker can no longer poll.
	OnFatal func(error)
	Logger  *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.TaskQueue == "" {
		o.TaskQueue = task.DefaultTaskQueue
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 30 * time.Second
	}
	if o.MaxRounds == 0 {
		o.MaxRounds = 1000
	}
	if o.CachedWorkflows == 0 {
		o.CachedWorkflows = 1000
	}
	if o.SweepInterval == 0 {
		o.SweepInterval = 5 * time.Minute
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Worker is a running or startable worker.
type Worker struct {
	sdk sdk.Worker
	o   Options
}

// maxWorkflowTasks is how many workflow tasks are under way at a time. Each is
// answered within milliseconds where Temporal is well; where it is short of CPU, a
// thousand answers, the default, would wait for each other for longer than the three
// seconds that a workflow task has, and all would be in vain. With such an answer the
// rounds are lost that were started by it.
const maxWorkflowTasks = 64

// New makes a worker; nothing is polled before [Worker.Start].
func New(o Options) *Worker {
	o = o.withDefaults()
	sdk.SetStickyWorkflowCacheSize(o.CachedWorkflows)
	w := sdk.New(o.Client, o.TaskQueue, sdk.Options{
		Identity:                               o.Identity,
		BuildID:                                o.BuildID, //nolint:staticcheck // what replaces it, a deployment's version, costs another row of visibility
		WorkerStopTimeout:                      o.StopTimeout,
		MaxConcurrentActivityExecutionSize:     o.MaxRounds,
		MaxConcurrentWorkflowTaskExecutionSize: maxWorkflowTasks,
		// A worker that died holds its workflows back for this long.
		StickyScheduleToStartTimeout: time.Second,
		WorkflowTaskPollerBehavior:   sdk.NewPollerBehaviorAutoscaling(sdk.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior:   sdk.NewPollerBehaviorAutoscaling(sdk.PollerBehaviorAutoscalingOptions{}),
		DisableRegistrationAliasing:  true,
		OnFatalError:                 o.OnFatal,
	})
	workflows.Register(w, o.Functions)
	if o.Register != nil {
		o.Register(w)
	}
	activities.New(o.Upstream, o.Client, o.Claims, o.Logger).Register(w)
	if o.Sweep != nil {
		registerSweep(w, o.Sweep, o.Logger)
	}
	return &Worker{w, o}
}

// Start begins to poll and returns. It fails if the namespace is not there.
func (w *Worker) Start() error {
	if err := w.sdk.Start(); err != nil || w.o.Sweep == nil {
		return err
	}
	// Tasks run without it.
	if err := scheduleSweeps(context.Background(), w.o.Client, w.o.TaskQueue, w.o.SweepInterval, w.o.Grace); err != nil {
		w.o.Logger.Warn("expired tasks will not be deleted before the namespace's retention is over: is this worker allowed to make schedules?", "error", err)
	}
	return nil
}

// Stop stops polling and waits for running rounds: those that may be run
// again end at once and are taken up by another worker, the others have
// [Options.StopTimeout].
func (w *Worker) Stop() { w.sdk.Stop() }
