package main

import (
	"log/slog"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// TestApart runs Temporal, api and worker as three processes, the worker last:
// tasks are created, read, listed and cancelled while nobody can run them.
func TestApart(t *testing.T) {
	engine := programtest.Start(t, "temporal", "--data-dir", t.TempDir(), "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off")
	t.Setenv("TEMPORAL_ADDRESS", engine.URL(t, "Temporal gRPC"))
	front := programtest.Start(t, "api", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0")
	c, err := taskclient.Connect(t.Context(), front.URL(t, "MCP endpoint"))
	if err != nil {
		t.Fatal(err)
	}

	create := func() string {
		id, err := c.Create(t.Context(), "countdown", map[string]any{"seconds": 0, "label": "apart"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	status := func(id string) string {
		got, err := c.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return got.Status
	}

	waits, cancelled := create(), create()
	if s := status(waits); s != "working" {
		t.Errorf("with no worker: %s", s)
	}
	var ended taskclient.Task
	if err := c.Do(t.Context(), "tasks/cancel", map[string]any{"taskId": cancelled}, &ended); err != nil {
		t.Fatal(err)
	}
	if ended.Status != "cancelled" || status(cancelled) != "cancelled" {
		t.Errorf("cancelled with no worker: %+v, then %s", ended, status(cancelled))
	}
	var list struct {
		Tasks []struct{ TaskID, Status string }
	}
	if err := c.Do(t.Context(), "tasks/list", map[string]any{}, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Tasks) != 2 {
		t.Errorf("listed with no worker: %+v", list)
	}

	programtest.Start(t, "worker", "--data-dir", t.TempDir())
	var result struct {
		StructuredContent struct{ Label string }
	}
	if err := c.Result(t.Context(), waits, &result); err != nil {
		t.Fatal(err)
	}
	if result.StructuredContent.Label != "apart" {
		t.Errorf("result once a worker came: %+v", result)
	}
	if s := status(waits); s != "completed" {
		t.Errorf("in the end: %s", s)
	}

	// The worker is the program that the front took it for.
	temporal, err := client.DialContext(t.Context(), client.Options{HostPort: engine.URL(t, "Temporal gRPC"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer temporal.Close()
	w, err := temporal.DescribeWorkflow(t.Context(), waits, "")
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := w.TypedSearchAttributes.GetKeywordList(sdk.NewSearchAttributeKeyKeywordList("BuildIds"))
	if len(ids) != 2 || !strings.HasPrefix(ids[1], "unversioned:longhaul@") {
		t.Errorf("build IDs: %q", ids)
	}
}
