package activities

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/longhaul-mcp/longhaul/task"
)

// heartbeats keeps when heartbeats came, and fails those of a time in which
// Temporal is away.
type heartbeats struct {
	Reporter
	begun    time.Time
	away     func(time.Duration) bool
	mu       sync.Mutex
	came     []time.Duration
	progress []float64
}

func (h *heartbeats) RecordActivityHeartbeat(_ context.Context, _ []byte, details ...any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := time.Since(h.begun)
	h.came = append(h.came, at)
	if h.away != nil && h.away(at) {
		return errors.New("away")
	}
	if p := details[0].(task.Heartbeat).Progress; p != nil {
		h.progress = append(h.progress, p.Progress)
	}
	return nil
}

func TestHeartbeats(t *testing.T) {
	// beating is how often Temporal hears of a round in its first 20 seconds.
	beating := func(t *testing.T, timeout time.Duration, away func(time.Duration) bool, tool func(*beat)) (came []time.Duration, progress []float64) {
		synctest.Test(t, func(t *testing.T) {
			h := &heartbeats{begun: time.Now(), away: away}
			b := &beat{temporal: h, timeout: timeout, woken: make(chan struct{}, 1)}
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { b.run(t.Context(), done) })
			wg.Go(func() { tool(b) })
			time.Sleep(20*time.Second + 500*time.Millisecond)
			close(done)
			wg.Wait()
			came, progress = h.came, h.progress
		})
		return came, progress
	}
	seconds := func(n ...int) (times []time.Duration) {
		for _, n := range n {
			times = append(times, time.Duration(n)*time.Second)
		}
		return times
	}
	silent := func(*beat) {}
	reports := func(b *beat) {
		for i, pause := range []time.Duration{1500 * time.Millisecond, 200 * time.Millisecond, 10 * time.Second} {
			time.Sleep(pause)
			b.progress(task.Progress{Progress: float64(i)}, nil)
		}
	}

	t.Run("of a tool that says nothing are rare", func(t *testing.T) {
		came, _ := beating(t, time.Minute, nil, silent)
		if want := seconds(5, 10, 15, 20); !slices.Equal(came, want) {
			t.Errorf("at %v, want %v", came, want)
		}
	})
	t.Run("of a call that has ended are rarer still", func(t *testing.T) {
		came, progress := beating(t, 24*time.Second, nil, func(b *beat) {
			b.progress(task.Progress{Progress: 1}, nil)
			b.rest()
		})
		if want := seconds(1, 9, 17); !slices.Equal(came, want) || progress[0] != 1 {
			t.Errorf("at %v with progress %v, want %v", came, progress, want)
		}
	})
	t.Run("fit into a short timeout", func(t *testing.T) {
		came, _ := beating(t, 24*time.Second, nil, silent)
		if want := seconds(2, 4, 6, 8, 10, 12, 14, 16, 18, 20); !slices.Equal(came, want) {
			t.Errorf("at %v, want %v", came, want)
		}
	})
	t.Run("have no message that Temporal would not take", func(t *testing.T) {
		b := &beat{woken: make(chan struct{}, 1)}
		b.progress(task.Progress{Message: strings.Repeat("é", 3<<20)}, nil)
		if n := utf8.RuneCountInString(b.latest().Progress.Message); n != 1000 {
			t.Errorf("a message of %d characters", n)
		}
	})
	t.Run("bring progress within a second", func(t *testing.T) {
		came, progress := beating(t, time.Minute, nil, reports)
		if want := seconds(2, 7, 12, 17); !slices.Equal(came, want) {
			t.Errorf("at %v, want %v", came, want)
		}
		if want := []float64{1, 1, 2, 2}; !slices.Equal(progress, want) {
			t.Errorf("progress %v, want %v", progress, want)
		}
	})
	t.Run("are tried again soon when Temporal is away", func(t *testing.T) {
		away := func(at time.Duration) bool { return at > 4*time.Second && at < 8*time.Second }
		came, _ := beating(t, time.Minute, away, silent)
		if want := seconds(5, 6, 7, 8, 13, 18); !slices.Equal(came, want) {
			t.Errorf("at %v, want %v", came, want)
		}
	})
	t.Run("keep progress that Temporal could not be told", func(t *testing.T) {
		away := func(at time.Duration) bool { return at < 4*time.Second }
		came, progress := beating(t, time.Minute, away, reports)
		if want := seconds(2, 3, 4, 9, 12, 17); !slices.Equal(came, want) {
			t.Errorf("at %v, want %v", came, want)
		}
		if want := []float64{1, 1, 2, 2}; !slices.Equal(progress, want) {
			t.Errorf("progress %v, want %v", progress, want)
		}
	})
}
