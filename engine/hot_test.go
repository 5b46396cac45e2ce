package engine_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

func hotReads(o *engine.Options) { o.HotReads = true }

// attend watches a task until it ends or the test does.
func (f *fixture) attend(ref task.Ref) {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for _, err := range f.Watch(ctx, ref, task.WatchOptions{}) {
			if err != nil && !errors.Is(err, task.ErrNotFound) && !errors.Is(err, task.ErrUnavailable) {
				f.t.Error(err)
			}
		}
	})
	f.t.Cleanup(func() {
		stop()
		watching.Wait()
	})
}

// free is how many of n reads in a row asked Temporal for nothing.
func (f *fixture) free(n int, read func()) int {
	free := 0
	for range n {
		before := f.polls.requests()
		read()
		if f.polls.requests() == before {
			free++
		}
	}
	return free
}

// warm attends a task until reads of it are hot.
func (f *fixture) warm(ref task.Ref) {
	f.t.Helper()
	f.attend(ref)
	f.reheat(ref)
}

func (f *fixture) reheat(ref task.Ref) {
	f.t.Helper()
	eventually(f.t, "reads are hot", func() bool { return f.free(10, func() { f.get(ref) }) == 10 })
}

func TestHotReads(t *testing.T) {
	t.Run("ask for nothing while the task is watched", func(t *testing.T) {
		f := setup(t, hotReads)
		f.work(askOnce)
		ref := f.create()
		asked := f.await(ref, inputRequired)
		f.warm(ref)
		want := asJSON(asked)
		var got [3]string
		eventually(t, "three ways to read that ask for nothing", func() bool {
			return f.free(1, func() {
				got[0] = asJSON(f.get(ref))
				full, err := f.GetOutcome(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				got[1] = asJSON(full)
				for now, err := range f.Watch(t.Context(), ref, task.WatchOptions{}) {
					if err != nil {
						t.Fatal(err)
					}
					got[2] = asJSON(now)
					break
				}
			}) == 1
		})
		if got != [3]string{want, want, want} {
			t.Errorf("got %s, want %s", got, want)
		}
	})

	t.Run("are not given unless asked for, nor of what nobody watches", func(t *testing.T) {
		cold := setup(t)
		cold.work(askOnce)
		ref := cold.create()
		cold.attend(ref)
		cold.await(ref, inputRequired)
		if n := cold.free(20, func() { cold.get(ref) }); n != 0 {
			t.Errorf("%d of 20 reads asked for nothing", n)
		}
		f := setup(t, hotReads)
		if n := f.free(20, func() { f.get(ref) }); n != 0 {
			t.Errorf("%d of 20 reads of an unwatched task asked for nothing", n)
		}
	})

	t.Run("are the owner's alone, and of tasks alone", func(t *testing.T) {
		f := setup(t, hotReads)
		f.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		f.warm(ref)
		strangers := []task.Ref{{ID: ref.ID, Owner: "bob"}, {ID: ref.ID}, {ID: ref.ID, Owner: owner, Held: true}}
		for _, r := range strangers {
			for _, read := range []func(context.Context, task.Ref) (*task.Task, error){f.Get, f.GetOutcome} {
				got, err := read(t.Context(), r)
				if got != nil || err == nil || err.Error() != task.ErrNotFound.Error() {
					t.Errorf("%+v got %+v, %v", r, got, err)
				}
			}
		}
	})

	t.Run("show progress that nobody waits for, and never less of it", func(t *testing.T) {
		f := setup(t, hotReads)
		const last = 3
		next, release := make(chan struct{}), make(chan struct{})
		f.work(func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
			for i := range last {
				<-next
				beat := task.Heartbeat{Progress: &task.Progress{Progress: float64(i + 1)}}
				if err := f.client.RecordActivityHeartbeat(ctx, activity.GetInfo(ctx).TaskToken, beat); err != nil {
					t.Error(err)
				}
			}
			<-release
			return done("ok"), nil
		})
		ref := f.create()
		f.warm(ref)
		var seen float64
		for i := range last {
			next <- struct{}{}
			eventually(t, "the progress is read", func() bool {
				got := 0.0
				if p := f.get(ref).Progress; p != nil {
					got = p.Progress
				}
				if got < seen {
					t.Fatalf("progress %v after %v", got, seen)
				}
				seen = got
				return got == float64(i+1)
			})
		}
		close(release)
		f.await(ref, terminal)
	})

	t.Run("end with the task", func(t *testing.T) {
		f := setup(t, hotReads)
		f.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		f.warm(ref)
		f.remove(ref)
		eventually(t, "the task is gone", func() bool {
			_, err := f.Get(t.Context(), ref)
			return errors.Is(err, task.ErrNotFound)
		})
	})

	t.Run("end when Temporal is away", func(t *testing.T) {
		l := newLink(t)
		f := setupAt(t, l.addr(), hotReads)
		setup(t).work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		f.warm(ref)
		l.cut()
		eventually(t, "reads say so", func() bool {
			_, err := f.Get(t.Context(), ref)
			return errors.Is(err, task.ErrUnavailable)
		})
		l.mend()
		eventually(t, "reads are hot again", func() bool {
			return f.free(10, func() {
				if _, err := f.Get(t.Context(), ref); err != nil && !errors.Is(err, task.ErrUnavailable) {
					t.Fatal(err)
				}
			}) == 10
		})
	})

	t.Run("are of what Temporal has confirmed a moment ago", func(t *testing.T) {
		var ahead atomic.Int64
		f := setup(t, hotReads, func(o *engine.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		})
		f.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		f.warm(ref)
		for range 5 {
			ahead.Add(int64(time.Minute))
			if n := f.free(1, func() { f.get(ref) }); n != 0 {
				t.Fatal("a state that was last confirmed a minute ago was shown")
			}
		}
	})
}

