package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Statuses of tasks are pushed as they change:
//
//   - on 2026 to the subscriptions that name the task (ext-tasks, "Task Status
//     Notifications");
//   - on 2025 to the session that created the task (tasks, "Task Status
//     Notification"): on the stream of a tasks/result that waits for it, or else
//     on the session's GET stream, and no state on both ("the server MUST send
//     each of its JSON-RPC messages on only one of the connected streams"). A
//     stream of another process is not known here, though.
//
// Nothing is queued for a client that reads slowly. Each task has one state
// that waits to be sent, and the engine merges what follows it; a write that
// is not taken in time ends the stream, and the client goes on by polling.

// maxFollowed bounds the tasks of one stream. Those beyond it are not among
// those that a subscription acknowledges, which tells the client to poll them.
const maxFollowed = 100

// rewatchAfter is the pause before a watch that broke is begun again.
const rewatchAfter = time.Second

// A follower watches several tasks at once.
type follower struct {
	tasks task.Service
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
	// states are those of all the tasks: of each the current one first, then
	// every later one. A task is not watched on before its state is taken.
	states chan followed
}

// followed is a state of a task, or why it cannot be watched.
type followed struct {
	id   string
	task *task.Task
	err  error
}

func newFollower(ctx context.Context, tasks task.Service) *follower {
	ctx, end := context.WithCancel(ctx)
	return &follower{tasks: tasks, ctx: ctx, end: end, states: make(chan followed)}
}

// stop ends all watches.
func (f *follower) stop() {
	f.end()
	f.wg.Wait()
}

// follow watches the task of ref until it has ended or is deleted. States up to
// the revision seen are left out, but for the end: an answer that no worker had
// taken in is shown with a revision that an end may have which comes before it.
// A watch that cannot begin is an error; one that breaks later is begun again.
func (f *follower) follow(ref task.Ref, seen int64) {
	f.wg.Go(func() { f.run(ref, seen) })
}

// followAfter is follow after a while.
func (f *follower) followAfter(d time.Duration, ref task.Ref, seen int64) {
	f.wg.Go(func() {
		if f.pause(d) {
			f.run(ref, seen)
		}
	})
}

// pause reports whether the follower goes on after it.
func (f *follower) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-f.ctx.Done():
		return false
	}
}

func (f *follower) run(ref task.Ref, sent int64) {
	for {
		for t, err := range f.tasks.Watch(f.ctx, ref, task.WatchOptions{}) {
			if err == nil && t.Rev <= sent && !t.Status.Terminal() || err != nil && sent > 0 && !isFinal(err) {
				continue
			}
			select {
			case f.states <- followed{ref.ID, t, err}:
			case <-f.ctx.Done():
				return
			}
			if err != nil || t.Status.Terminal() {
				return
			}
			sent = t.Rev
		}
		if !f.pause(rewatchAfter) {
			return
		}
	}
}

// isFinal reports whether there is nothing more to be told of a task. Of one
// whose result is lost, what it is polled with says so.
func isFinal(err error) bool {
	return errors.Is(err, task.ErrNotFound) || errors.Is(err, task.ErrExpired) ||
		errors.Is(err, task.ErrClaimMissing) || errors.Is(err, task.ErrClaimCorrupt)
}

// begin follows the tasks and returns the current state of each that there is,
// in their order.
func (f *follower) begin(refs []task.Ref) ([]*task.Task, error) {
	for _, ref := range refs {
		f.follow(ref, 0)
	}
	current := make(map[string]*task.Task, len(refs))
	for seen := make(map[string]bool, len(refs)); len(seen) < len(refs); {
		select {
		case u := <-f.states:
			switch {
			case u.err == nil:
				current[u.id] = u.task
			case isFinal(u.err):
				delete(current, u.id)
			default:
				return nil, u.err
			}
			seen[u.id] = true
		case <-f.ctx.Done():
			return nil, errNoReply
		}
	}
	var states []*task.Task
	for _, ref := range refs {
		if t := current[ref.ID]; t != nil {
			states = append(states, t)
		}
	}
	return states, nil
}

