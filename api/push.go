package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Statuses of tasks are pushed as they change: to the subscriptions of a 2026
// client that name the task (ext-tasks, "Task Status Notifications").
//
// Nothing is queued for a client that reads slowly. Each task has one state
// that waits to be sent, and the engine merges what follows it; a write that
// is not taken in time ends the stream, and the client goes on by polling.

// maxSubscribed bounds the tasks of one subscription. Those beyond it are left
// out of the acknowledgement, which tells the client to poll them.
const maxSubscribed = 100

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

// follow watches the task of ref until it has ended or is deleted. A watch that
// cannot begin is an error; one that breaks later is begun again.
func (f *follower) follow(ref task.Ref) { f.wg.Go(func() { f.run(ref) }) }

func (f *follower) run(ref task.Ref) {
	var sent int64 // the revision of the last state
	for {
		for t, err := range f.tasks.Watch(f.ctx, ref, task.WatchOptions{}) {
			if err == nil && t.Rev <= sent || err != nil && sent > 0 && !isGone(err) {
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
		select {
		case <-time.After(rewatchAfter):
		case <-f.ctx.Done():
			return
		}
	}
}

func isGone(err error) bool {
	return errors.Is(err, task.ErrNotFound) || errors.Is(err, task.ErrExpired)
}

// begin follows the tasks and returns the current state of each that there is,
// in their order.
func (f *follower) begin(refs []task.Ref) ([]*task.Task, error) {
	for _, ref := range refs {
		f.follow(ref)
	}
	current := make(map[string]*task.Task, len(refs))
	for seen := make(map[string]bool, len(refs)); len(seen) < len(refs); {
		select {
		case u := <-f.states:
			switch {
			case u.err == nil:
				current[u.id] = u.task
			case isGone(u.err):
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
		if len(refs) < maxSubscribed && plausibleID(id) && !slices.Contains(refs, ref) {
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