// What was sent through this process is seen by every read that follows, however
// the sending ended.
func TestHotReadsFollowWrites(t *testing.T) {
	t.Run("answers", func(t *testing.T) {
		f := setup(t, hotReads)
		const rounds = 25
		f.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
			if in.Round > rounds {
				return done("ok"), nil
			}
			return ask("a", "b"), nil
		})
		ref := f.create()
		now := f.await(ref, inputRequired)
		f.warm(ref)
		for now.Status == task.StatusInputRequired {
			f.get(ref)
			key := now.Inputs[0].Key
			if err := f.Answer(t.Context(), ref, answers(key)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				got := f.get(ref)
				for _, in := range got.Inputs {
					if in.Key == key {
						t.Fatalf("%s was answered and is still asked", key)
					}
				}
				if got.Rev <= now.Rev {
					t.Fatalf("an answer took the revision from %d to %d", now.Rev, got.Rev)
				}
			}
			now = f.await(ref, func(n *task.Task) bool { return n.Status != task.StatusWorking })
		}
	})

	for name, cancel := range map[string]func(*fixture, task.Ref) error{
		"cancels":           func(f *fixture, ref task.Ref) error { _, err := f.Cancel(f.t.Context(), ref, ""); return err },
		"requested cancels": func(f *fixture, ref task.Ref) error { return f.RequestCancel(f.t.Context(), ref, "") },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t, hotReads)
			f.work(askOnce)
			for range 8 {
				ref := f.create()
				f.await(ref, inputRequired)
				f.warm(ref)
				if err := cancel(f, ref); err != nil {
					t.Fatal(err)
				}
				if got := f.get(ref); got.Status != task.StatusCancelled {
					t.Fatalf("a cancelled task is %s", got.Status)
				}
			}
		})
	}

	t.Run("answers that seem to have failed", func(t *testing.T) {
		failing := &failingSignals{}
		f := setup(t, hotReads, func(o *engine.Options) {
			failing.Client = o.Client
			o.Client = failing
		})
		f.work(askOnce)
		for range 8 {
			ref := f.create()
			asked := f.await(ref, inputRequired)
			f.warm(ref)
			wantError(t, f.Answer(t.Context(), ref, answers("confirm")), task.ErrUnavailable)
			if got := f.get(ref); got.Rev <= asked.Rev {
				t.Fatalf("an answer that Temporal has is not seen: %+v", got)
			}
		}
	})
}

// failingSignals sends signals, and says it could not.
type failingSignals struct{ client.Client }

func (c *failingSignals) SignalWorkflow(ctx context.Context, id, run, name string, arg any) error {
	return errors.Join(errors.New("the connection broke"), c.Client.SignalWorkflow(ctx, id, run, name, arg))
}

