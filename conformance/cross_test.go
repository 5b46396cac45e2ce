package conformance_test

import "testing"

// There is one set of tasks, whichever generation of clients made them.
func TestAcrossWires(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, made := range generations {
		for _, used := range generations {
			if made.name == used.name {
				continue
			}
			t.Run("created on "+made.name+" and used on "+used.name, func(t *testing.T) {
				creator, user := made.connect(t, s.url), used.connect(t, s.url)
				t.Run("read", func(t *testing.T) {
					id := creator.create("slow_compute", object{"seconds": 0.5, "label": "both"})
					wantText(t, user, id, "Computed both in 0.5 s.")
					wantText(t, creator, id, "Computed both in 0.5 s.")
				})
				t.Run("answered", func(t *testing.T) {
					id := creator.create("multi_input", object{})
					user.answer(id, "What is the first name?", "name", "Ada")
					creator.answer(id, "What is the second name?", "name", "Grace")
					wantText(t, user, id, "Got Ada and Grace.")
					wantText(t, creator, id, "Got Ada and Grace.")
				})
				t.Run("cancelled", func(t *testing.T) {
					id := creator.create("slow_compute", object{"seconds": 60, "label": "never"})
					user.cancel(id)
					if s := creator.get(id); s.Status != "cancelled" {
						t.Errorf("the task is %+v", s)
					}
				})
			})
		}
	}
}
