package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

func TestNewRefusesOptionsItCannotWorkWith(t *testing.T) {
	c, err := client.NewLazyClient(client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, o := range map[string]engine.Options{
		"no client":        {Key: key},
		"no key":           {Client: c},
		"short key":        {Client: c, Key: key[:15]},
		"negative grace":   {Client: c, Key: key, Grace: -1},
		"negative watches": {Client: c, Key: key, MaxWatches: -1},
	} {
		if _, err := engine.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCreate(t *testing.T) {
	t.Run("is durable and readable by another process with no worker", func(t *testing.T) {
		f := setup(t)
		created, err := f.Create(t.Context(), request())
		if err != nil {
			t.Fatal(err)
		}
		other := setup(t)
		got := other.get(task.Ref{ID: created.ID, Owner: owner})
		if got.ID != created.ID || got.Tool != "deploy" || got.Rev != 1 || got.Status != task.StatusWorking ||
			got.TTL != time.Hour || !got.CreatedAt.Equal(created.CreatedAt) || !got.UpdatedAt.Equal(created.UpdatedAt) {
			t.Errorf("read %+v, created %+v", got, created)
		}
		if len(created.ID) < 26 {
			t.Errorf("ID %q has less than 128 bits", created.ID)
		}
	})

	t.Run("shows in Temporal as a call without its secrets", func(t *testing.T) {
		f := setup(t)
		ref := f.create(func(r *task.CreateRequest) {
			r.Arguments = json.RawMessage(`{"env":"prod","api_token":"hunter2"}`)
		})
		d, err := f.client.DescribeWorkflowExecution(t.Context(), ref.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		var summary, details string
		dc := converter.GetDefaultDataConverter()
		if err := dc.FromPayload(d.GetExecutionConfig().GetUserMetadata().GetSummary(), &summary); err != nil {
			t.Fatal(err)
		}
		if err := dc.FromPayload(d.GetExecutionConfig().GetUserMetadata().GetDetails(), &details); err != nil {
			t.Fatal(err)
		}
		if summary != `deploy(env=prod, api\_token=\*\*\*)` { // markdown
			t.Errorf("summary is %q", summary)
		}
		if strings.Contains(details, "hunter2") || !strings.Contains(details, `"env": "prod"`) {
			t.Errorf("details are %q", details)
		}
		if got := d.GetExecutionConfig().GetDefaultWorkflowTaskTimeout().AsDuration(); got != 3*time.Second {
			t.Errorf("workflow task timeout is %s", got)
		}
		if got := d.GetExecutionConfig().GetWorkflowExecutionTimeout().AsDuration(); got <= time.Hour || got > time.Hour+5*time.Minute {
			t.Errorf("workflow execution timeout is %s", got)
		}
		attributes := d.GetWorkflowExecutionInfo().GetSearchAttributes().GetIndexedFields()
		for name := range engine.SearchAttributes() {
			// The status is only there while the task waits for input.
			if (attributes[name] == nil) != (name == task.SearchStatus) {
				t.Errorf("search attribute %s is %v", name, attributes[name])
			}
		}
		var call string
		if err := dc.FromPayload(attributes[task.SearchCall], &call); err != nil || call != "deploy(env=prod, api_token=***)" {
			t.Errorf("search attribute %s is %q (%v)", task.SearchCall, call, err)
		}
	})

	t.Run("refuses arguments that Temporal would not store", func(t *testing.T) {
		f := setup(t)
		for name, fill := range map[string]string{"plain": strings.Repeat("x", 1<<20+100_000), "escaped": strings.Repeat("<", 300_000)} {
			_, err := f.Create(t.Context(), request(func(r *task.CreateRequest) {
				r.Arguments = json.RawMessage(`{"blob":"` + fill + `"}`)
			}))
			if !errors.Is(err, task.ErrTooLarge) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		f.create(func(r *task.CreateRequest) {
			r.Arguments = json.RawMessage(`{"blob":"` + strings.Repeat("x", 1<<20) + `"}`)
		})
	})

	t.Run("starts any arguments, however they look when shown", func(t *testing.T) {
		f := setup(t)
		for _, args := range []string{
			"", "{}", `{"a":null}`, `{"a":"` + strings.Repeat("<", 5000) + `"}`, `{"a":"` + strings.Repeat(`\n`, 5000) + `"}`,
			`{"a":"` + strings.Repeat("é", 30_000) + `"}`, `{"` + strings.Repeat("k", 30_000) + `":1}`,
			`{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
			`{"a":"` + "\u202e\u2028" + `"}`,
		} {
			f.create(func(r *task.CreateRequest) { r.Arguments = json.RawMessage(args) })
		}
	})

	t.Run("is wanted with a positive TTL and JSON arguments", func(t *testing.T) {
		f := setup(t)
		if _, err := f.Create(t.Context(), request(func(r *task.CreateRequest) { r.TTL = 0 })); err == nil {
			t.Error("no TTL: accepted")
		}
		for _, args := range []string{`{`, `{} {}`, `x`} {
			if _, err := f.Create(t.Context(), request(func(r *task.CreateRequest) { r.Arguments = json.RawMessage(args) })); err == nil {
				t.Errorf("%s: accepted", args)
			}
		}
	})

	t.Run("leaves Temporal an end in case no worker ever comes", func(t *testing.T) {
		f := setup(t)
		ref := f.create(func(r *task.CreateRequest) { r.Policy.CleanupMillis = (10 * time.Minute).Milliseconds() })
		d, err := f.client.DescribeWorkflowExecution(t.Context(), ref.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		// The lifetime, the tool's own time to clean up, and something for the rest.
		if got := d.GetExecutionConfig().GetWorkflowExecutionTimeout().AsDuration(); got != time.Hour+10*time.Minute+2*time.Minute {
			t.Errorf("after %s", got)
		}
	})

	t.Run("ends a decided task without a round", func(t *testing.T) {
		f := setup(t)
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) {
			t.Error("a round was run")
			return done("no"), nil
		})
		want := task.ResultOutcome(json.RawMessage(`{"isError":true}`), true)
		ref := f.create(func(r *task.CreateRequest) { r.Decided = want })
		f.await(ref, terminal)
		got, err := f.GetOutcome(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != task.StatusCompleted || !got.Outcome.IsError || string(got.Outcome.Result) != string(want.Result) {
			t.Errorf("got %+v", got.Outcome)
		}
	})
}

func withKey(key string) func(*task.CreateRequest) {
	return func(r *task.CreateRequest) { r.IdempotencyKey = key }
}

func TestCreateWithIdempotencyKey(t *testing.T) {
	t.Run("makes one task out of many concurrent calls", func(t *testing.T) {
		f := setup(t)
		var mu sync.Mutex
		created := map[string]bool{}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := f.Create(t.Context(), request(withKey(t.Name())))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				created[got.ID+" of "+got.CreatedAt.String()] = true
			})
		}
		wg.Wait()
		if len(created) != 1 {
			t.Errorf("got %v", created)
		}
	})

	t.Run("lets one of many concurrent calls with different arguments win", func(t *testing.T) {
		f := setup(t)
		var mu sync.Mutex
		won, refused := 0, 0
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := f.Create(t.Context(), request(withKey(t.Name()), func(r *task.CreateRequest) {
					r.Arguments, _ = json.Marshal(map[string]int{"n": i})
				}))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case errors.Is(err, task.ErrKeyReused):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 || refused != 19 {
			t.Errorf("%d won and %d were refused", won, refused)
		}
	})

	t.Run("compares what is called, not how it is written", func(t *testing.T) {
		f := setup(t)
		first := f.create(withKey(t.Name()), func(r *task.CreateRequest) { r.Arguments = json.RawMessage(`{"a":1,"b":{"c":[1,2],"d":"é"}}`) })
		again := f.create(withKey(t.Name()), func(r *task.CreateRequest) {
			r.Arguments = json.RawMessage(` { "b" : {"d":"\u00e9", "c":[1,2]}, "a":1 } `)
			r.TTL = time.Minute
		})
		if first.ID != again.ID {
			t.Errorf("got %s and %s", first.ID, again.ID)
		}
		_, err := f.Create(t.Context(), request(withKey(t.Name()), func(r *task.CreateRequest) { r.Arguments = json.RawMessage(`{"a":1,"b":{"c":[2,1],"d":"é"}}`) }))
		wantError(t, err, task.ErrKeyReused)
		_, err = f.Create(t.Context(), request(withKey(t.Name()), func(r *task.CreateRequest) {
			r.Tool = "undeploy"
			r.Arguments = json.RawMessage(`{"a":1,"b":{"c":[1,2],"d":"é"}}`)
		}))
		wantError(t, err, task.ErrKeyReused)
	})

	t.Run("belongs to the owner", func(t *testing.T) {
		f := setup(t)
		ann := f.create(withKey(t.Name()))
		bob := f.create(withKey(t.Name()), func(r *task.CreateRequest) { r.Owner = "bob" })
		if ann.ID == bob.ID {
			t.Error("two owners got the same task")
		}
	})

	t.Run("returns a task that has ended", func(t *testing.T) {
		f := setup(t)
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) { return done("ok"), nil })
		ref := f.create(withKey(t.Name()))
		f.await(ref, terminal)
		f.awaitClosed(ref)
		again, err := f.Create(t.Context(), request(withKey(t.Name())))
		if err != nil {
			t.Fatal(err)
		}
		if again.ID != ref.ID || again.Status != task.StatusCompleted {
			t.Errorf("got %+v", again)
		}
	})

	t.Run("is free again once its task was deleted", func(t *testing.T) {
		f := setup(t)
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) { return done("ok"), nil })
		ref := f.create(withKey(t.Name()))
		f.await(ref, terminal)
		f.awaitClosed(ref)
		if err := f.Delete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		var again *task.Task
		eventually(t, "the key is free", func() bool {
			var err error
			again, err = f.Create(t.Context(), request(withKey(t.Name())))
			if err != nil && !errors.Is(err, task.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		if again.ID != ref.ID || again.Rev != 1 {
			t.Errorf("got %+v", again)
		}
		f.get(ref)
	})
}

func held(id string) func(*task.CreateRequest) {
	return func(r *task.CreateRequest) { r.HeldID = id }
}

func TestHeldCalls(t *testing.T) {
	f := setup(t)
	release := make(chan struct{})
	f.work(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
		<-release
		return done("ok"), nil
	})
	ref := f.create(held("call-1"))

	t.Run("are no tasks", func(t *testing.T) {
		_, err := f.Get(t.Context(), task.Ref{ID: ref.ID, Owner: owner})
		wantError(t, err, task.ErrNotFound)
		page, err := f.List(t.Context(), task.ListRequest{Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range page.Tasks {
			if listed.ID == ref.ID {
				t.Error("a held call was listed")
			}
		}
	})
	t.Run("are joined by the same call", func(t *testing.T) {
		again := f.create(held("call-1"))
		if got, first := f.get(again), f.get(ref); !got.CreatedAt.Equal(first.CreatedAt) {
			t.Errorf("got %+v and %+v", first, got)
		}
	})
	t.Run("are not joined by another call", func(t *testing.T) {
		_, err := f.Create(t.Context(), request(held("call-1"), func(r *task.CreateRequest) { r.Arguments = nil }))
		wantError(t, err, task.ErrKeyReused)
		if _, err := f.Create(t.Context(), request(held("call-1"), func(r *task.CreateRequest) { r.Owner = "bob" })); err == nil {
			t.Error("joined by another owner")
		}
	})
	t.Run("leave their ID to the next call when they end", func(t *testing.T) {
		close(release)
		f.await(ref, terminal)
		f.awaitClosed(ref)
		next, err := f.Create(t.Context(), request(held("call-1"), func(r *task.CreateRequest) { r.Arguments = nil }))
		if err != nil {
			t.Fatal(err)
		}
		if next.Rev != 1 || next.Status != task.StatusWorking {
			t.Errorf("got %+v", next)
		}
	})
}
