package conformance_test

import (
	"testing"
	"time"
)

// A task outlives kill -9 of everything at any moment: the same id goes on,
// on the same session, to the right result.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, g := range generations {
		t.Run(g.name, func(t *testing.T) {
			t.Run("before the first round", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c := g.connect(t, s.url)
				id := c.create("slow_compute", object{"seconds": 1, "label": "early"})
				s.crash()
				wantText(t, c, id, "Computed early in 1 s.")
			})
			t.Run("before the reply, which is asked for again under the same key", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c, other := g.connect(t, s.url), connect2025(t, s.url).(client2025)
				create := func() (string, error) {
					// It waits for an answer: had it ended, 2026 would get its result.
					return c.createOnce("key", "confirm_delete", object{"filename": "f"})
				}
				lost := make(chan struct{})
				go func() {
					defer close(lost)
					_, _ = create() // whose connection breaks
				}()
				first := awaitListed(t, other)
				s.crash()
				<-lost
				id, err := create()
				if err != nil || id != first {
					t.Fatalf("got task %q and error %v, want task %q", id, err, first)
				}
				c.answer(id, "Delete f?", "confirm", true)
				wantText(t, c, id, "Deleted f.")
			})
			t.Run("in the middle of a round", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c := g.connect(t, s.url)
				id := c.create("slow_compute", object{"seconds": 3, "label": "middle"})
				await(t, c, id, "progress", func(s taskState) bool { return s.StatusMessage == "computing middle" })
				s.crash()
				wantText(t, c, id, "Computed middle in 3 s.")
			})
			t.Run("while waiting for input", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c := g.connect(t, s.url)
				id := c.create("confirm_delete", object{"filename": "f"})
				awaitInput(t, c, id)
				s.crash()
				awaitInput(t, c, id)
				c.answer(id, "Delete f?", "confirm", true)
				wantText(t, c, id, "Deleted f.")
			})
			t.Run("with the only answer just given", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c := g.connect(t, s.url)
				id := c.create("confirm_delete", object{"filename": "f"})
				c.answer(id, "Delete f?", "confirm", true)
				s.crash()
				wantText(t, c, id, "Deleted f.")
			})
			t.Run("with one of two answers given", func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				c := g.connect(t, s.url)
				id := c.create("multi_input", object{})
				c.answer(id, "What is the first name?", "name", "Ada")
				s.crash()
				c.answer(id, "What is the second name?", "name", "Grace")
				// text fails when it is asked for anything.
				wantText(t, c, id, "Got Ada and Grace.")
			})
		})
	}
}

// awaitListed waits for the first task there is.
func awaitListed(t *testing.T, c client2025) string {
	t.Helper()
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	for {
		if ids := c.list(); len(ids) > 0 {
			return ids[0]
		}
		select {
		case <-tooLong.C:
			t.Fatal("no task is listed")
		default:
		}
	}
}
