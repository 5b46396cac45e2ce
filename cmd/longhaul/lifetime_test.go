package main

import (
	"testing"
	"time"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
)

// A namespace may keep ended tasks for less than their life.
func TestRetentionBoundsTimeToLive(t *testing.T) {
	engine := programtest.Start(t, "temporal", "--data-dir", t.TempDir(), "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off")
	addr := engine.URL(t, "Temporal gRPC")
	t.Setenv("TEMPORAL_ADDRESS", addr)
	_, err := temporaltest.Dial(t, addr).WorkflowService().UpdateNamespace(t.Context(), &workflowservice.UpdateNamespaceRequest{
		Namespace: "default",
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(24 * time.Hour)},
	})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"api", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0"}

	t.Run("one that was chosen and does not fit is refused", func(t *testing.T) {
		oneLine(t, programtest.Fails(t, append(args, "--ttl-max", "48h")...),
			"--ttl-max", "temporal operator namespace update --namespace default --retention 3d")
	})

	t.Run("one that nobody chose becomes what fits", func(t *testing.T) {
		front := programtest.Start(t, args...)
		c, err := taskclient.Connect(t.Context(), front.URL(t, "MCP endpoint"))
		if err != nil {
			t.Fatal(err)
		}
		var created struct{ Task struct{ TTL *float64 } }
		call := map[string]any{
			"name": "countdown", "arguments": map[string]any{"seconds": 0, "label": "long"}, "task": map[string]any{"ttl": nil},
		}
		if err := c.Do(t.Context(), "tools/call", call, &created); err != nil {
			t.Fatal(err)
		}
		if got, want := created.Task.TTL, (24*time.Hour - 5*time.Minute).Milliseconds(); got == nil || int64(*got) != want {
			t.Errorf("ttl %v, want %d", got, want)
		}
	})
}
