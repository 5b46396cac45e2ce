package engine_test

import (
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
		var token []byte
		got := map[string]bool{}
		for pages := 1; ; pages++ {
			page, err := f.List(t.Context(), task.ListRequest{Owner: ref.Owner, PageSize: 5, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, listed := range page.Tasks {
				if got[listed.ID] {
					t.Errorf("%s is listed twice", listed.ID)
				}
				got[listed.ID] = true
				if listed.Status != task.StatusWorking || listed.Tool != "deploy" {
					t.Errorf("listed %+v", listed)
				}
			}
			if token = page.Next; token == nil {
				break
			}
			if pages > n {
				t.Fatal("there is no last page")
			}
		}
		for id := range want {
			if !got[id] {
				t.Errorf("%s is not listed", id)
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
