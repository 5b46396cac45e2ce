package heapfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

const size = 96 << 20

// garbage is how much of it may lie before the next collection. It first
// collects what there is.
func garbage() uint64 {
	runtime.GC()
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(goal)
	return goal[0].Value.Uint64() - goal[1].Value.Uint64()
}

func TestRaise(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(goPercent))
	unset(t, "GOGC")
	unset(t, "GOMEMLIMIT")
	if n := garbage(); n >= size/2 {
		t.Fatalf("%d bytes lie before anything is raised", n)
	}
	release := Raise(size)
	if n := garbage(); n < size/2 || n > 2*size {
		t.Errorf("%d bytes lie beside a small heap, want about %d", n, size)
	}

	// It is followed when the heap grows, and when it shrinks: each time GOGC is
	// set a little after the collection that has found out.
	const more = 3 * size
	large := make([]byte, more)
	for garbage() > more+size {
		runtime.Gosched()
	}
	if n := garbage(); n < more {
		t.Errorf("%d bytes lie beside %d that are alive: fewer than without Raise", n, more)
	}
	runtime.KeepAlive(large) // until here
	for n := garbage(); n < size/2 || n > 2*size; n = garbage() {
		runtime.Gosched()
	}

	release()
	if n := garbage(); n >= size/2 {
		t.Errorf("%d bytes lie after it is released", n)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name+" decides", func(t *testing.T) {
			t.Setenv(name, "100")
			defer Raise(size)()
			if n := garbage(); n >= size/2 {
				t.Errorf("%d bytes lie", n)
			}
		})
	}
}

func TestPercentFor(t *testing.T) {
	f := floor{garbage: size}
	for _, alive := range []uint64{0, 1, 1 << 20, 10 << 20, size / 2, size, 2 * size, 100 * size, 1 << 60} {
		percent := f.percentFor(alive)
		if alive >= size && percent != goPercent {
			t.Errorf("%d alive: %d %%, want Go's own", alive, percent)
		}
		lie := float64(max(alive, 4<<20)) * float64(percent) / 100
		if alive < size && (lie > size || lie < size*0.98) {
			t.Errorf("%d alive: %.0f bytes may lie, want %d", alive, lie, size)
		}
	}
}

// unset takes a variable out of the environment until the test ends.
func unset(t *testing.T, name string) {
	t.Setenv(name, "") // puts it back
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