// What one caller was shown, none is shown an older state of; whoever the change
// came from, and however it was read.
func TestHotReadsAreNoOlderThanWhatWasShown(t *testing.T) {
	t.Run("by a read past the watch", func(t *testing.T) {
		f := setup(t, hotReads)
		other := setup(t)
		other.work(askOnce)
		key := withKey(rand.Text())
		ref := f.create(key)
		f.await(ref, inputRequired)
		f.polls.stall() // the watch learns of nothing by itself
		f.warm(ref)
		if err := other.Answer(t.Context(), ref, answers("confirm")); err != nil {
			t.Fatal(err)
		}
		f.shows(ref, key, other.await(ref, terminal))
	})

	// A plain success is not in the memo, which is all that changes otherwise.
	t.Run("by a read of how the workflow closed", func(t *testing.T) {
		f := setup(t, hotReads)
		other := setup(t)
		release := make(chan struct{})
		other.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
			<-release
			return done("ok"), nil
		})
		key := withKey(rand.Text())
		ref := f.create(key)
		f.polls.stall()
		f.warm(ref)
		close(release)
		f.shows(ref, key, other.await(ref, terminal))
	})

	t.Run("by a list", func(t *testing.T) {
		f := setup(t, hotReads)
		other := setup(t)
		other.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		f.polls.stall()
		f.warm(ref)
		if err := other.Answer(t.Context(), ref, answers("confirm")); err != nil {
			t.Fatal(err)
		}
		other.await(ref, terminal)
		var listed *task.Task
		eventually(t, "the list shows the end", func() bool {
			listed = f.listed(ref)
			return listed != nil && terminal(listed)
		})
		if got := f.get(ref); got.Rev < listed.Rev {
			t.Errorf("revision %d was listed, and then %d read", listed.Rev, got.Rev)
		}
	})

	t.Run("to any of many", func(t *testing.T) {
		f := setup(t, hotReads)
		other := setup(t)
		other.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
			if in.Round > 25 {
				return done("ok"), nil
			}
			return ask("a"), nil
		})
		ref := f.create()
		f.warm(ref)
		var shown atomic.Int64 // the newest revision that any reader was shown
		var hot atomic.Int64
		var readers sync.WaitGroup
		stop := make(chan struct{})
		first := func(ctx context.Context, ref task.Ref) (*task.Task, error) {
			for now, err := range f.Watch(ctx, ref, task.WatchOptions{Progress: true}) {
				return now, err
			}
			return nil, nil
		}
		for _, read := range []func(context.Context, task.Ref) (*task.Task, error){f.Get, f.Get, f.GetOutcome, first} {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := shown.Load()
					var asked atomic.Bool
					got, err := read(context.WithValue(t.Context(), askedKey{}, &asked), ref)
					if err != nil {
						t.Error(err)
						return
					}
					if !asked.Load() {
						hot.Add(1)
						if got.Rev < before {
							t.Errorf("revision %d was shown, and then %d from memory", before, got.Rev)
							return
						}
					}
					for old := shown.Load(); old < got.Rev && !shown.CompareAndSwap(old, got.Rev); old = shown.Load() {
					}
				}
			})
		}
		for now := range other.Watch(t.Context(), ref, task.WatchOptions{}) {
			if inputRequired(now) {
				who := f // so that writes of this process and of others alternate
				if now.Rev%4 == 0 {
					who = other
				}
				if err := who.Answer(t.Context(), ref, answers(now.Inputs[0].Key)); err != nil {
					t.Error(err)
				}
			}
		}
		close(stop)
		readers.Wait()
		if hot.Load() == 0 {
			t.Error("no read was hot")
		}
	})
}

// shows has the task read by a create with its key, and then from memory if that
// may be.
func (f *fixture) shows(ref task.Ref, key func(*task.CreateRequest), want *task.Task) {
	f.t.Helper()
	if again, err := f.Create(f.t.Context(), request(key)); err != nil || again.Rev < want.Rev {
		f.t.Fatalf("got %+v, %v", again, err)
	}
	for range 3 {
		if got := f.get(ref); got.Rev < want.Rev {
			f.t.Fatalf("revision %d was shown, and then %d", want.Rev, got.Rev)
		}
	}
}

// Beyond the bound on long polls tasks are polled, and read from Temporal; the
// first that ends or is left hands its long poll on.
func TestLongPollsAreHandedOn(t *testing.T) {
	f := setup(t, hotReads, func(o *engine.Options) { o.MaxWatches = 1 })
	f.work(askOnce)
	first := f.create()
	f.await(first, inputRequired)
	f.warm(first)
	second := f.create()
	f.await(second, inputRequired)
	f.attend(second)
	if n := f.free(20, func() { f.get(second) }); n != 0 {
		t.Errorf("%d of 20 reads of a task without a long poll asked for nothing", n)
	}
	if err := f.Answer(t.Context(), first, answers("confirm")); err != nil {
		t.Fatal(err)
	}
	f.await(first, terminal)
	f.reheat(second)
	if f.polls.openedFor(second.ID) == 0 || f.polls.mostOpen() > 1 {
		t.Errorf("%d long polls for the second task, %d at the same time", f.polls.openedFor(second.ID), f.polls.mostOpen())
	}
}

