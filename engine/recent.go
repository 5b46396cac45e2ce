package engine

import (
	"slices"
	"sync"
	"time"
)

// recent is a bounded set that forgets each member some time after it was
// last added, and the oldest members when it is full.
type recent[K comparable] struct {
	ttl time.Duration
	max int

	mu    sync.Mutex
	until map[K]time.Time
	queue []member[K] // by time of adding; a re-added member is in it twice
}

type member[K comparable] struct {
	key   K
	until time.Time
}

func newRecent[K comparable](ttl time.Duration, max int) *recent[K] {
	return &recent[K]{ttl: ttl, max: max, until: make(map[K]time.Time)}
}

func (r *recent[K]) add(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	m := member[K]{key, now.Add(r.ttl)}
	r.until[key] = m.until
	r.queue = append(r.queue, m)
	r.prune(now)
}

func (r *recent[K]) has(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.until[key]
	return ok && time.Now().Before(until)
}

func (r *recent[K]) remove(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.until, key)
}

// newest returns up to n members that match, the last added first.
func (r *recent[K]) newest(n int, match func(K) bool) []K {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(time.Now())
	var keys []K
	for _, m := range slices.Backward(r.queue) {
		if len(keys) == n {
			break
		}
		if r.until[m.key].Equal(m.until) && match(m.key) {
			keys = append(keys, m.key)
		}
	}
	return keys
}

func (r *recent[K]) prune(now time.Time) {
	for len(r.queue) > 0 {
		oldest := r.queue[0]
		if len(r.queue) <= r.max && now.Before(oldest.until) {
			return
		}
		if r.until[oldest.key].Equal(oldest.until) {
			delete(r.until, oldest.key)
		}
		r.queue = r.queue[1:]
	}
}
