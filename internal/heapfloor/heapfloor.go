// Package heapfloor keeps a small heap from being collected all the time.
//
// Go collects garbage when the heap has doubled, however small it is. A process
// that holds 20 MB and allocates half a megabyte for each call so collects every
// fortieth call, and a fifth of its CPU goes into that. A fixed GOGC is no remedy:
// what is right for 20 MB is far too much for 500.
package heapfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Raise lets that many bytes of garbage lie before they are collected, until
// release is called. Where more is alive than that, it is as much garbage as Go
// would have it: as much as is alive. Raise does nothing if the environment says
// how garbage is to be collected (GOGC, GOMEMLIMIT).
func Raise(garbage uint64) (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	f := &floor{garbage: garbage, percent: goPercent}
	f.follow()
	return f.release
}

// goPercent is the GOGC of a process that is not told another.
const goPercent = 100

// floor adapts GOGC to what is alive, after each collection.
type floor struct {
	garbage uint64

	mu       sync.Mutex
	percent  int
	released bool
}

// follow sets GOGC for what the last collection has left alive, and again after
// the next one.
func (f *floor) follow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return
	}
	f.set(f.percentFor(alive()))
	// Nothing refers to it, so that the next collection finds it. Of so many
	// bytes, none shares its place with something that lives on.
	runtime.AddCleanup(new([32]byte), (*floor).follow, f)
}

func (f *floor) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = true
	f.set(goPercent)
}

func (f *floor) set(percent int) {
	if percent != f.percent {
		f.percent = percent
		debug.SetGCPercent(percent) // stops the process for some microseconds
	}
}

// percentFor is the GOGC by which the garbage may lie beside what is alive.
func (f *floor) percentFor(alive uint64) int {
	// No heap is collected that is smaller, with a GOGC of 100, so that what is
	// alive has not to be known exactly, nor, before the first collection, at all.
	const minHeap = 4 << 20
	return max(goPercent, int(f.garbage*100/max(alive, minHeap)))
}

// alive is what GOGC is a percentage of: what the last collection has found on
// the heap, and where it has looked from.
func alive() (bytes uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
