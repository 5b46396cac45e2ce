package engine

import (
	"container/list"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// outcomeFor is how long a task that was seen closed is read from memory, and
	// so how long it can still be read after another process has deleted it.
	outcomeFor = 10 * time.Second
	// outcomeShare: an outcome is kept if it takes no more than this part of the
	// cache.
	outcomeShare = 8
)

// ending is a task whose workflow is closed: nothing of it changes any more,
// until it is deleted.
type ending struct {
	// task has its full outcome or only the head of it. It is nil where something
	// was there that must not come back.
	task      *task.Task
	ownerHash string
	// began and seen are when the look at it did that found it so, and when it had.
	began, seen time.Time
}

// size is about what an entry takes, in bytes.
func (x *ending) size() int64 {
	if x.task == nil {
		return 256
	}
	o := x.task.Outcome
	n := 1024 + len(x.task.StatusMessage) + len(o.Message) + len(o.Result)
	if o.Error != nil {
		n += len(o.Error.Message) + len(o.Error.Data)
	}
	return int64(n)
}

// isOf reports whether x is the end of t, and not of another task that had its
// ID before.
func (x *ending) isOf(t *task.Task) bool {
	return x.task.CreatedAt.Equal(t.CreatedAt) && x.task.Rev == t.Rev
}

// outcomes keeps the closed tasks that were last asked for, within a number of
// bytes.
type outcomes struct {
	max int64

	mu      sync.Mutex
	size    int64
	entries map[string]*list.Element
	used    *list.List // of *outcomeEntry, the last used first
}

type outcomeEntry struct {
	id string
	*ending
}

func newOutcomes(max int64) *outcomes {
	return &outcomes{max: max, entries: make(map[string]*list.Element), used: list.New()}
}

// get is what is known of a closed task, however long ago that was so, or nil.
func (c *outcomes) get(id string) *ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok {
		return nil
	}
	x := e.Value.(*outcomeEntry).ending
	if x.task == nil {
		return nil
	}
	c.used.MoveToFront(e)
	return x
}

// put keeps x, unless something newer is known of that task.
func (c *outcomes) put(id string, x *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[id]; ok {
		old := e.Value.(*outcomeEntry).ending
		if old.began.After(x.began) {
			return
		}
		if old.task != nil && x.task != nil && old.isOf(x.task) && hasMore(x.task.Outcome) {
			x = &ending{old.task, x.ownerHash, x.began, x.seen} // which may have all of it
		}
		c.remove(e)
	}
	if x.size() > c.max/outcomeShare {
		return
	}
	c.entries[id] = c.used.PushFront(&outcomeEntry{id, x})
	for c.size += x.size(); c.size > c.max; {
		c.remove(c.used.Back())
	}
}

// forget drops what is known of a task, and ignores what is read before now.
func (c *outcomes) forget(id string, now time.Time) { c.put(id, &ending{began: now}) }

func (c *outcomes) remove(e *list.Element) {
	x := c.used.Remove(e).(*outcomeEntry)
	c.size -= x.size()
	delete(c.entries, x.id)
}

// remember keeps what was read of a task, if it is closed.
func (e *Engine) remember(r *reading, t *task.Task) {
	if r.closed() && !r.held { // the ID of a held call is used again
		e.keep(t, r.card.OwnerHash, r.at, r.at)
	}
}

func (e *Engine) keep(t *task.Task, ownerHash string, began, seen time.Time) {
	e.outcomes.put(t.ID, &ending{t, ownerHash, began, seen})
}

// known is a task that need not be asked for, with its full outcome or only the
// head of it, or nil. A stranger is told nothing from memory: it would be told
// faster than what is not there.
func (e *Engine) known(ref task.Ref, full bool) (*task.Task, error) {
	if ref.Held || e.deleted.has(ref.ID) {
		return nil, nil
	}
	if e.o.HotReads {
		if t := e.watches.hot(ref); t != nil {
			return t, nil
		}
	}
	x := e.outcomes.get(ref.ID)
	switch {
	case x == nil, e.o.Now().Sub(x.seen) > outcomeFor, full && hasMore(x.task.Outcome), x.ownerHash != ref.Owner.Hash():
		return nil, nil
	case e.isOver(x.task.ExpiresAt()):
		return nil, task.ErrExpired
	}
	if full {
		return x.task, nil
	}
	head := *x.task
	head.Outcome = head.Outcome.Head()
	return &head, nil
}

// isOver reports whether a task that expired then and has ended is no longer to
// be read.
func (e *Engine) isOver(expiresAt time.Time) bool {
	return e.o.Now().After(expiresAt.Add(e.o.Grace))
}
