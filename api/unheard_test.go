package api_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/task"
)

// deaf is a service that takes calls in, but the first watch of which breaks.
type deaf struct {
	*memory
	created, watched atomic.Int32
}

func (d *deaf) Create(ctx context.Context, r task.CreateRequest) (*task.Task, error) {
	d.created.Add(1)
	return d.memory.Create(ctx, r)
}

func (d *deaf) Watch(ctx context.Context, ref task.Ref, o task.WatchOptions) iter.Seq2[*task.Task, error] {
	if d.watched.Add(1) > 1 {
		return d.memory.Watch(ctx, ref, o)
	}
	return func(yield func(*task.Task, error) bool) { yield(nil, task.ErrUnavailable) }
}

// inMemory is a stack over tasks in memory.
func inMemory(t *testing.T, tasks task.Service, change ...func(*api.Options)) *stack {
	t.Helper()
	return serve(t, api.Options{Tasks: tasks, Catalogue: memoryTools{}, Key: key, Logger: discard()}, change...)
}

// Who does what the reply to a call says does not run the tool twice, also if the
// call was started and nothing can be heard of it.
func TestCallThatIsNotHeardOf(t *testing.T) {
	begin := func(t *testing.T) (*stack, *deaf) {
		d := &deaf{memory: &memory{}}
		d.reset()
		return inMemory(t, d), d
	}
	greet := object{"name": "greet", "arguments": object{"name": "Ann"}}
	keyed := object{"name": "greet", "arguments": object{"name": "Ann"}, "_meta": object{"io.longhaul/idempotency-key": "k"}}
	says := func(t *testing.T, r *reply, text string) {
		t.Helper()
		if m := r.fails(-32603).Error.Message; !strings.Contains(m, text) {
			t.Errorf("it says %q", m)
		}
	}
	t.Run("on 2025", func(t *testing.T) {
		s, _ := begin(t)
		says(t, s.legacy(t, "2025-11-25", object{}).call("tools/call", greet), "may run the tool twice")
	})
	t.Run("on 2025 with a key", func(t *testing.T) {
		s, _ := begin(t)
		c := s.legacy(t, "2025-11-25", object{})
		says(t, c.call("tools/call", keyed), "Nothing is lost: try again")
		want(t, "text", textOf(t, c.call("tools/call", keyed).result()), "done")
	})
	t.Run("on 2026 with a key", func(t *testing.T) {
		s, _ := begin(t)
		c := s.modern(t, object{})
		says(t, c.call("tools/call", keyed), "Nothing is lost: try again")
		want(t, "text", textOf(t, c.call("tools/call", keyed).result()), "done")
	})
	t.Run("of tasks/result nothing is lost", func(t *testing.T) {
		s, _ := begin(t)
		says(t, s.legacy(t, "2025-11-25", object{}).call("tasks/result", object{"taskId": "works"}), "Nothing is lost: try again")
	})
	// patterns/mrtr: a reply with requestState alone says to call again with it.
	for name, c := range map[string]struct {
		tool string
		caps object
		then string
	}{
		"on 2026":                   {"greet", object{}, "complete"},
		"on 2026 before its task":   {"ask_first", everything, "input_required"},
		"on 2026, a tool that asks": {"ask_held", everything, "input_required"},
	} {
		t.Run(name, func(t *testing.T) {
			s, tasks := begin(t)
			client := s.modern(t, c.caps)
			params := object{"name": c.tool, "arguments": object{"name": "Ann"}}
			first := client.call("tools/call", params).result()
			want[any](t, "resultType", first["resultType"], "input_required")
			if first["inputRequests"] != nil || first["requestState"] == nil {
				t.Fatalf("got %v", first)
			}
			params["requestState"] = first["requestState"]
			second := client.call("tools/call", params).result()
			want[any](t, "resultType", second["resultType"], any(c.then))
			want(t, "calls", tasks.created.Load(), 1)
		})
	}
}