// subscribedTasks are the tasks a subscription may be about.
func subscribedTasks(ids []string, owner task.Owner) []task.Ref {
	var refs []task.Ref
	for _, id := range ids {
		ref := task.Ref{ID: id, Owner: owner}
		if len(refs) < maxFollowed && plausibleID(id) && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

func taskIDs(tasks []*task.Task) []string {
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.ID
	}
	return ids
}

// sessionPush is what a GET stream sends of its session's tasks.
type sessionPush struct {
	*follower
	api  *API
	sess *session
	// unfinished are tasks of the session that were found in a list.
	unfinished chan *task.Task
	// leave has an entry for every task that is followed, and ended when others
	// ended: a list may still show them.
	leave map[string]func()
	ended map[string]time.Time
}

// newTaskRest is how long a new task of the session is left alone. Most tasks
// end within it, and are then told of for the price of a read, where a watch
// takes several; clients that never look at what comes on their GET stream have
// one too.
const newTaskRest = time.Second

// relistEvery is how often the tasks are listed that other processes have
// created. While the session makes no request here that is less and less often,
// down to relistIdle: many a stream is open all day for nothing, and each list is
// a query.
const (
	relistEvery = 5 * time.Second
	relistIdle  = time.Minute
)

func (a *API) newSessionPush(ctx context.Context, sess *session, owner task.Owner, active <-chan struct{}) *sessionPush {
	p := &sessionPush{
		follower:   newFollower(ctx, a.tasks),
		api:        a,
		sess:       sess,
		unfinished: make(chan *task.Task),
		leave:      make(map[string]func()),
		ended:      make(map[string]time.Time),
	}
	if sess.Version == version20251125 {
		p.wg.Go(func() { p.list(owner, active) })
	}
	return p
}

func (p *sessionPush) stop() {
	p.follower.stop()
	for _, leave := range p.leave {
		leave()
	}
}

// list finds the session's unfinished tasks: once those from before this
// stream, and those of other processes again and again.
func (p *sessionPush) list(owner task.Owner, active <-chan struct{}) {
	name := p.api.sessionName(p.sess)
	rest := relistEvery
	for {
		page, err := p.api.tasks.List(p.ctx, task.ListRequest{Owner: owner, PageSize: 2 * maxFollowed})
		if err == nil {
			for _, t := range page.Tasks {
				if t.Session != name || t.Status.Terminal() {
					continue
				}
				select {
				case p.unfinished <- t:
				case <-p.ctx.Done():
					return
				}
			}
			if !p.api.opts.Replicated {
				return
			}
		}
		select {
		case <-time.After(rest):
			if err == nil {
				rest = min(2*rest, relistIdle)
			}
		case <-active:
			rest = relistEvery
			if !p.pause(rest) {
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// known is the revision of the state in which a task begins, of which the reply
// told that created it.
const known = 1

// created follows a new task of the session.
func (p *sessionPush) created(t *task.Task, owner task.Owner) {
	if p.begin(t) {
		p.followAfter(newTaskRest, task.Ref{ID: t.ID, Owner: owner}, known)
	}
}

// found follows a task of the session that is not new.
func (p *sessionPush) found(t *task.Task, owner task.Owner) {
	if p.begin(t) {
		p.follow(task.Ref{ID: t.ID, Owner: owner}, known)
	}
}

// begin reports whether the task is to be followed, and is not yet.
func (p *sessionPush) begin(t *task.Task) bool {
	for id, at := range p.ended {
		if time.Since(at) > relistEvery {
			delete(p.ended, id)
		}
	}
	_, ended := p.ended[t.ID]
	if p.leave[t.ID] != nil || ended || len(p.leave) == maxFollowed {
		return false
	}
	p.leave[t.ID] = p.api.statuses.join(statusKey{p.sess.ID, t.ID}, false)
	return true
}

// send sends a state, unless another stream of the session does.
func (p *sessionPush) send(s *stream, f followed) error {
	var err error
	if f.err == nil && p.api.statuses.take(statusKey{p.sess.ID, f.id}, f.task, false) {
		err = s.send(p.api.legacy.notification(f.task))
	}
	if f.err != nil || f.task.Status.Terminal() {
		p.leave[f.id]()
		delete(p.leave, f.id)
		p.ended[f.id] = time.Now()
	}
	return err
}

// statuses say which states of tasks a 2025 session has been sent.
type statuses struct {
	mu  sync.Mutex
	all map[statusKey]*status
}

type statusKey struct{ session, task string }

// status is what one session knows of one task. It is kept while there is a
// stream for it.
type status struct {
	rev     int64 // of the last state sent
	ended   bool  // which was the end
	streams int
	results int // streams that wait for this task's result
}

// join is called for a stream on which the session may be sent the task's
// states; waits says that it is that of a tasks/result.
func (s *statuses) join(k statusKey, waits bool) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[statusKey]*status)
	}
	st := s.all[k]
	if st == nil {
		st = new(status)
		s.all[k] = st
	}
	results := 0
	if waits {
		results = 1
	}
	st.streams++
	st.results += results
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.results -= results
		if st.streams--; st.streams == 0 {
			delete(s.all, k)
		}
	}
}

// take reports whether a stream that has joined is to send that state.
func (s *statuses) take(k statusKey, t *task.Task, waits bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.all[k]
	end := t.Status.Terminal()
	if st.ended || t.Rev <= st.rev && !end || st.results > 0 && !waits {
		return false
	}
	st.rev, st.ended = t.Rev, end
	return true
}
