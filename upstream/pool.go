package upstream

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// pool keeps the idle sessions of one server and bounds how many there are,
// idle and busy together.
type pool struct {
	// slots holds one token for each busy session.
	slots   chan struct{}
	maxIdle int

	mu   sync.Mutex
	busy int
	idle []*session // the most recently used last
	// What is idle for idleFor is handed to discard, unless that is nil. expiry is
	// set while there is something to wait for.
	idleFor time.Duration
	discard func(*session) bool
	expiry  *time.Timer
}

// newPool makes a pool of at most size sessions, of which maxIdle are kept idle
// for as long as the pool is.
func newPool(size, maxIdle int) *pool {
	return &pool{slots: make(chan struct{}, size), maxIdle: maxIdle}
}

// expire has sessions that were not used for idleFor handed to discard, until
// that returns false: then they wait for drain.
func (p *pool) expire(idleFor time.Duration, discard func(*session) bool) {
	p.idleFor, p.discard = idleFor, discard
}

// trim discards what has been idle for long enough.
func (p *pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expiry = nil
	for len(p.idle) > 0 && time.Since(p.idle[0].idleSince) >= p.idleFor {
		if !p.discard(p.idle[0]) {
			return
		}
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.await()
}

// await has trim called when the session that was idle first is to go.
func (p *pool) await() {
	if p.discard == nil || p.expiry != nil || len(p.idle) == 0 {
		return
	}
	p.expiry = time.AfterFunc(p.idleFor-time.Since(p.idle[0].idleSince), p.trim)
}

// get waits until another session may be busy. It returns an idle one that
// serves caps, or nil: then the caller makes one. The discarded ones are for
// the caller to close: they have died, or have to make room.
func (p *pool) get(ctx context.Context, caps []byte) (sess *session, discarded []*session, err error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
	p.idle = slices.DeleteFunc(p.idle, func(s *session) bool {
		if s.alive() {
			return false
		}
		discarded = append(discarded, s)
		return true
	})
	for i, s := range slices.Backward(p.idle) {
		if bytes.Equal(s.caps, caps) {
			p.idle = slices.Delete(p.idle, i, i+1)
			return s, discarded, nil
		}
	}
	if p.busy+len(p.idle) > cap(p.slots) {
		discarded = append(discarded, p.idle[0])
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	return nil, discarded, nil
}

// put ends what get began and keeps sess, if not nil, for later. If there are
// enough already, it reports that it does not.
func (p *pool) put(sess *session) (kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if sess != nil && len(p.idle) < p.maxIdle {
		sess.idleSince = time.Now()
		p.idle = append(p.idle, sess)
		p.await()
		kept = true
	}
	<-p.slots
	return kept
}

// drain takes all idle sessions.
func (p *pool) drain() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle
	p.idle = nil
	if p.expiry != nil {
		p.expiry.Stop()
	}
	return idle
}
