package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
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
// So is a task for which there is no long poll, as Temporal serves a limited
// number of them: once a second, or less often if there are many such tasks.
//
// A poll returns at every event, and most calls are over after a few of them.
// So a task that this process has only just created is first waited for by a
// poll that returns at its end alone: a quick call costs one request to start
// it and one to have its result, as it does in Temporal's own client. What is
// quick is learned: where an engine is busy, every call takes longer. One that
// outlasts that is as it was created unless its history says otherwise. Nor is
// there anything to be seen between the last round of a task and its end, so
// that is waited for in the same way as a quick call's.

const (
	// minQuiet and maxQuiet bound how long after its creation a task is waited
	// for in that way, and so how much later than it could its first request for
	// input may be seen. In between, it is twice as long as such tasks took
	// lately, because of the load and not of their tools: at most quietShare for
	// each that is waited for.
	minQuiet   = 100 * time.Millisecond
	maxQuiet   = 4 * time.Second
	quietShare = 75 * time.Millisecond
	// refreshEvery is how often a task is described that is not followed by
	// long poll, or whose progress somebody wants. Those that are not followed
	// share what this process may ask of Temporal: when there are many of them it
	// is refreshShare for each.
	refreshEvery = time.Second
	refreshShare = 10 * time.Millisecond
	// pollTimeout bounds one long poll; Temporal itself returns before that, by
	// default after 20 s (history.longPollExpirationInterval).
	pollTimeout = time.Minute
)

var errEngineClosed = fmt.Errorf("%w: the engine was closed", task.ErrUnavailable)

