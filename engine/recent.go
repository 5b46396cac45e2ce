package engine

import (
	"slices"
	"sync"
	"time"
)

// recent is a bounded map that forgets each entry some time after it was last
// put, and the oldest entries when it is full.
type recent[K comparable, V any] struct {
	ttl time.Duration
	max int

	mu      sync.Mutex
	entries map[K]entry[V]
	queue   []queued[K] // by time of putting; a key put again is in it twice
}

type entry[V any] struct {
	value V
	until time.Time
}

type queued[K comparable] struct {
	key   K
	until time.Time
}

func newRecent[K comparable, V any](ttl time.Duration, max int) *recent[K, V] {
	return &recent[K, V]{ttl: ttl, max: max, entries: make(map[K]entry[V])}
}

func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	until := now.Add(r.ttl)
	r.entries[key] = entry[V]{value, until}
	r.queue = append(r.queue, queued[K]{key, until})
	r.prune(now)
}

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[key]
	if !ok || !time.Now().Before(e.until) {
		var none V
		return none, false
	}
	return e.value, true
}

func (r *recent[K, V]) has(key K) bool {
	_, ok := r.get(key)
	return ok
}

func (r *recent[K, V]) remove(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, key)
}

// newest returns up to n keys that match, the last put first.
func (r *recent[K, V]) newest(n int, match func(K, V) bool) []K {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(time.Now())
	var keys []K
	for _, q := range slices.Backward(r.queue) {
		if len(keys) == n {
			break
		}
		if e := r.entries[q.key]; e.until.Equal(q.until) && match(q.key, e.value) {
			keys = append(keys, q.key)
		}
	}
	return keys
}

func (r *recent[K, V]) prune(now time.Time) {
	for len(r.queue) > 0 {
		oldest := r.queue[0]
		if len(r.queue) <= r.max && now.Before(oldest.until) {
			return
		}
		if r.entries[oldest.key].until.Equal(oldest.until) {
			delete(r.entries, oldest.key)
		}
		r.queue = r.queue[1:]
	}
}
