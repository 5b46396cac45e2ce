package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// shelf is a directory of claims that can be looked into.
type shelf struct {
	*claims.Dir
	t    *testing.T
	root string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, root: filepath.Join(t.TempDir(), "claims")}
	var err error
	if s.Dir, err = claims.OpenDir(s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shelf) option(o *engine.Options) { o.Claims = s.Dir }

// files are the stored files.
func (s *shelf) files() []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.root, "*", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// age makes all sets two days old.
func (s *shelf) age() {
	s.t.Helper()
	sets, err := filepath.Glob(filepath.Join(s.root, "*.*"))
	if err != nil {
		s.t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, set := range sets {
		if err := os.Chtimes(set, old, old); err != nil {
			s.t.Fatal(err)
		}
	}
}

// keepResult ends a round with a result that is kept on the shelf.
func (s *shelf) keepResult(result string) roundFunc {
	return func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
		c, err := s.Put(ctx, task.ClaimSet{TaskID: workflowID(ctx), CreatedAt: in.CreatedAt}, []byte(result))
		return task.RoundResult{ResultClaim: &c}, err
	}
}

// workflowID is the task that a round is of.
func workflowID(ctx context.Context) string { return activity.GetInfo(ctx).WorkflowExecution.ID }

func largeArguments(fill string) func(*task.CreateRequest) {
	args := json.RawMessage(`{"path":"a.txt","data":"` + strings.Repeat(fill, 2*claims.Threshold) + `"}`)
	return func(r *task.CreateRequest) { r.Arguments = args }
}

func TestLargeArguments(t *testing.T) {
	t.Run("are with the round, and not in Temporal", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		rounds := make(chan task.RoundInput, 1)
		f.work(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
			rounds <- in
			return done("ok"), nil
		})
		ref := f.create(largeArguments("x"))
		in := <-rounds
		if in.Arguments != nil || in.ArgumentsClaim == nil {
			t.Fatalf("the round has %d bytes of arguments and claim %v", len(in.Arguments), in.ArgumentsClaim)
		}
		args, err := s.Get(t.Context(), task.ClaimSet{TaskID: ref.ID, CreatedAt: in.CreatedAt}, *in.ArgumentsClaim)
		want := request(largeArguments("x")).Arguments
		if err != nil || string(args) != string(want) {
			t.Errorf("kept are %d bytes, error %v", len(args), err)
		}
	})

	t.Run("of a workflow function are refused, and so are those above the limit", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		for name, change := range map[string]func(*task.CreateRequest){
			"function": func(r *task.CreateRequest) {
				r.Workflow, r.Arguments = "process", json.RawMessage(`"`+strings.Repeat("x", 2<<20)+`"`)
			},
			"limit": func(r *task.CreateRequest) {
				r.Arguments = json.RawMessage(`"` + strings.Repeat("x", task.MaxBytes-1) + `"`)
			},
		} {
			_, err := f.Create(t.Context(), request(change))
			var size *task.SizeError
			if !errors.Is(err, task.ErrTooLarge) || !errors.As(err, &size) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if files := s.files(); files != nil {
			t.Errorf("stored: %v", files)
		}
	})

	t.Run("of a call that is sent many times at once are kept once", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		request := request(largeArguments("x"), withKey("many"))
		var wg sync.WaitGroup
		ids := make([]string, 8)
		for i := range ids {
			wg.Go(func() {
				created, err := f.Create(t.Context(), request)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = created.ID
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("two tasks: %v", ids)
			}
		}
		// Only two of them in the same millisecond share a set.
		if files := s.files(); len(files) != 1 {
			t.Errorf("kept: %v", files)
		}
		if _, err := f.Create(t.Context(), request); err != nil {
			t.Error(err)
		}
		largeArguments("y")(&request)
		if _, err := f.Create(t.Context(), request); !errors.Is(err, task.ErrKeyReused) {
			t.Errorf("other arguments: %v", err)
		}
		if files := s.files(); len(files) != 1 {
			t.Errorf("kept: %v", files)
		}
		rounds := make(chan task.RoundInput, 1)
		f.work(func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
			rounds <- in
			return done("ok"), nil
		})
		in := <-rounds
		if _, err := s.Get(t.Context(), task.ClaimSet{TaskID: ids[0], CreatedAt: in.CreatedAt}, *in.ArgumentsClaim); err != nil {
			t.Error(err)
		}
	})

	t.Run("are stored before anything starts, or nothing does", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		if err := os.Rename(s.root, s.root+"-away"); err != nil {
			t.Fatal(err)
		}
		_, err := f.Create(t.Context(), request(largeArguments("x"), withKey("away")))
		wantError(t, err, task.ErrUnavailable)
		if err := os.Rename(s.root+"-away", s.root); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Create(t.Context(), request(largeArguments("y"), withKey("away"))); err != nil {
			t.Errorf("the key is taken: %v", err)
		}
	})
}

