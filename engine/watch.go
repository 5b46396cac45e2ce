package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

// Watching
//
// However many callers watch a task, this process follows it once: a watch
// starts with its first waiter and stops with its last, or when the task ends.
//
// A watch holds one long poll on the workflow's history. Events are not read
// as such; they only say when to Describe again, which is right by itself, so
// that a poll that breaks or skips something loses nothing. Progress is not in
// the history; for waiters that want it the task is described once a second.
// So is a task for which there is no long poll: Temporal serves a limited
// number of them, and a poll beyond it would silently never return.

const (
	// refreshEvery is how often a task is described that is not followed by
	// long poll, or whose progress somebody wants.
	refreshEvery = time.Second
	// pollTimeout bounds one long poll; Temporal itself returns after 20 s.
	pollTimeout = time.Minute
)

var errEngineClosed = fmt.Errorf("%w: the engine was closed", task.ErrUnavailable)

// Watch implements [task.Service].
//
// The first read may fail with [task.ErrUnavailable]. Later on a watch sits
// out any trouble with Temporal: it yields nothing until it can read again,
// and ends early only if the task is deleted, with [task.ErrNotFound], or by
// [Engine.Close].
func (e *Engine) Watch(ctx context.Context, ref task.Ref, o task.WatchOptions) iter.Seq2[*task.Task, error] {
	return func(yield func(*task.Task, error) bool) {
		last, err := e.Get(ctx, ref)
		if err != nil {
			if ctx.Err() == nil {
				yield(nil, err)
			}
			return
		}
		if !yield(share(last), nil) || last.Status.Terminal() {
			return
		}
		w, err := e.watches.join(ref, o.Progress)
		if err != nil {
			yield(nil, err)
			return
		}
		defer e.watches.leave(w, o.Progress)
		for {
			now, changed, err := e.watches.look(w)
			if now != nil && isNews(now, last, o.Progress) {
				last = now
				if !yield(share(now), nil) || now.Status.Terminal() {
					return
				}
				continue
			}
			if err != nil {
				yield(nil, err)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// share returns a copy of a snapshot that several waiters look at.
func share(t *task.Task) *task.Task {
	c := *t
	return &c
}

func isNews(now, last *task.Task, progress bool) bool {
	if now.Rev != last.Rev {
		return now.Rev > last.Rev
	}
	return progress && now.Progress != nil && (last.Progress == nil || *now.Progress != *last.Progress)
}

// hub holds the watches of a process.
type hub struct {
	e    *Engine
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*watch
	polls   int // long polls in use
}

// watch is one task that is followed. Its fields below mu are guarded by the
// hub's.
type watch struct {
	id   string
	held bool
	stop context.CancelFunc

	waiters  int
	progress int           // waiters that want progress
	latest   *task.Task    // shared; never changed
	err      error         // why it ended without a terminal state
	changed  chan struct{} // closed when latest or err changes, and replaced
}

func newHub(e *Engine) *hub {
	ctx, stop := context.WithCancel(context.Background())
	return &hub{e: e, ctx: ctx, stop: stop, watches: make(map[string]*watch)}
}

func (h *hub) close() {
	h.mu.Lock()
	h.stop()
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *hub) join(ref task.Ref, progress bool) (*watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return nil, errEngineClosed
	}
	w := h.watches[ref.ID]
	if w == nil {
		ctx, stop := context.WithCancel(h.ctx)
		w = &watch{id: ref.ID, held: ref.Held, stop: stop, changed: make(chan struct{})}
		h.watches[ref.ID] = w
		h.wg.Go(func() {
			defer stop()
			h.run(ctx, w)
		})
	}
	w.waiters++
	if progress {
		w.progress++
	}
	return w, nil
}

func (h *hub) leave(w *watch, progress bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.waiters--
	if progress {
		w.progress--
	}
	if w.waiters == 0 {
		h.drop(w)
	}
}

// drop takes w off the hub, so that the next waiter starts afresh.
func (h *hub) drop(w *watch) {
	if h.watches[w.id] == w {
		delete(h.watches, w.id)
	}
	w.stop()
}

// look returns what is known and a channel that is closed when there is more.
func (h *hub) look(w *watch) (latest *task.Task, changed <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.latest, w.changed, w.err
}

// publish hands t to the waiters unless it is older than what they have.
func (h *hub) publish(w *watch, t *task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const progress = true
	if w.latest != nil && !isNews(t, w.latest, progress) {
		return
	}
	w.latest = t
	if t.Status.Terminal() {
		h.drop(w)
	}
	w.wake()
}

func (h *hub) fail(w *watch, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.err = err
	h.drop(w)
	w.wake()
}

func (w *watch) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (h *hub) wantsProgress(w *watch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.progress > 0
}

func (h *hub) takePoll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls == h.e.o.MaxWatches {
		return false
	}
	h.polls++
	return true
}

func (h *hub) releasePoll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls--
}

// run follows one task until it ends or ctx does.
func (h *hub) run(ctx context.Context, w *watch) {
	// Spread out what many watches would otherwise ask for at the same time.
	jitter := time.Duration(rand.Int64N(int64(refreshEvery / 5)))
	tick := time.NewTicker(refreshEvery - refreshEvery/10 + jitter)
	defer tick.Stop()

	news := make(chan struct{}, 1)
	var followed chan struct{} // closed when the long poll ends; nil if there is none
	follow := func() {
		if followed != nil || !h.takePoll() {
			return
		}
		done := make(chan struct{})
		followed = done
		h.wg.Go(func() {
			defer close(done)
			defer h.releasePoll()
			h.follow(ctx, w, news)
		})
	}
	follow()
	for {
		select {
		case <-ctx.Done():
			// Either nobody waits any more, or the engine was closed.
			h.fail(w, errEngineClosed)
			return
		case <-news:
		case <-followed:
			followed = nil
		case <-tick.C:
			if followed != nil && !h.wantsProgress(w) {
				continue
			}
			follow()
		}
		if h.refresh(ctx, w) {
			return
		}
	}
}

// refresh describes the task, tells the waiters, and reports whether the watch
// has ended.
func (h *hub) refresh(ctx context.Context, w *watch) bool {
	r, err := h.e.describe(ctx, w.id, w.held)
	if err == nil {
		err = h.e.settle(ctx, r)
	}
	switch {
	case err == nil:
		t := r.task()
		h.publish(w, t)
		return t.Status.Terminal()
	case errors.Is(err, task.ErrNotFound):
		h.fail(w, err)
		return true
	default:
		if ctx.Err() == nil {
			h.e.o.Logger.Debug("a watched task cannot be read at the moment", "task_id", w.id, "error", err)
		}
		return false
	}
}

// follow signals news at its start and after every event that may have changed
// the task's state. It returns when the workflow closes and when a poll fails.
func (h *hub) follow(ctx context.Context, w *watch, news chan<- struct{}) {
	signal := func() {
		select {
		case news <- struct{}{}:
		default: // the last one has not been looked at yet
		}
	}
	var token []byte
	for ctx.Err() == nil {
		resp, err := h.poll(ctx, w.id, token)
		if err != nil {
			if ctx.Err() == nil {
				h.e.o.Logger.Debug("a long poll on a watched task broke", "task_id", w.id, "error", err)
			}
			return
		}
		events := resp.GetHistory().GetEvents()
		if token == nil || len(resp.GetRawHistory()) > 0 || slices.ContainsFunc(events, changesState) {
			signal()
		}
		token = resp.GetNextPageToken()
		if token == nil && !continues(events) {
			return
		}
	}
}

// poll waits for events after token. Without one it returns those there are,
// of the newest run.
func (h *hub) poll(ctx context.Context, id string, token []byte) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return h.e.client.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace:              h.e.o.Namespace,
		Execution:              &commonpb.WorkflowExecution{WorkflowId: id},
		NextPageToken:          token,
		WaitNewEvent:           true,
		HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
		SkipArchival:           true,
	})
}

// changesState reports whether a task may be in another state after the event:
// it changed the memo, or closed the workflow.
func changesState(event *historypb.HistoryEvent) bool {
	switch event.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		return true
	default:
		return false
	}
}

// continues reports whether another run follows the one that events end.
func continues(events []*historypb.HistoryEvent) bool {
	return len(events) > 0 &&
		events[len(events)-1].GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
}
