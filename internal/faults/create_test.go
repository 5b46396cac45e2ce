package faults_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// With an idempotency key there is one task, however often and wherever it is
// created.
func TestCreateOnce(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{Tokens: map[string]string{"ada": "ada-token-0123456789", "grace": "grace-token-0123456789"}})
	const each = 10
	// everywhere makes the call on every api and wire, several times at once.
	everywhere := func(w *world, do func(c *client, n int)) {
		var all sync.WaitGroup
		for _, wire := range wires {
			c := w.connectAs(wire, "ada-token-0123456789")
			for _, p := range w.APIs {
				for n := range each {
					all.Go(func() { do(c.on(p), n) })
				}
			}
		}
		all.Wait()
	}
	oneTask := func(w *world, key string, arguments object) (id string) {
		w.t.Helper()
		var mu sync.Mutex
		ids := map[string]int{}
		everywhere(w, func(c *client, _ int) {
			h, err := c.create(key, "held__once", arguments)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				w.t.Errorf("%s: %v", c.wire, err)
				return
			}
			if h.done != nil {
				// A 2026 client gets what has ended in place of a task.
				w.wantDone(h.done, arguments["label"].(string), "yes")
				return
			}
			ids[h.id]++
			id = h.id
		})
		if len(ids) != 1 {
			w.t.Fatalf("there are %d tasks: %v", len(ids), ids)
		}
		return id
	}

	t.Run("while it runs and when it has ended", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connectAs(wire2025, "ada-token-0123456789"), t.Name()
		arguments := object{"label": label, "questions": 1}
		id := oneTask(w, label, arguments)
		c.awaitAsks(id)
		if again := oneTask(w, label, arguments); again != id {
			t.Errorf("the task of a later call is %s, not %s", again, id)
		}
		w.must(c.answer(id, "yes"))
		c.wantResult(id, label, "yes")
		if again := oneTask(w, label, arguments); again != id {
			t.Errorf("the task of a call after its end is %s, not %s", again, id)
		}
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("other arguments under the same key are refused", func(t *testing.T) {
		w := w.in(t)
		label := t.Name()
		var mu sync.Mutex
		winners := map[string]string{} // id by label
		refused := 0
		everywhere(w, func(c *client, n int) {
			mine := fmt.Sprint(label, n)
			h, err := c.create(label, "held__once", object{"label": mine, "questions": 1})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wantError(t, err, codeInvalidParams, "already used for a different call")
				refused++
				return
			}
			winners[mine] = h.id
		})
		if len(winners) != 1 || refused != (each-1)*2*len(w.APIs) {
			t.Fatalf("%d calls were refused, and there are the tasks %v", refused, winners)
		}
		for mine, id := range winners {
			c := w.connectAs(wire2025, "ada-token-0123456789")
			w.must(c.answer(id, "yes"))
			c.wantResult(id, mine, "yes")
			w.wantEffects(effects.Happened, mine, 1)
			// And so they are when it has ended.
			for _, wire := range wires {
				_, err := w.connectAs(wire, "ada-token-0123456789").create(label, "held__once", object{"label": label})
				wantError(t, err, codeInvalidParams, "already used for a different call")
			}
		}
	})
	t.Run("the keys of two owners do not meet", func(t *testing.T) {
		w := w.in(t)
		label := t.Name()
		ids := map[string]bool{}
		var last *client
		for _, token := range []string{"ada-token-0123456789", "grace-token-0123456789"} {
			for _, wire := range wires {
				last = w.connectAs(wire, token)
				h, err := last.create(label, "held__once", object{"label": label, "questions": 1})
				w.must(err)
				ids[h.id] = true
			}
		}
		if len(ids) != 2 {
			t.Fatalf("two owners have the tasks %v", ids)
		}
		seen := 0
		for id := range ids {
			if _, err := last.get(id); err == nil {
				seen++
			} else {
				wantError(t, err, codeInvalidParams, "not found")
			}
		}
		if seen != 1 {
			t.Errorf("an owner sees %d of them", seen)
		}
		w.poll("both tools run", func() bool { return len(w.effects(effects.Happened, label)) == 2 })
	})
	t.Run("a held call, too", func(t *testing.T) {
		w := w.in(t)
		label := t.Name()
		everywhere(w, func(c *client, _ int) {
			x, err := c.call(w.ctx, label, "plain__once", object{"label": label, "ms": 500})
			if err == nil {
				raw, rpc := x.response()
				if err = rpc; err == nil {
					var d *done
					if d, err = doneOf(raw); err == nil {
						w.wantDone(d, label)
					}
				}
			}
			if err != nil {
				t.Errorf("%s: %v", c.wire, err)
			}
		})
		w.wantEffects(effects.Happened, label, 1)
	})
}
