package demo

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// These tests run in the fake time of package synctest.

func countdownCall(checkpoint any, seconds any) *mcp.CallToolParams {
	return &mcp.CallToolParams{
		Meta:      attempt(checkpoint),
		Name:      "countdown",
		Arguments: map[string]any{"seconds": seconds, "label": "tea"},
	}
}

func TestCountdownReportsEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := setup(t)
		begin := time.Now()
		got := structured[countdownOutput](t, h.call(t, countdownCall(nil, 2.5)))
		if took := time.Since(begin); took != 2500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if !got.Deadline.Equal(time.Now()) || got.Label != "tea" || got.Seconds != 2.5 || got.Resumed {
			t.Errorf("got %+v", got)
		}
		progress := h.reported(t)
		growing(t, progress)
		want := map[float64]string{0: "tea: 3 s left", 1: "tea: 2 s left", 2: "tea: 1 s left", 2.5: "tea: done"}
		for _, p := range progress {
			if p.Message != want[p.Progress] || p.Total != 2.5 {
				t.Errorf("progress %v of %v: %q", p.Progress, p.Total, p.Message)
			}
		}
		if len(progress) != len(want) {
			t.Errorf("%d notifications, want %d", len(progress), len(want))
		}
	})
}

func TestCountdownGoesOnFromItsCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := setup(t)
		// The first attempt is lost after 3.5 s of 10, the next begins 4 s later.
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if _, err := h.session.CallTool(ctx, countdownCall(nil, 10)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error = %v", err)
		}
		progress := h.reported(t)
		synctest.Wait()
		last := progress[len(progress)-1]
		if last.Progress != 3 {
			t.Errorf("last progress is %v, want 3", last.Progress)
		}
		<-time.After(4 * time.Second)

		h = setupClient(t, h.dir, wire2026, &mcp.ClientOptions{})
		got := structured[countdownOutput](t, h.call(t, countdownCall(checkpointOf(last), 10)))
		if took := time.Since(begin); took != 10*time.Second || !got.Resumed {
			t.Errorf("both attempts took %v, resumed = %v", took, got.Resumed)
		}
		progress = h.reported(t)
		growing(t, progress)
		if first := progress[0]; first.Progress != 7.5 || first.Message != "tea: 3 s left" {
			t.Errorf("goes on with %v, %q", first.Progress, first.Message)
		}
	})
}

func TestCountdownWithADeadlineFromElsewhere(t *testing.T) {
	for name, tt := range map[string]struct{ ahead, want time.Duration }{
		"that has passed":          {-time.Hour, 0},
		"from a clock that is off": {time.Hour, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := setup(t)
				begin := time.Now()
				saved := countdownState{Deadline: begin.Add(tt.ahead)}
				structured[countdownOutput](t, h.call(t, countdownCall(saved, 5)))
				if took := time.Since(begin); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				growing(t, h.reported(t))
			})
		})
	}
}

func TestCountdownStartsOverFromABadCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := setup(t)
		begin := time.Now()
		got := structured[countdownOutput](t, h.call(t, countdownCall("soon", 2)))
		if took := time.Since(begin); took != 2*time.Second || got.Resumed {
			t.Errorf("took %v, resumed = %v", took, got.Resumed)
		}
	})
}

func TestCountdownLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := setup(t)
		for _, seconds := range []any{-1, 86400.5, "1", nil} {
			wantError(t, h.call(t, countdownCall(nil, seconds)), "seconds")
		}
		for _, seconds := range []any{0, 0.25} {
			structured[countdownOutput](t, h.call(t, countdownCall(nil, seconds)))
		}
	})
}

func TestCountdownStopsWhenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := setup(t)
		ended := h.results()
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := h.session.CallTool(ctx, countdownCall(nil, maxCountdown)); err == nil {
			t.Error("the cancelled call succeeded")
		}
		wantError(t, <-ended, context.Canceled.Error())
		if took := time.Since(begin); took != 90*time.Second {
			t.Errorf("the tool ran for %v after a cancel at 90 s", took)
		}
	})
}
