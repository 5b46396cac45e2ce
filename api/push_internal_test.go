package api

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// listed counts the queries of an owner who has no tasks.
type listed struct {
	task.Service
	queries atomic.Int64
}

func (s *listed) List(context.Context, task.ListRequest) (*task.Page, error) {
	s.queries.Add(1)
	return &task.Page{}, nil
}

// told is a task of which a watch tells this.
type told struct {
	task.Service
	states []*task.Task
	err    error
}

func (s *told) Watch(ctx context.Context, _ task.Ref, _ task.WatchOptions) iter.Seq2[*task.Task, error] {
	return func(yield func(*task.Task, error) bool) {
		for _, t := range s.states {
			if !yield(t, nil) || t.Status.Terminal() {
				return
			}
		}
		if s.err != nil {
			yield(nil, s.err)
		}
	}
}

// The end of a task is told once whatever its revision: if a cancel overtakes an
// answer that no worker had taken in, that of the answer is no lower.
func TestEndIsTold(t *testing.T) {
	working := &task.Task{ID: "t", Status: task.StatusWorking, Rev: 3}
	cancelled := &task.Task{ID: "t", Status: task.StatusCancelled, Rev: 3}
	lost := task.ErrClaimMissing
	for name, c := range map[string]struct {
		*told
		want []followed
	}{
		"whatever its revision":         {&told{states: []*task.Task{working, cancelled}}, []followed{{"t", working, nil}, {"t", cancelled, nil}}},
		"even if its result is lost":    {&told{states: []*task.Task{working}, err: lost}, []followed{{"t", working, nil}, {"t", nil, lost}}},
		"if the task is gone meanwhile": {&told{states: []*task.Task{working}, err: task.ErrNotFound}, []followed{{"t", working, nil}, {"t", nil, task.ErrNotFound}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFollower(t.Context(), c.told)
				defer f.stop()
				f.follow(task.Ref{ID: "t"}, 0)
				for _, want := range c.want {
					select {
					case got := <-f.states:
						if got != want {
							t.Errorf("got %+v, want %+v", got, want)
						}
					case <-time.After(time.Hour):
						t.Fatalf("never told of %+v", want)
					}
				}
			})
		})
	}
	t.Run("on one stream alone", func(t *testing.T) {
		var s statuses
		k := statusKey{"s", "t"}
		defer s.join(k, false)()
		for _, c := range []struct {
			*task.Task
			want bool
		}{{working, true}, {working, false}, {cancelled, true}, {cancelled, false}, {working, false}} {
			if got := s.take(k, c.Task, false); got != c.want {
				t.Errorf("%s taken: %v, want %v", c.Status, got, c.want)
			}
		}
	})
}

// A GET stream of a session that asks for nothing is a query each minute; of
// one that does, every five seconds.
func TestIdleSessionIsSeldomListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := new(listed)
		a := &API{tasks: tasks, opts: Options{Replicated: true}}
		var open gets
		get, remove := open.add("s")
		defer remove()
		push := a.newSessionPush(t.Context(), &session{ID: "s", Version: version20251125}, "", get.active)
		defer push.stop()
		within := func(d time.Duration, what string, least, most int64) {
			t.Helper()
			before := tasks.queries.Load()
			for range d / time.Second {
				time.Sleep(time.Second)
				if what == "active" {
					open.active("s")
				}
			}
			synctest.Wait()
			if n := tasks.queries.Load() - before; n < least || n > most {
				t.Errorf("%s for %s: %d queries, want %d to %d", what, d, n, least, most)
			}
		}
		within(time.Hour, "idle", 59, 65)
		within(10*time.Minute, "active", 110, 121)
		within(time.Hour, "idle again", 59, 65)
		open.active("s")
		within(relistEvery+time.Second, "a request", 1, 1)
	})
}
