package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestApart runs Temporal, api and worker as three processes, the worker last:
// tasks are created, read, listed and cancelled while nobody can run them.
func TestApart(t *testing.T) {
	engine := startProgram(t, "temporal", "--data-dir", t.TempDir(), "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off")
	t.Setenv("TEMPORAL_ADDRESS", engine.url(t, "Temporal gRPC"))
	front := startProgram(t, "api", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0")
	c := &client2025{t: t, url: front.url(t, "MCP endpoint")}
	c.initialize()

	create := func() string {
		var created struct {
			Task struct{ TaskID, Status string }
		}
		c.call(&created, "tools/call", `{"name":"countdown","arguments":{"seconds":0,"label":"apart"},"task":{"ttl":60000}}`)
		if created.Task.Status != "working" {
			t.Fatalf("created %+v", created)
		}
		return created.Task.TaskID
	}
	status := func(id string) string {
		var got struct{ Status string }
		c.call(&got, "tasks/get", `{"taskId":"`+id+`"}`)
		return got.Status
	}

	waits, cancelled := create(), create()
	if s := status(waits); s != "working" {
		t.Errorf("with no worker: %s", s)
	}
	var ended struct{ Status string }
	c.call(&ended, "tasks/cancel", `{"taskId":"`+cancelled+`"}`)
	if ended.Status != "cancelled" || status(cancelled) != "cancelled" {
		t.Errorf("cancelled with no worker: %+v, then %s", ended, status(cancelled))
	}
	var list struct {
		Tasks []struct{ TaskID, Status string }
	}
	c.call(&list, "tasks/list", `{}`)
	if len(list.Tasks) != 2 {
		t.Errorf("listed with no worker: %+v", list)
	}

	startProgram(t, "worker")
	var result struct {
		StructuredContent struct{ Label string }
	}
	c.call(&result, "tasks/result", `{"taskId":"`+waits+`"}`)
	if result.StructuredContent.Label != "apart" {
		t.Errorf("result once a worker came: %+v", result)
	}
	if s := status(waits); s != "completed" {
		t.Errorf("in the end: %s", s)
	}
}

// client2025 sends raw frames of the 2025 wire.
type client2025 struct {
	t       *testing.T
	url     string
	session string
}

func (c *client2025) initialize() {
	resp := c.post("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}`)
	defer resp.Body.Close()
	c.session = resp.Header.Get("Mcp-Session-Id")
}

// call sends a request and decodes the result of its response.
func (c *client2025) call(result any, method, params string) {
	c.t.Helper()
	resp := c.post(method, params)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		_, body, _ = bytes.Cut(body[bytes.LastIndex(body, []byte("data:")):], []byte(":"))
	}
	var m struct{ Result, Error json.RawMessage }
	if err := json.Unmarshal(body, &m); err != nil || m.Error != nil {
		c.t.Fatalf("%s: %s: %s", method, resp.Status, body)
	}
	if err := json.Unmarshal(m.Result, result); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client2025) post(method, params string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url,
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}
