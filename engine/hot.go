package engine

import "github.com/longhaul-mcp/longhaul/task"

// Hot reads
//
// While a task is watched, its state is in memory. With [Options.HotReads] that
// answers reads, wherever it is no older than what anybody was shown by this
// process before, or has sent through it:
//
//   - A Describe settles the state in memory if it found the same, and no
//     workflow task pending: what was sent before it began has been taken in. A
//     write unsettles it from its beginning until a Describe that begins after its
//     end. How it ends does not matter: what failed may have been done all the same.
//   - A state that is shown from elsewhere (by a read that did ask Temporal, by a
//     list, by what a cancel returns) is compared first. If it is newer than the
//     one in memory, it takes its place. Where it must not (it is an end without
//     its outcome, or what a workflow task is about to make of the state), or
//     which of the two is newer cannot be told, the one in memory is unsettled
//     until it has caught up.
//   - A state in memory is only ever replaced by a newer one. Progress has no
//     number as states have: it is newer if the Describe that found it began after
//     the other one had ended.
//
// Nothing is read in order to settle a state: the next read asks Temporal, as it
// would anyway, and those after it need not.
//
// So much is about order. In time, the state in memory follows Temporal as fast
// as the long poll does, within milliseconds. It is not used where there is no
// long poll, or one that has broken, nor if nobody has asked Temporal for it
// within hotFor: when Temporal is away, reads soon say so.

const (
	// hotFor is how long ago a Describe has to have found the state in memory, and
	// so how old progress in it may be.
	hotFor = 2 * refreshEvery
	// wantedFor is how long a hot read counts as a waiter that wants progress,
	// for which the task is described once a second.
	wantedFor = refreshEvery + refreshEvery/2
)

// hot is the state of a watched task, or nil if Temporal has to be asked.
func (h *hub) hot(ref task.Ref) *task.Task {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watches[ref.ID]
	if w == nil || w.latest == nil || w.held || w.owner != ref.Owner {
		return nil
	}
	now := h.e.o.Now()
	if !w.followed || h.writing[ref.ID] > 0 || w.settled <= w.unsettled || now.Sub(w.readAt) > hotFor {
		return nil
	}
	if !now.Before(w.wantedUntil) {
		w.want()
	}
	w.wantedUntil = now.Add(wantedFor)
	return w.latest
}

// saw takes note of a state that was read and is about to be shown, or acted on.
func (h *hub) saw(r *reading) {
	if r.state.Rev > 1 || r.closed() {
		h.e.moved(r.id)
	}
	if !h.e.o.HotReads {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watches[r.id]
	if w == nil {
		return
	}
	const progress = true
	t := r.task()
	// What is closed may still be read as it was before that.
	if w.latest == nil || r.ended() || isNews(t, w.latest, progress) {
		if r.ended() || r.pending != nil || r.moment < w.published {
			w.unsettled = h.moment()
			return
		}
		h.replace(w, t)
	}
	switch {
	case !t.CreatedAt.Equal(w.latest.CreatedAt):
		w.unsettled = h.moment() // another task, which has the ID now
	case t.Rev == w.latest.Rev && len(t.Inputs) < len(w.latest.Inputs):
		w.unsettled = h.moment() // an answer was refused, and no worker has asked again
	case t.Rev == w.latest.Rev:
		if r.at.After(w.readAt) {
			w.readAt = r.at
		}
		if r.pending == nil && r.moment > w.settled {
			w.settled = r.moment
		}
	}
}

// write says that something is being sent to a task, until done is called.
func (h *hub) write(id string) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing[id]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.writing[id]--; h.writing[id] == 0 {
			delete(h.writing, id)
		}
		if w := h.watches[id]; w != nil {
			w.unsettled = h.moment()
		}
	}
}

// moment is later than all that were returned before.
func (h *hub) moment() uint64 { return h.moments.Add(1) }
