package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/longhaul-mcp/longhaul/task"
)

// slow is a Temporal that takes a time for each end it is told of, one after the
// other, as an engine does that is too busy.
type slow struct {
	Reporter
	each time.Duration
	turn chan struct{}

	mu                    sync.Mutex
	open, most, told, bad int
}

func (s *slow) CompleteActivity(ctx context.Context, _ []byte, _ any, _ error) error {
	s.count(1, 0, 0)
	defer s.count(-1, 0, 0)
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.count(0, 0, 1)
		return ctx.Err()
	}
	time.Sleep(s.each) // however short of time the one who asked is
	<-s.turn
	if ctx.Err() != nil {
		s.count(0, 0, 1)
		return ctx.Err()
	}
	s.count(0, 1, 0)
	return nil
}

func (s *slow) count(open, told, bad int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += open
	s.told += told
	s.bad += bad
	s.most = max(s.most, s.open)
}

// A thousand calls that end at the same time are reported by and by, and none of
// them in vain.
func TestManyEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds = 1000
		s := &slow{each: 50 * time.Millisecond, turn: make(chan struct{}, 1)}
		r := New(nil, s, nil, slog.New(slog.DiscardHandler))
		var wg sync.WaitGroup
		for range rounds {
			wg.Go(func() {
				r.deliver(t.Context(), activity.Info{Deadline: time.Now().Add(time.Hour)}, task.RoundResult{}, nil, r.logger)
			})
		}
		wg.Wait()
		if s.told != rounds || s.bad != 0 || s.most > maxDeliveries {
			t.Errorf("%d ends were told, %d times in vain, at most %d at a time", s.told, s.bad, s.most)
		}
	})
}

// What waits for its turn gives up at its deadline.
func TestEndThatWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil, &failing{}, nil, slog.New(slog.DiscardHandler))
		for range maxDeliveries {
			r.deliveries <- struct{}{}
		}
		began := time.Now()
		r.deliver(t.Context(), activity.Info{Deadline: began.Add(time.Minute)}, task.RoundResult{}, nil, r.logger)
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("it waited %s", waited)
		}
	})
}

// failing must not be told anything.
type failing struct{ Reporter }

func (failing) CompleteActivity(context.Context, []byte, any, error) error {
	panic(errors.New("reported out of turn"))
}
