package engine_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// ids are the IDs of all pages of an operator's list.
func (f *fixture) ids(filter engine.Filter, size int) []string {
	f.t.Helper()
	var ids []string
	for token, more := []byte(nil), true; more; more = token != nil {
		page, err := f.operator().List(f.t.Context(), filter, size, token)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, d := range page.Tasks {
			ids = append(ids, d.ID)
		}
		token = page.Next
	}
	slices.Sort(ids)
	return ids
}

func TestOperator(t *testing.T) {
	f := setup(t)
	byBob := func(r *task.CreateRequest) { r.Owner = "bob" }
	f.work(askOnce)
	bob := task.Owner("bob")

	refs := map[task.Status]task.Ref{
		task.StatusInputRequired: f.create(byBob),
		task.StatusCompleted:     f.create(),
		task.StatusFailed:        f.create(func(r *task.CreateRequest) { r.TTL = 200 * time.Millisecond }),
		task.StatusCancelled:     f.create(func(r *task.CreateRequest) { r.Tool = "other" }),
	}
	call := f.ended(held("call-of-operator"))
	asks := f.await(refs[task.StatusCompleted], inputRequired)
	if err := f.Answer(t.Context(), refs[task.StatusCompleted], answers(asks.Inputs[0].Key)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Cancel(t.Context(), refs[task.StatusCancelled], ""); err != nil {
		t.Fatal(err)
	}
	f.await(refs[task.StatusInputRequired], inputRequired)
	for _, s := range []task.Status{task.StatusCompleted, task.StatusFailed, task.StatusCancelled} {
		f.awaitClosed(refs[s])
	}
	f.awaitVisible(4, `TaskQueue = "`+f.queue+`" AND ExecutionStatus != 'Running'`)
	f.awaitVisible(1, `TaskQueue = "`+f.queue+`" AND `+task.SearchStatus+` = 'input_required'`)

	t.Run("lists by status", func(t *testing.T) {
		for status, ref := range refs {
			if got := f.ids(engine.Filter{Statuses: []task.Status{status}}, 50); !slices.Equal(got, []string{ref.ID}) {
				t.Errorf("%s: %v, want %s", status, got, ref.ID)
			}
		}
		if got := f.ids(engine.Filter{Statuses: []task.Status{task.StatusWorking}}, 50); len(got) != 0 {
			t.Errorf("working: %v", got)
		}
		if got := f.ids(engine.Filter{Statuses: []task.Status{task.StatusFailed, task.StatusCancelled}}, 50); len(got) != 2 {
			t.Errorf("failed or cancelled: %v", got)
		}
		if _, err := f.operator().List(t.Context(), engine.Filter{Statuses: []task.Status{"done"}}, 50, nil); err == nil {
			t.Error("no such status: no error")
		}
	})

	t.Run("lists what it is asked for, in pages", func(t *testing.T) {
		var all []string
		for ref := range maps.Values(refs) {
			all = append(all, ref.ID)
		}
		slices.Sort(all)
		now := time.Now()
		for name, c := range map[string]struct {
			filter engine.Filter
			want   []string
		}{
			"tasks":           {engine.Filter{}, all},
			"and held calls":  {engine.Filter{Held: true}, slices.Sorted(slices.Values(append(slices.Clone(all), call.ID)))},
			"of an owner":     {engine.Filter{Owner: &bob}, []string{refs[task.StatusInputRequired].ID}},
			"of a tool":       {engine.Filter{Tool: "other"}, []string{refs[task.StatusCancelled].ID}},
			"young ones":      {engine.Filter{StartedAfter: now.Add(-time.Hour)}, all},
			"old ones":        {engine.Filter{StartedBefore: now.Add(-time.Hour)}, nil},
			"ended long ago":  {engine.Filter{EndedBefore: now.Add(-time.Hour)}, nil},
			"of an odd tool":  {engine.Filter{Tool: `"' OR '`}, nil},
			"all that is set": {engine.Filter{Tool: "other", Owner: &bob}, nil},
		} {
			if got := f.ids(c.filter, 2); !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	})

	t.Run("reads any task, with its outcome and where it is", func(t *testing.T) {
		ref := refs[task.StatusCompleted]
		got, err := f.operator().Get(t.Context(), ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Outcome == nil || got.Outcome.Result == nil || got.Call != "deploy(env=prod)" || got.OwnerHash != owner.Hash() ||
			got.RunID == "" || got.FirstRunID != got.RunID || got.TaskQueue != f.queue || got.ExecutionStatus != "Completed" || got.EndedAt.IsZero() {
			t.Errorf("%+v", got)
		}
		if got, err := f.operator().Get(t.Context(), call.ID); err != nil || !got.Held {
			t.Errorf("a held call: %+v, %v", got, err)
		}
		_, err = f.operator().Get(t.Context(), "none")
		wantError(t, err, task.ErrNotFound)
	})

	t.Run("cancels and deletes any task", func(t *testing.T) {
		ref := refs[task.StatusInputRequired]
		wantError(t, f.operator().Delete(t.Context(), ref.ID), task.ErrRunning)
		if got, err := f.operator().Cancel(t.Context(), ref.ID, "enough"); err != nil || got.Status != task.StatusCancelled {
			t.Errorf("%+v, %v", got, err)
		}
		_, err := f.operator().Cancel(t.Context(), ref.ID, "enough")
		wantError(t, err, task.ErrTerminal)
		f.awaitClosed(ref)
		if err := f.operator().Delete(t.Context(), ref.ID); err != nil {
			t.Fatal(err)
		}
		isGone(t, f, ref)
	})

	t.Run("prunes what ended, and says how many", func(t *testing.T) {
		prune := func(filter engine.Filter, want int) {
			t.Helper()
			if n, err := f.operator().Count(t.Context(), filter); err != nil || n != want {
				t.Errorf("counts %d, %v, want %d", n, err, want)
			}
			deleted, failed, err := f.operator().Prune(t.Context(), filter)
			if deleted != want || failed != 0 || err != nil {
				t.Errorf("deleted %d, failed %d, %v, want %d", deleted, failed, err, want)
			}
		}
		if _, _, err := f.operator().Prune(t.Context(), engine.Filter{}); err == nil {
			t.Error("running ones too: no error")
		}
		later := time.Now().Add(time.Hour)
		prune(engine.Filter{EndedBefore: later.Add(-2 * time.Hour)}, 0)
		prune(engine.Filter{EndedBefore: later, Statuses: []task.Status{task.StatusFailed}}, 1)
		isGone(t, f, refs[task.StatusFailed])
		prune(engine.Filter{EndedBefore: later}, 2)
		for _, s := range []task.Status{task.StatusCompleted, task.StatusCancelled} {
			isGone(t, f, refs[s])
		}
		prune(engine.Filter{EndedBefore: later, Held: true}, 1)
		isGone(t, f, call)
	})
}

func TestNewOperatorWantsAClient(t *testing.T) {
	if _, err := engine.NewOperator(engine.OperatorOptions{}); err == nil {
		t.Error("no error")
	}
}
