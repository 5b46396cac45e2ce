package longhaul

import (
	"context"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// The commands look at the servers before they start them.
func TestWorkflowToolsAreListedOnceBesideTheServersOwn(t *testing.T) {
	type none struct{}
	o := hello()
	mcp.AddTool(o.Server, &mcp.Tool{Name: "plain"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, none, error) {
		return nil, none{}, nil
	})
	tool := workflowtool.New(&mcp.Tool{Name: "process"}, func(workflow.Context, none) (none, error) { return none{}, nil })
	o.WorkflowTools = []workflowtool.Tool{tool}
	for range 2 {
		if own := o.servers(); len(own) != 1 || len(own[0].Workflows) != 1 {
			t.Fatalf("servers %+v", own)
		}
	}

	clientEnd, serverEnd := mcp.NewInMemoryTransports()
	if _, err := o.Server.Connect(t.Context(), serverEnd, nil); err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "client"}, nil).Connect(t.Context(), clientEnd, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	listed, err := session.ListTools(t.Context(), nil)
	if err != nil || len(listed.Tools) != 2 {
		t.Errorf("%+v, %v", listed, err)
	}
}