// Watch implements [task.Service].
//
// The first read may fail with [task.ErrUnavailable]. Later on a watch sits
// out any trouble with Temporal: it yields nothing until it can read again,
// and ends early only if the task is deleted, with [task.ErrNotFound], if its
// result is lost, with [task.ErrClaimMissing] or [task.ErrClaimCorrupt], or by
// [Engine.Close].
func (e *Engine) Watch(ctx context.Context, ref task.Ref, o task.WatchOptions) iter.Seq2[*task.Task, error] {
	return func(yield func(*task.Task, error) bool) {
		last, quiet := e.newborn(ref)
		if last == nil {
			var err error
			if last, err = e.GetOutcome(ctx, ref); err != nil {
				if ctx.Err() == nil {
					yield(nil, err)
				}
				return
			}
		}
		if !yield(last, nil) || last.Status.Terminal() {
			return
		}
		w, err := e.watches.join(ref, o.Progress, quiet)
		if err != nil {
			yield(nil, err)
			return
		}
		defer e.watches.leave(w, o.Progress)
		for {
			now, changed, err := e.watches.look(w)
			if now != nil && isNews(now, last, o.Progress) {
				last = now
				if !yield(now, nil) || now.Status.Terminal() {
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

// newborn is a task this process has only just created, as it was then, and
// how long it may go unobserved but for its end. It is nil for all others, and
// for one that was shown in a later state.
func (e *Engine) newborn(ref task.Ref) (*task.Task, time.Duration) {
	c, ok := e.created.get(ref.ID)
	if !ok || c.ownerHash != ref.Owner.Hash() || c.held != ref.Held || c.moved.Load() || e.deleted.has(ref.ID) {
		return nil, 0
	}
	quiet := e.watches.quietTime() - time.Since(c.at)
	if quiet <= 0 {
		return nil, 0
	}
	return c.task, quiet
}

// moved takes note that somebody is about to be shown a task in another state
// than it was created in.
func (e *Engine) moved(id string) {
	if c, ok := e.created.get(id); ok {
		c.moved.Store(true)
	}
}

func isNews(now, last *task.Task, progress bool) bool {
	if now.Status.Terminal() != last.Status.Terminal() {
		return now.Status.Terminal()
	}
	if now.Rev != last.Rev {
		return now.Rev > last.Rev
	}
	if len(now.Inputs) > len(last.Inputs) {
		return false // as it was before an answer that was refused
	}
	return progress && now.Progress != nil && (last.Progress == nil || *now.Progress != *last.Progress)
}

// hub holds the watches of a process.
type hub struct {
	e    *Engine
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	// moments counts what has to be told apart in time; see hot.go.
	moments atomic.Uint64

	mu      sync.Mutex
	watches map[string]*watch
	writing map[string]int // writes that are under way, by task
	polls   int            // long polls in use
	quiet   int            // those of them that wait for an end alone
	// took is about how long new tasks were under way that ended plainly.
	took time.Duration
}

// watch is one task that is followed. Its fields below mu are guarded by the
// hub's.
type watch struct {
	id    string
	owner task.Owner
	held  bool
	stop  context.CancelFunc

	waiters  int
	progress int           // waiters that want progress
	wanted   chan struct{} // has an entry when that may have become one more
	latest   *task.Task    // shared; never changed
	err      error         // why it ended without a terminal state
	changed  chan struct{} // closed when latest or err changes, and replaced

	published uint64 // the moment when latest last changed

	// followed: a long poll tells of what happens after latest.
	followed bool
	// unsettled is the moment when something had been sent or was shown that
	// latest may not have. settled is when the last Describe began that found
	// latest, and that nothing waits to be taken in; readAt when the last one did
	// that found latest at all.
	unsettled, settled uint64
	readAt             time.Time
	wantedUntil        time.Time // hot reads want progress until then
}

func newHub(e *Engine) *hub {
	ctx, stop := context.WithCancel(context.Background())
	return &hub{e: e, ctx: ctx, stop: stop, watches: make(map[string]*watch), writing: make(map[string]int)}
}

func (h *hub) close() {
	h.mu.Lock()
	h.stop()
	h.mu.Unlock()
	h.wg.Wait()
}

// join adds a waiter. quiet is how long a watch that starts with it waits for
// the task's end alone.
func (h *hub) join(ref task.Ref, progress bool, quiet time.Duration) (*watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return nil, errEngineClosed
	}
	w := h.watches[ref.ID]
	if w == nil {
		ctx, stop := context.WithCancel(h.ctx)
		now := h.moment()
		w = &watch{
			id: ref.ID, owner: ref.Owner, held: ref.Held, stop: stop, changed: make(chan struct{}), wanted: make(chan struct{}, 1),
			published: now, unsettled: now,
		}
		h.watches[ref.ID] = w
		h.wg.Go(func() {
			defer stop()
			h.run(ctx, w, quiet)
		})
	}
	w.waiters++
	if progress {
		w.progress++
		w.want()
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

// publish hands t, which was not read before the moment began, to the waiters
// unless it is older than what they have.
func (h *hub) publish(w *watch, t *task.Task, began uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	progress := began > w.published
	if w.latest == nil || isNews(t, w.latest, progress) {
		h.replace(w, t)
	}
}

// replace makes t the latest state.
func (h *hub) replace(w *watch, t *task.Task) {
	if t.Rev > 1 {
		h.e.moved(w.id)
	}
	w.latest, w.published = t, h.moment()
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

// want tells run that somebody wants progress.
func (w *watch) want() {
	select {
	case w.wanted <- struct{}{}:
	default:
	}
}

func (h *hub) wantsProgress(w *watch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.progress > 0 || h.e.o.Now().Before(w.wantedUntil)
}

// quietTime is how long a new task is waited for by its end alone.
func (h *hub) quietTime() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(minQuiet, min(2*h.took, time.Duration(h.quiet)*quietShare, maxQuiet))
}

// learn takes in how long a new task took.
func (h *hub) learn(took time.Duration) {
	if took > maxQuiet {
		return // by its tool, more likely
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	const weight = 8
	h.took += (took - h.took) / weight
}

// countQuiet adds to the number of polls that wait for an end alone.
func (h *hub) countQuiet(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quiet += n
}

func (h *hub) setFollowed(w *watch, followed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.followed = followed
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

// turn is how often a task that is not followed is looked at, and how often a
// long poll for it is tried for.
func (h *hub) turn() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(refreshEvery, time.Duration(len(h.watches)-h.polls)*refreshShare)
}

func (h *hub) releasePoll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls--
}

// run follows one task until it ends or ctx does.
func (h *hub) run(ctx context.Context, w *watch, quiet time.Duration) {
	if quiet > 0 && h.awaitEnd(ctx, w, quiet) {
		return
	}
	// Spread out what many watches would otherwise ask for at the same time.
	jitter := time.Duration(rand.Int64N(int64(refreshEvery / 5)))
	every := refreshEvery - refreshEvery/10 + jitter
	tick := time.NewTimer(every)
	defer tick.Stop()
	// A task that is followed needs no ticks, unless somebody wants its progress.
	asleep := false
	wake := func() {
		if asleep {
			tick.Reset(every)
			asleep = false
		}
	}

	news := make(chan struct{}, 1)
	var followed chan *conclusion // when the long poll ends; nil if there is none
	follow := func(fresh bool) {
		if followed != nil || !h.takePoll() {
			return
		}
		done := make(chan *conclusion, 1)
		followed = done
		h.wg.Go(func() {
			defer h.releasePoll()
			done <- h.follow(ctx, w, fresh, news)
		})
	}
	fresh := quiet > 0 // as it was created, as far as is known
	follow(fresh)
	looked := time.Now()
	var last *reading // nil if it could not be read, or was not
	for {
		var end *conclusion
		select {
		case <-ctx.Done():
			// Either nobody waits any more, or the engine was closed.
			h.fail(w, errEngineClosed)
			return
		case <-news:
		case end = <-followed:
			followed = nil
			if end.isPlain() && len(news) == 0 {
				if fresh && h.concludeNew(w, end) {
					return
				}
				// Of a task that was asking, the memo has more than that it ended.
				if last != nil && last.state.Status == task.StatusWorking {
					h.conclude(ctx, w, last, end)
					return
				}
			}
			wake()
		case <-w.wanted:
			wake()
			continue
		case <-tick.C:
			progress := h.wantsProgress(w)
			if asleep = !progress && followed != nil; asleep {
				continue
			}
			tick.Reset(every)
			if !progress && time.Since(looked) < h.turn() {
				continue
			}
			looked = time.Now()
			follow(false)
			if !progress && followed != nil {
				continue // it begins with a look
			}
		}
		fresh = false
		var ended bool
		if last, ended = h.refresh(ctx, w, end); ended {
			return
		}
	}
}

// awaitEnd waits for the task's end alone, for as long as quiet, and reports
// whether the watch has ended.
func (h *hub) awaitEnd(ctx context.Context, w *watch, quiet time.Duration) bool {
	if !h.takePoll() {
		return false
	}
	defer h.releasePoll()
	h.countQuiet(1)
	defer h.countQuiet(-1)
	pollCtx, stop := context.WithCancel(ctx)
	defer stop()
	defer time.AfterFunc(quiet, stop).Stop()
	began := h.e.o.Now()
	resp, err := h.poll(pollCtx, w.id, nil, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	if err != nil || len(resp.GetHistory().GetEvents()) == 0 {
		return false // what it is will be seen in what follows
	}
	end := h.conclusion(w, resp.GetHistory().GetEvents(), began)
	if end == nil {
		return false
	}
	if end.isPlain() && h.concludeNew(w, end) {
		return true
	}
	_, ended := h.refresh(ctx, w, end)
	return ended
}

// concludeNew tells the waiters of the plain end of a task that nobody was shown
// in another state than it was created in, and reports whether that could be done.
func (h *hub) concludeNew(w *watch, end *conclusion) bool {
	c, ok := h.e.created.get(w.id)
	if !ok {
		return false
	}
	h.learn(time.Since(c.at))
	if c.moved.Load() {
		return false // what the revision of its end is only Temporal knows
	}
	t := *c.task
	t.Rev++
	t.Status, t.Outcome = task.StatusCompleted, end.outcome
	if end.at.After(t.UpdatedAt) { // it is by another clock
		t.UpdatedAt = end.at
	}
	if !c.held {
		h.e.keep(&t, c.ownerHash, end.began, end.seen)
	}
	h.publish(w, &t, 0)
	return true
}

// refresh describes the task, tells the waiters, and reports whether the watch
// has ended, as it must have by that conclusion if there is one.
func (h *hub) refresh(ctx context.Context, w *watch, end *conclusion) (_ *reading, ended bool) {
	r, err := h.e.describe(ctx, w.id, w.held)
	if err == nil {
		err = h.e.settle(ctx, r)
	}
	var t *task.Task
	switch {
	case err != nil:
	case end != nil && r.ended():
		t = r.task()
		if t.Outcome, err = h.e.complete(ctx, r, end.outcome); err == nil {
			h.e.remember(r, t)
		}
	default:
		t, err = h.e.withOutcome(ctx, r)
	}
	switch {
	case err == nil:
		h.publish(w, t, r.moment)
		h.saw(r)
		return r, t.Status.Terminal()
	case errors.Is(err, task.ErrNotFound), errors.Is(err, task.ErrClaimMissing), errors.Is(err, task.ErrClaimCorrupt):
		h.fail(w, err)
		return nil, true
	default:
		if ctx.Err() == nil {
			h.e.o.Logger.Debug("a watched task cannot be read at the moment", "task_id", w.id, "error", err)
		}
		return nil, false
	}
}

// conclude tells the waiters of the end of a task that was in the state last
// before.
func (h *hub) conclude(ctx context.Context, w *watch, last *reading, end *conclusion) {
	r := *last
	r.status, r.closedAt = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, end.at
	if err := h.e.settle(ctx, &r); err != nil {
		h.fail(w, err)
		return
	}
	if c, ok := h.e.created.get(w.id); ok {
		h.learn(time.Since(c.at))
	}
	t := r.task()
	t.Outcome = end.outcome
	if !r.held {
		h.e.keep(t, r.card.OwnerHash, end.began, end.seen)
	}
	h.publish(w, t, 0)
}

// follow signals news at its start, unless the task is fresh from its creation,
// and after every event that may have changed its state. It returns when a poll
// fails and when the workflow closes, then with the conclusion.
func (h *hub) follow(ctx context.Context, w *watch, fresh bool, news chan<- struct{}) *conclusion {
	defer h.setFollowed(w, false)
	signal := func() {
		select {
		case news <- struct{}{}:
		default: // the last one has not been looked at yet
		}
	}
	var token []byte
	var round lastRound
	for ctx.Err() == nil {
		began := h.e.o.Now()
		from, filter := token, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT
		if round.final {
			from, filter = nil, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
		}
		resp, err := h.poll(ctx, w.id, from, filter)
		if err != nil {
			if ctx.Err() == nil {
				h.e.o.Logger.Debug("a long poll on a watched task broke", "task_id", w.id, "error", err)
			}
			return nil
		}
		events := resp.GetHistory().GetEvents()
		if resp.GetNextPageToken() == nil && !continues(events) {
			return h.conclusion(w, events, began)
		}
		if round.final {
			round.final = false // something keeps it from its end, which may be told
			continue
		}
		first := token == nil
		token = resp.GetNextPageToken()
		round.take(events, h.e.o.DataConverter)
		if first {
			h.setFollowed(w, true)
		}
		if first && !fresh || len(resp.GetRawHistory()) > 0 || slices.ContainsFunc(events, changesState) {
			signal()
		}
	}
	return nil
}

// poll waits for events after token. Without one it returns those there are,
// of the newest run; a poll for the close event waits for that.
func (h *hub) poll(ctx context.Context, id string, token []byte, filter enumspb.HistoryEventFilterType) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return h.e.client.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace:              h.e.o.Namespace,
		Execution:              &commonpb.WorkflowExecution{WorkflowId: id},
		NextPageToken:          token,
		WaitNewEvent:           true,
		HistoryEventFilterType: filter,
		SkipArchival:           true,
	})
}
