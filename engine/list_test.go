package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

func listRequest(query string) *workflowservice.ListWorkflowExecutionsRequest {
	return &workflowservice.ListWorkflowExecutionsRequest{Query: query}
}

func TestList(t *testing.T) {
	t.Run("shows a new task at once, and only to its owner", func(t *testing.T) {
		f := setup(t)
		for range 20 {
			ref := f.create(func(r *task.CreateRequest) { r.Owner = "list-new" })
			page, err := f.List(t.Context(), task.ListRequest{Owner: ref.Owner})
			if err != nil {
				t.Fatal(err)
			}
			if find(page.Tasks, ref.ID) == nil {
				t.Fatal("a new task is not listed")
			}
			if page, err = f.List(t.Context(), task.ListRequest{Owner: "somebody-else"}); err != nil {
				t.Fatal(err)
			}
			if len(page.Tasks) != 0 {
				t.Fatalf("a stranger sees %d tasks", len(page.Tasks))
			}
		}
	})

	t.Run("pages through all tasks, each once", func(t *testing.T) {
		f := setup(t)
		const n = 23
		ref := task.Ref{Owner: "list-paging"}
		want := map[string]bool{}
		for range n {
			want[f.create(func(r *task.CreateRequest) { r.Owner = ref.Owner }).ID] = true
		}
		for _, listed := range f.pages(ref.Owner, 5) {
			if listed.Status != task.StatusWorking || listed.Tool != "deploy" {
				t.Errorf("listed %+v", listed)
			}
			delete(want, listed.ID)
		}
		for id := range want {
			t.Errorf("%s is not listed", id)
		}
	})

	t.Run("reads no task by itself that Temporal lists", func(t *testing.T) {
		f := setup(t)
		owner := task.Owner("list-many-new")
		const n = 30
		for range n {
			f.create(func(r *task.CreateRequest) { r.Owner = owner })
		}
		f.awaitVisible(n, fmt.Sprintf("%s = '%s'", task.SearchOwner, owner.Hash()))
		before := f.polls.requests()
		page, err := f.List(t.Context(), task.ListRequest{Owner: owner, PageSize: 5})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.polls.requests() - before; len(page.Tasks) != 5 || got != 2 {
			t.Errorf("%d tasks by %d requests", len(page.Tasks), got)
		}
	})

	// Each page is looked for among what started before the page before ended.
	t.Run("pages through ended tasks, the last to end being the first to start", func(t *testing.T) {
		f := setup(t)
		owner := task.Owner("list-ended")
		var refs []task.Ref
		for range 12 {
			refs = append(refs, f.create(func(r *task.CreateRequest) { r.Owner = owner }))
		}
		for _, ref := range slices.Backward(refs) {
			if err := f.client.TerminateWorkflow(t.Context(), ref.ID, "", "test"); err != nil {
				t.Fatal(err)
			}
		}
		f.awaitVisible(len(refs), fmt.Sprintf("%s = '%s' AND ExecutionStatus = 'Terminated'", task.SearchOwner, owner.Hash()))
		listed := setup(t).pages(owner, 5) // by a process that has created none of them
		if len(listed) != len(refs) {
			t.Fatalf("%d tasks are listed, of %d", len(listed), len(refs))
		}
		for i, ref := range refs {
			if listed[i].ID != ref.ID {
				t.Errorf("at %d is %s, not %s", i, listed[i].ID, ref.ID)
			}
		}
	})

	t.Run("refuses a cursor it did not give out", func(t *testing.T) {
		f := setup(t)
		for _, token := range []string{"", "x", "{}", `{"t":""}`, `{"t":1}`} {
			_, err := f.List(t.Context(), task.ListRequest{Owner: owner, Token: []byte(token)})
			wantError(t, err, task.ErrBadCursor)
		}
	})
}

// pages are the owner's tasks as they are listed, page by page, each once.
func (f *fixture) pages(owner task.Owner, size int) []*task.Task {
	f.t.Helper()
	var listed []*task.Task
	var token []byte
	for {
		page, err := f.List(f.t.Context(), task.ListRequest{Owner: owner, PageSize: size, Token: token})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, t := range page.Tasks {
			if find(listed, t.ID) != nil {
				f.t.Fatalf("%s is listed twice", t.ID)
			}
			listed = append(listed, t)
		}
		if token = page.Next; token == nil {
			return listed
		}
	}
}
