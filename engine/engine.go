// Package engine is [task.Service] on Temporal: it starts, reads, watches,
// answers, cancels, lists and deletes the workflows that tasks are. No other
// package knows both Temporal's client and the domain.
//
// # Reading
//
// A task can be read whether or not a worker runs, and is read right:
//
//   - The workflow's memo holds the task's card and state from the moment of
//     its start, and the workflow writes each change of state into it in the
//     very workflow task that makes the change. Describe returns the memo
//     together with whether a workflow task is pending. If none is, the memo is
//     the current state.
//   - If one is pending, the state is changing at this moment. A query is
//     answered only after that workflow task, so it gives the state that
//     follows; it waits for a worker, though, so it gets a short deadline.
//     Where nobody answers the memo stands, less the requests for input whose
//     answers wait for a worker.
//   - A closed workflow is never queried. Its state is the last one in the
//     memo if that is terminal, and otherwise follows from how it closed; the
//     full outcome is in its close event.
//
// # Time limits
//
// Every call to Temporal has a deadline of its own, so that a request made
// while Temporal is away fails with [task.ErrUnavailable] within seconds.
// Nothing but [Engine.Watch] waits longer than that.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// readTimeout and writeTimeout bound one call to Temporal, the retries the
	// SDK makes inside it included.
	readTimeout  = 3 * time.Second
	writeTimeout = 10 * time.Second

	// attendedTimeout is how long a read waits for the pending workflow task if
	// there is a worker for it: one has taken it, or is known to have worked on
	// its task queue within attendedFor. scheduledTimeout is how long it waits
	// otherwise.
	attendedTimeout  = time.Second
	attendedFor      = 5 * time.Second
	scheduledTimeout = 80 * time.Millisecond

	// unattendedFor is how long a task queue on which a query was not answered
	// in time is not asked again.
	unattendedFor = 2 * time.Second
	maxQueues     = 10_000

	// cancelTimeout is how long a cancel waits for a worker before it
	// terminates the workflow.
	cancelTimeout = 2 * time.Second

	// deletedFor is how long a deleted task is remembered: longer than Temporal
	// takes to carry a deletion out.
	deletedFor = 10 * time.Minute
	maxDeleted = 10_000

	// createdFor is how long a new task is remembered, to be added to lists by
	// hand: longer than Temporal's visibility takes to show it.
	createdFor = 10 * time.Second
	maxCreated = 1_000

	minKeyBytes = 16
)

// Options configure an [Engine].
type Options struct {
	// Client is connected to Temporal. Required. It remains the caller's to
	// close, after [Engine.Close].
	Client client.Client
	// DataConverter has to be the one Client was made with. Default: the SDK's.
	DataConverter converter.DataConverter
	// Namespace has to be Client's. Default "default".
	Namespace string
	// TaskQueue is where tasks run. Default [task.DefaultTaskQueue].
	TaskQueue string
	// BuildID is that of the workers of the task queue (its worker.Options.BuildID).
	// Temporal notes it in a search attribute when a worker has taken its first
	// workflow task, and so writes a row of its visibility; where the task was
	// started with it there is nothing to write (docs/decisions/0015). A wrong one
	// costs that row again. Default: none.
	BuildID string
	// Key makes task IDs out of idempotency keys, at least 16 bytes. All
	// processes that share tasks share it. Required.
	Key []byte
	// Claims keeps arguments that are too large for Temporal, and has the results
	// that workers kept in it. Default: none, then neither can be had.
	Claims claims.Store
	// Grace is how long an expired task remains readable. Default 5 minutes.
	Grace time.Duration
	// MaxWatches bounds the tasks followed by long poll at the same time, of
	// which each of Temporal's frontends serves 1,200 for a namespace, for all
	// engines together (its setting frontend.namespaceCount). Tasks beyond either
	// number are polled: once a second each, or a hundred a second in all. Default
	// 1,000.
	MaxWatches int
	// HotReads answers reads of a task that is watched from memory, if that is no
	// older than what was shown by this engine before, or sent through it. Another
	// one may have shown a later state, so it is for where all requests of a caller
	// go through this one.
	HotReads bool
	// OutcomeCache bounds the memory for tasks that have ended and can be read
	// without Temporal, in bytes. One that another process deletes can be read for
	// ten more seconds. Default 64 MiB; negative: none.
	OutcomeCache int64
	// Logger gets what no caller is told. Default: nothing is logged.
	Logger *slog.Logger
	// Now is the clock by which tasks say that they were created, by which ended
	// ones are no longer read, and by which what is in memory grows old. When a task
	// expires is decided by Temporal's.
	// Default [time.Now].
	Now func() time.Time
}

func (o Options) validate() error {
	if o.Client == nil {
		return errors.New("engine: no Temporal client")
	}
	if len(o.Key) < minKeyBytes {
		return fmt.Errorf("engine: the key has %d bytes, and needs at least %d", len(o.Key), minKeyBytes)
	}
	if o.Grace < 0 || o.MaxWatches < 0 {
		return errors.New("engine: Grace and MaxWatches cannot be negative")
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.DataConverter == nil {
		o.DataConverter = converter.GetDefaultDataConverter()
	}
	if o.Namespace == "" {
		o.Namespace = client.DefaultNamespace
	}
	if o.TaskQueue == "" {
		o.TaskQueue = task.DefaultTaskQueue
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Minute
	}
	if o.MaxWatches == 0 {
		o.MaxWatches = 1000
	}
	if o.OutcomeCache == 0 {
		o.OutcomeCache = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Engine implements [task.Service].
type Engine struct {
	o       Options
	client  client.Client
	watches *hub
	// operator: every task is there, whose ever it is, of whatever kind, until it
	// is deleted.
	operator bool

	// attended are the task queues on which a worker did something lately,
	// unattended those on which a query was not answered. A workflow whose
	// workflow tasks fail counts as a queue of its own.
	attended   *recent[string, struct{}]
	unattended *recent[string, struct{}]
	deleted    *recent[string, struct{}]
	created    *recent[string, *creation] // by task ID
	answered   *recent[answer, bool]      // whether they were refused

	outcomes *outcomes

	// buildIDsRefused is set once Temporal has refused to start a workflow with
	// Options.BuildID.
	buildIDsRefused atomic.Bool
}

var _ task.Service = (*Engine)(nil)

// New returns an engine; [Engine.Close] ends it. It does not talk to Temporal.
func New(o Options) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return newEngine(o.withDefaults()), nil
}

func newEngine(o Options) *Engine {
	e := &Engine{
		o:          o,
		client:     o.Client,
		attended:   newRecent[string, struct{}](attendedFor, maxQueues),
		unattended: newRecent[string, struct{}](unattendedFor, maxQueues),
		deleted:    newRecent[string, struct{}](deletedFor, maxDeleted),
		created:    newRecent[string, *creation](createdFor, maxCreated),
		answered:   newRecent[answer, bool](answeredFor, maxAnswered),
		outcomes:   newOutcomes(o.OutcomeCache),
	}
	e.watches = newHub(e)
	return e
}

// Close ends all watches, each with [task.ErrUnavailable], and waits until
// nothing of the engine runs any more.
func (e *Engine) Close() { e.watches.close() }

// Ready implements [task.Service]: it asks Temporal for the namespace.
func (e *Engine) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := e.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{
		Namespace: e.o.Namespace,
	})
	if err != nil {
		return unavailable(err)
	}
	return nil
}
