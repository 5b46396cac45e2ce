package worker_test

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/worker"
)

// workflowsInMemory counts those of this process, each of which is a goroutine.
func workflowsInMemory() int {
	stacks := make([]byte, 16<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "workflows.runTask(")
}

func TestCachedWorkflows(t *testing.T) {
	const cached, n = 2, 5
	e := setup(t, func(o *worker.Options) {
		o.CachedWorkflows = cached
		o.Upstream = serve(t, "", func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if len(r.Params.InputResponses) == 0 {
				return asks(ctx, r)
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil
		})
	})
	var refs []task.Ref
	for range n {
		created, err := e.Create(t.Context(), task.CreateRequest{
			Owner: owner, Tool: "tool", TTL: time.Hour, Capabilities: json.RawMessage(`{"elicitation":{}}`), Arguments: json.RawMessage(`{}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, task.Ref{ID: created.ID, Owner: owner})
	}
	await := func(ref task.Ref, status task.Status) (last *task.Task) {
		t.Helper()
		for now, err := range e.Watch(t.Context(), ref, task.WatchOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if last = now; now.Status == status {
				return now
			}
		}
		t.Fatalf("the task is %+v", last)
		return nil
	}
	var keys []string
	for _, ref := range refs {
		keys = append(keys, await(ref, task.StatusInputRequired).Inputs[0].Key)
	}
	eventually(t, func() bool { return workflowsInMemory() <= cached })
	for i, ref := range refs {
		if err := e.Answer(t.Context(), ref, map[string]json.RawMessage{keys[i]: json.RawMessage(`{"action":"accept"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range refs {
		await(ref, task.StatusCompleted)
	}
}
