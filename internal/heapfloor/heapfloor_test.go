package heapfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// goal is the size of the heap at which it will be collected next.
func goal() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestRaise(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	unset(t, "GOGC")
	unset(t, "GOMEMLIMIT")
	before := goal()
	release := Raise()
	if raised := goal(); raised < before+Size {
		t.Errorf("the heap is collected at %d bytes, and was at %d", raised, before)
	}
	release()
	if after := goal(); after >= before+Size {
		t.Errorf("released, the heap is collected at %d bytes, and was at %d", after, before)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name+" decides", func(t *testing.T) {
			t.Setenv(name, "100")
			release := Raise()
			if now := goal(); now >= before+Size {
				t.Errorf("the heap is collected at %d bytes, and was at %d", now, before)
			}
			release()
		})
	}
}

// unset takes a variable out of the environment until the test ends.
func unset(t *testing.T, name string) {
	t.Setenv(name, "") // puts it back
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