func TestOutcomeCache(t *testing.T) {
	size := func(n int64) func(*engine.Options) {
		return func(o *engine.Options) { o.OutcomeCache = n }
	}
	echo := func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
		return task.RoundResult{Result: in.Arguments}, nil
	}
	argument := func(text string) func(*task.CreateRequest) {
		return func(r *task.CreateRequest) { r.Arguments = json.RawMessage(asJSON(map[string]string{"text": text})) }
	}
	full := func(f *fixture, ref task.Ref) string {
		f.t.Helper()
		got, err := f.GetOutcome(f.t.Context(), ref)
		if err != nil {
			f.t.Fatal(err)
		}
		return asJSON(got)
	}

	t.Run("answers what was waited for, and what was read", func(t *testing.T) {
		f := setup(t)
		f.work(askOnce)
		ref := f.create()
		f.await(ref, inputRequired)
		if err := f.Answer(t.Context(), ref, answers("confirm")); err != nil {
			t.Fatal(err)
		}
		f.await(ref, terminal)
		f.awaitClosed(ref)
		for name, reader := range map[string]*fixture{"the one that waited": f, "another": setup(t)} {
			reader.get(ref)
			full(reader, ref)
			var got [2]string
			if reader.free(1, func() { got = [2]string{asJSON(reader.get(ref)), full(reader, ref)} }) != 1 {
				t.Errorf("%s asked again", name)
			}
			fresh := setup(t, size(-1))
			if want := [2]string{asJSON(fresh.get(ref)), full(fresh, ref)}; got != want {
				t.Errorf("%s read %s from memory, want %s", name, got, want)
			}
			if reader.free(1, func() { reader.await(ref, terminal) }) != 1 {
				t.Errorf("%s asked again to wait for what has ended", name)
			}
		}
	})

	t.Run("answers what a quick call was waited for", func(t *testing.T) {
		f := setup(t)
		f.work(echo)
		eventually(t, "a call that ends within the quiet time", func() bool {
			ref := f.create()
			before := f.polls.requests()
			f.await(ref, terminal)
			if f.polls.requests()-before > 1 {
				return false
			}
			return f.free(1, func() { f.get(ref); full(f, ref) }) == 1
		})
	})

	t.Run("answers what was waited for for a long time", func(t *testing.T) {
		var ahead atomic.Int64
		f := setup(t, hotReads, func(o *engine.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		})
		release := make(chan struct{})
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
			<-release
			return done("ok"), nil
		})
		ref := f.create()
		var waiting sync.WaitGroup
		waiting.Go(func() { f.await(ref, terminal) })
		f.reheat(ref) // the long poll has begun
		ahead.Add(int64(time.Minute))
		close(release)
		waiting.Wait()
		if f.free(1, func() { f.get(ref); full(f, ref) }) != 1 {
			t.Error("what a long poll has just told of was asked for")
		}
	})

	t.Run("is bounded in bytes", func(t *testing.T) {
		f := setup(t, size(32<<10))
		f.work(echo)
		var refs []task.Ref
		const fits = 10 // of 3 KiB each
		for i := range fits + 5 {
			ref := f.create(argument(strings.Repeat("x", 2000) + string(rune('a'+i))))
			f.await(ref, terminal)
			f.awaitClosed(ref)
			full(f, ref)
			refs = append(refs, ref)
		}
		kept := 0
		for i := len(refs) - 1; i >= 0; i-- {
			before := f.polls.requests()
			if _, err := f.Get(t.Context(), refs[i]); err != nil {
				t.Fatal(err)
			}
			if f.polls.requests() != before {
				break
			}
			kept++
		}
		if kept < fits-2 || kept > fits+1 {
			t.Errorf("%d outcomes of 3 KiB were kept in 32 KiB", kept)
		}
		large := f.create(argument(strings.Repeat("x", 20<<10)))
		f.await(large, terminal)
		f.awaitClosed(large)
		if n := f.free(3, func() { full(f, large) }); n != 0 {
			t.Error("an outcome of most of the size was kept")
		}
	})

	t.Run("keeps no held calls, nor what strangers ask for", func(t *testing.T) {
		f := setup(t)
		f.work(echo)
		held := f.create(func(r *task.CreateRequest) { r.HeldID = t.Name() })
		f.await(held, terminal)
		f.awaitClosed(held)
		if n := f.free(5, func() { full(f, held) }); n != 0 {
			t.Errorf("%d of 5 reads of a held call asked for nothing", n)
		}
		_, err := f.Get(t.Context(), task.Ref{ID: held.ID, Owner: owner})
		wantError(t, err, task.ErrNotFound)
		ref := f.create()
		f.await(ref, terminal)
		f.awaitClosed(ref)
		full(f, ref)
		for _, stranger := range []task.Ref{{ID: ref.ID, Owner: "bob"}, {ID: ref.ID}, {ID: ref.ID, Owner: owner, Held: true}} {
			_, err := f.GetOutcome(t.Context(), stranger)
			wantError(t, err, task.ErrNotFound)
		}
	})

	t.Run("keeps nothing before the workflow is closed", func(t *testing.T) {
		f := setup(t)
		running, release := make(chan struct{}), make(chan struct{})
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
			close(running)
			<-release
			return done("too late"), nil
		})
		defer close(release)
		ref := f.create()
		<-running
		if _, err := f.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		if n := f.free(5, func() { f.get(ref) }); n != 0 {
			t.Errorf("%d of 5 reads of a task that cleans up asked for nothing", n)
		}
	})

	t.Run("lasts for some seconds, and no longer than the task", func(t *testing.T) {
		var ahead atomic.Int64
		f := setup(t, func(o *engine.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			o.Grace = time.Minute
		})
		f.work(echo)
		ref := f.create()
		f.await(ref, terminal)
		f.awaitClosed(ref)
		full(f, ref)
		ahead.Add(int64(11 * time.Second))
		before := f.polls.requests()
		full(f, ref)
		if n := f.polls.requests() - before; n != 1 {
			t.Errorf("a look whether the task is still there took %d requests", n)
		}
		ahead.Store(int64(time.Hour + time.Minute - 5*time.Second))
		full(f, ref)
		ahead.Add(int64(6 * time.Second))
		if f.free(1, func() {
			_, err := f.GetOutcome(t.Context(), ref)
			wantError(t, err, task.ErrExpired)
		}) != 1 {
			t.Error("what had expired was asked for")
		}
		_, err := f.GetOutcome(t.Context(), task.Ref{ID: ref.ID, Owner: "bob"})
		wantError(t, err, task.ErrNotFound)
	})

	t.Run("forgets what is deleted", func(t *testing.T) {
		var ahead atomic.Int64
		f := setup(t, func(o *engine.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		})
		f.work(echo)
		ended := func() task.Ref {
			ref := f.create()
			f.await(ref, terminal)
			f.awaitClosed(ref)
			full(f, ref)
			return ref
		}
		here := ended()
		if err := f.Delete(t.Context(), here); err != nil {
			t.Fatal(err)
		}
		_, err := f.GetOutcome(t.Context(), here)
		wantError(t, err, task.ErrNotFound)

		elsewhere := ended()
		if err := setup(t).Delete(t.Context(), elsewhere); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the task is gone", func() bool {
			ahead.Add(int64(11 * time.Second))
			_, err := f.GetOutcome(t.Context(), elsewhere)
			return errors.Is(err, task.ErrNotFound)
		})
		ahead.Add(-int64(11 * time.Second))
		_, err = f.Get(t.Context(), elsewhere)
		wantError(t, err, task.ErrNotFound)
	})

	t.Run("does not take a task for another that had its key", func(t *testing.T) {
		f := setup(t)
		f.work(echo)
		key := withKey(rand.Text())
		ref := f.create(key)
		f.await(ref, terminal)
		f.awaitClosed(ref)
		full(f, ref)
		if err := setup(t).Delete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the key is free again", func() bool {
			_, err := f.client.DescribeWorkflowExecution(t.Context(), ref.ID, "")
			var notFound *serviceerror.NotFound
			return errors.As(err, &notFound)
		})
		again, err := f.Create(t.Context(), request(key))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.get(ref); !got.CreatedAt.Equal(again.CreatedAt) {
			t.Errorf("a task of %v reads as that of %v", again.CreatedAt, got.CreatedAt)
		}
	})
}
