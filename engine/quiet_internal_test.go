package engine

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/task"
)

// newOffline is an engine that asks Temporal nothing in the test.
func newOffline(t *testing.T) *Engine {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	e, err := New(Options{Client: c, Key: bytes.Repeat([]byte("k"), 32), HotReads: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestQuietTime(t *testing.T) {
	h := newOffline(t).watches
	want := func(why string, quiet time.Duration) {
		t.Helper()
		if got := h.quietTime(); got != quiet {
			t.Errorf("%s: a new task is left alone for %s, want %s", why, got, quiet)
		}
	}
	took := func(d time.Duration) {
		for range 100 {
			h.learn(d)
		}
		h.took = h.took.Round(10 * time.Millisecond)
	}
	want("nothing is known", minQuiet)
	took(time.Second)
	want("calls take long, of which there are none", minQuiet)
	h.countQuiet(8)
	want("eight calls that their tools keep", 8*quietShare)
	h.countQuiet(56)
	want("calls take long, and there are many", 2*time.Second)
	took(10 * time.Millisecond)
	want("there are many, and they are quick", minQuiet)
	took(3 * time.Second)
	want("calls take very long, and there are many", maxQuiet)
	took(time.Hour)
	want("tools take hours", maxQuiet)
}

// A read has shown what the watch does not follow: the end comes after that, and
// how long after the watch cannot know.
func TestEndIsLaterThanWhatWasShown(t *testing.T) {
	e := newOffline(t)
	created := task.Projection{State: task.InitialState(time.Now())}.Snapshot("id")
	e.created.put("id", &creation{at: time.Now(), task: created})
	asked := *created
	asked.Rev, asked.Status = 2, task.StatusInputRequired
	asked.Inputs = []task.InputRequest{{Key: "sure", Method: task.MethodElicit, Params: json.RawMessage(`{}`)}}
	w := &watch{id: "id", stop: func() {}, changed: make(chan struct{})}
	e.watches.publish(w, &asked, e.watches.moment())

	end := &conclusion{outcome: task.ResultOutcome(json.RawMessage(`{}`), false), at: time.Now(), plain: true}
	if e.watches.concludeNew(w, end) {
		got, _, _ := e.watches.look(w)
		t.Errorf("the task asked at revision %d and is now %+v", asked.Rev, got)
	}
}

// The end of a task is by Temporal's clock, and its creation by ours, which may
// be ahead.
func TestEndIsNoEarlierThanCreation(t *testing.T) {
	e := newOffline(t)
	ref := task.Ref{ID: "id", Owner: "ann"}
	created := task.Projection{State: task.InitialState(time.Now())}.Snapshot("id")
	e.created.put("id", &creation{ownerHash: ref.Owner.Hash(), at: time.Now(), task: created})
	w := &watch{id: "id", stop: func() {}, changed: make(chan struct{})}
	end := &conclusion{
		outcome: task.ResultOutcome(json.RawMessage(`{}`), false),
		at:      created.CreatedAt.Add(-time.Second),
		plain:   true,
	}
	if !e.watches.concludeNew(w, end) {
		t.Fatal("the end was not told")
	}
	got, _, _ := e.watches.look(w)
	if got.Status != task.StatusCompleted || got.Rev != created.Rev+1 || got.UpdatedAt.Before(created.UpdatedAt) {
		t.Errorf("created as %+v, it ended as %+v", created, got)
	}
	// Who comes next begins with its end.
	if again, _ := e.newborn(ref); again != nil {
		t.Errorf("after its end it is begun with %+v", again)
	}
}

// Who waits for a new task is not shown it as it was created, if somebody was
// shown more.
func TestNewbornIsNotOlderThanWhatWasShown(t *testing.T) {
	e := newOffline(t)
	owner := task.Owner("ann")
	ref := task.Ref{ID: "id", Owner: owner}
	created := task.Projection{State: task.InitialState(time.Now())}.Snapshot("id")
	for _, c := range []struct {
		shown string
		r     reading
		moved bool
	}{
		{"as it was created", reading{state: task.State{Rev: 1}}, false},
		{"in another state", reading{state: task.State{Rev: 2}}, true},
		{"closed", reading{state: task.State{Rev: 1}, status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED}, true},
	} {
		e.created.put("id", &creation{ownerHash: owner.Hash(), at: time.Now(), task: created})
		if got, _ := e.newborn(ref); got != created {
			t.Fatalf("got %+v before anything was shown", got)
		}
		c.r.id = "id"
		e.watches.saw(&c.r)
		if got, _ := e.newborn(ref); (got == nil) != c.moved {
			t.Errorf("shown %s, it is begun with %+v", c.shown, got)
		}
	}
}