func TestLargeResults(t *testing.T) {
	result := `{"content":[{"type":"text","text":"` + strings.Repeat("x", 2*claims.Threshold) + `"}]}`
	ended := func(t *testing.T, s *shelf) (*fixture, task.Ref) {
		t.Helper()
		f := setup(t, s.option)
		f.work(s.keepResult(result))
		ref := f.create()
		f.awaitClosed(ref)
		return f, ref
	}
	outcome := func(t *testing.T, f *fixture, ref task.Ref) error {
		t.Helper()
		got, err := f.GetOutcome(t.Context(), ref)
		if err == nil && string(got.Outcome.Result) != result {
			t.Errorf("a result of %d bytes", len(got.Outcome.Result))
		}
		return err
	}
	watched := func(t *testing.T, f *fixture, ref task.Ref) error {
		t.Helper()
		for now, err := range f.Watch(t.Context(), ref, task.WatchOptions{}) {
			if err != nil {
				return err
			}
			if terminal(now) && string(now.Outcome.Result) != result {
				t.Errorf("watched: a result of %d bytes", len(now.Outcome.Result))
			}
		}
		return nil
	}

	t.Run("are read by all who wait and all who come later", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		release := make(chan struct{})
		f.work(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
			<-release
			return s.keepResult(result)(ctx, in)
		})
		ref := f.create()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := watched(t, f, ref); err != nil {
					t.Error(err)
				}
			})
		}
		close(release)
		wg.Wait()
		f.awaitClosed(ref)
		if err := errors.Join(outcome(t, f, ref), watched(t, f, ref)); err != nil {
			t.Error(err)
		}
	})

	t.Run("that are lost are never another's, nor not found", func(t *testing.T) {
		s := newShelf(t)
		f, ref := ended(t, s)
		file := s.files()[0]
		if err := os.WriteFile(file, []byte(strings.Replace(result, "x", "y", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, outcome(t, f, ref), task.ErrClaimCorrupt)
		wantError(t, watched(t, f, ref), task.ErrClaimCorrupt)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		wantError(t, outcome(t, f, ref), task.ErrClaimMissing)
		wantError(t, watched(t, f, ref), task.ErrClaimMissing)
		if got := f.get(ref); got.Status != task.StatusCompleted {
			t.Errorf("without its result it is %s", got.Status)
		}
	})

	t.Run("that are lost end the watch of one who waited", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, newShelf(t).option) // another store than the worker's
		release := make(chan struct{})
		f.work(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
			<-release
			return s.keepResult(result)(ctx, in)
		})
		ref := f.create()
		var once sync.Once
		for now, err := range f.Watch(t.Context(), ref, task.WatchOptions{}) {
			once.Do(func() { close(release) })
			if err != nil {
				wantError(t, err, task.ErrClaimMissing)
				return
			}
			if terminal(now) {
				t.Fatalf("ended with %+v", now.Outcome)
			}
		}
		t.Error("the watch ended without an error")
	})

	t.Run("are back when the store is", func(t *testing.T) {
		s := newShelf(t)
		f, ref := ended(t, s)
		if err := os.Rename(s.root, s.root+"-away"); err != nil {
			t.Fatal(err)
		}
		wantError(t, outcome(t, f, ref), task.ErrUnavailable)
		if err := os.Rename(s.root+"-away", s.root); err != nil {
			t.Fatal(err)
		}
		if err := outcome(t, f, ref); err != nil {
			t.Error(err)
		}
	})

	t.Run("go with their task alone", func(t *testing.T) {
		s := newShelf(t)
		f := setup(t, s.option)
		f.work(s.keepResult(result))
		a, b := f.create(largeArguments("x")), f.create(largeArguments("x"))
		f.awaitClosed(a)
		f.awaitClosed(b)
		if files := s.files(); len(files) != 4 {
			t.Fatalf("kept: %v", files)
		}
		if err := f.Delete(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if files := s.files(); len(files) != 2 {
			t.Errorf("kept: %v", files)
		}
		if err := outcome(t, f, b); err != nil {
			t.Error(err)
		}
	})
}

func TestSweepRemovesWhatBelongsToNoTask(t *testing.T) {
	s := newShelf(t)
	f := setup(t, s.option)
	running := f.create(largeArguments("x"))
	created := f.get(running).CreatedAt
	for _, set := range []task.ClaimSet{
		{TaskID: "never-started", CreatedAt: created},
		{TaskID: "ID of a held call: it's \"odd\"", CreatedAt: created},
		// Of a call with the same ID that came first, or too late.
		{TaskID: running.ID, CreatedAt: created.Add(-time.Hour)},
	} {
		if _, err := s.Put(t.Context(), set, []byte("orphan")); err != nil {
			t.Fatal(err)
		}
	}
	operator, err := engine.NewOperator(engine.OperatorOptions{Client: f.client, TaskQueue: f.queue, Claims: s.Dir})
	if err != nil {
		t.Fatal(err)
	}
	sweep := func(want int) {
		t.Helper()
		if _, err := operator.Sweep(t.Context(), task.SweepRange{}, task.SweepBeat{}, func(task.SweepBeat) {}); err != nil {
			t.Error(err)
		}
		if files := s.files(); len(files) != want {
			t.Errorf("kept: %v, want %d", files, want)
		}
	}
	sweep(4) // All may belong to tasks that are just being created.
	s.age()
	sweep(1)
	sweep(1)
}
