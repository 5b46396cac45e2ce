package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/api"
)

func newRequest(t *testing.T, ctx context.Context, url string, h http.Header, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h
	return req
}

func newTool(name string) *mcp.Tool {
	return &mcp.Tool{Name: name, Description: name, InputSchema: json.RawMessage(`{"type":"object"}`)}
}

func loadTokens(t *testing.T, content string) *api.Tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := api.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

var elicits = object{"elicitation": object{}}

// asTask calls a tool with params.task and returns the task of the reply.
func asTask(c *caller, name string, arguments, params object) object {
	c.t.Helper()
	res := c.call("tools/call", object{"name": name, "arguments": arguments, "task": params}).result()
	return res["task"].(object)
}

// 2025-11-25, basic/lifecycle, "Version Negotiation".
func TestLegacyInitialize(t *testing.T) {
	s := setup(t)
	for requested, negotiated := range map[string]string{
		"2025-11-25": "2025-11-25", "2025-06-18": "2025-06-18", "2025-03-26": "2025-03-26",
		"2026-07-28": "2025-11-25", "2024-11-05": "2025-11-25", "1.0": "2025-11-25",
	} {
		c := &caller{stack: s, t: t, header: headers(), version: requested}
		res := c.call("initialize", object{
			"protocolVersion": requested, "capabilities": object{}, "clientInfo": object{"name": "n", "version": "1"},
		}).result()
		want[any](t, "version for "+requested, res["protocolVersion"], negotiated)
		_, tasks := res["capabilities"].(object)["tasks"]
		want(t, "tasks capability for "+requested, tasks, negotiated == "2025-11-25")
	}
}

func TestLegacyList(t *testing.T) {
	s := setup(t)
	for version, has := range map[string]bool{"2025-11-25": true, "2025-06-18": false} {
		c := s.legacy(t, version, object{})
		support := map[any]any{}
		for _, tool := range c.call("tools/list", object{}).result()["tools"].([]any) {
			if execution, ok := tool.(object)["execution"].(object); ok {
				support[tool.(object)["name"]] = execution["taskSupport"]
			}
		}
		if !has {
			want(t, "tools with execution", len(support), 0)
			continue
		}
		want[any](t, "greet", support["greet"], "forbidden")
		want[any](t, "must", support["must"], "required")
		want[any](t, "echo", support["echo"], "optional")
	}
}

// 2025-11-25, basic/utilities/tasks.
func TestLegacyTask(t *testing.T) {
	s := setup(t)
	c := s.legacy(t, "2025-11-25", elicits)

	t.Run("handle, get, result", func(t *testing.T) {
		c := c.in(t)
		label := gate(t)
		created := asTask(c, "gate", object{"label": label}, object{"ttl": 60000})
		want[any](t, "status", created["status"], "working")
		want[any](t, "ttl", created["ttl"], float64(60000))
		id := created["taskId"].(string)
		awaitEntered(t, label)
		got := c.call("tasks/get", object{"taskId": id}).result()
		want[any](t, "status", got["status"], "working")
		r := c.call("tasks/result", object{"taskId": id}) // blocks
		want(t, "streams", r.streams(), true)
		openGate(label)
		res := r.result()
		want(t, "text", textOf(t, res), "through "+label)
		related := res["_meta"].(object)["io.modelcontextprotocol/related-task"].(object)
		want[any](t, "related task", related["taskId"], id)
		if _, ok := res["resultType"]; ok {
			t.Error("resultType is of 2026")
		}
	})
	// basic/utilities/progress: the token stays valid for the task's lifetime.
	t.Run("progress goes to the tasks/result stream", func(t *testing.T) {
		c := c.in(t)
		label := gate(t)
		res := c.call("tools/call", object{
			"name": "gate", "arguments": object{"label": label}, "task": object{}, "_meta": object{"progressToken": "p"},
		}).result()
		r := c.call("tasks/result", object{"taskId": res["task"].(object)["taskId"]})
		f := r.next()
		want(t, "method", f.Method, "notifications/progress")
		want[any](t, "token", f.Params["progressToken"], "p")
		openGate(label)
		r.result()
	})
	t.Run("related-task of the upstream is overwritten", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "echo", object{"name": "x"}, object{})["taskId"].(string)
		res := c.call("tasks/result", object{"taskId": id}).result()
		related := res["_meta"].(object)["io.modelcontextprotocol/related-task"].(object)
		want[any](t, "related task", related["taskId"], id)
	})
	t.Run("ttl is brought within bounds", func(t *testing.T) {
		c := c.in(t)
		want[any](t, "short", asTask(c, "echo", object{"name": "x"}, object{"ttl": 1})["ttl"], float64(1000))
		want[any](t, "long", asTask(c, "echo", object{"name": "x"}, object{"ttl": 1e15})["ttl"], float64(30*24*3600*1000))
		want[any](t, "none in particular", asTask(c, "echo", object{"name": "x"}, object{})["ttl"], float64(24*3600*1000))
		// null asks for no limit; the reply has the one there is.
		want[any](t, "unlimited", asTask(c, "echo", object{"name": "x"}, object{"ttl": nil})["ttl"], float64(30*24*3600*1000))
	})
	t.Run("isError is failed, and still the result", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "fail", object{}, object{})["taskId"].(string)
		c.await(id, "failed")
		res := c.call("tasks/result", object{"taskId": id}).result()
		want[any](t, "isError", res["isError"], true)
	})
	t.Run("arguments that do not fit end in a failed task", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "echo", object{}, object{})["taskId"].(string)
		c.await(id, "failed")
		res := c.call("tasks/result", object{"taskId": id}).result()
		want[any](t, "isError", res["isError"], true)
	})
	t.Run("a JSON-RPC error is what tasks/result returns", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "raise", object{"code": -32042, "message": "as it was"}, object{})["taskId"].(string)
		f := c.call("tasks/result", object{"taskId": id}).fails(-32042)
		want(t, "message", f.Error.Message, "as it was")
	})
	t.Run("a forbidden tool is no task", func(t *testing.T) {
		c := c.in(t)
		c.call("tools/call", object{"name": "greet", "arguments": object{"name": "x"}, "task": object{}}).fails(-32601)
	})
	t.Run("a required tool is only a task", func(t *testing.T) {
		c := c.in(t)
		c.tool("must", object{"name": "x"}).fails(-32601)
	})
	t.Run("tasks/update does not exist", func(t *testing.T) {
		c := c.in(t)
		c.call("tasks/update", object{"taskId": "x", "inputResponses": object{}}).fails(-32601)
	})
	t.Run("cancel", func(t *testing.T) {
		c := c.in(t)
		label := gate(t)
		id := asTask(c, "gate", object{"label": label}, object{})["taskId"].(string)
		awaitEntered(t, label)
		waiting := c.call("tasks/result", object{"taskId": id})
		got := c.call("tasks/cancel", object{"taskId": id}).result()
		want[any](t, "status", got["status"], "cancelled")
		if f := waiting.fails(-32603); f.Error.Message != "Task was cancelled" {
			t.Errorf("tasks/result says %q", f.Error.Message)
		}
		c.call("tasks/cancel", object{"taskId": id}).fails(-32602)
		c.call("tasks/result", object{"taskId": id}).fails(-32603)
	})
	t.Run("list pages with a cursor", func(t *testing.T) {
		c := c.in(t)
		listed := map[any]bool{}
		params := object{}
		for {
			res := c.call("tasks/list", params).result()
			for _, task := range res["tasks"].([]any) {
				listed[task.(object)["taskId"]] = true
			}
			if res["nextCursor"] == nil {
				break
			}
			params = object{"cursor": res["nextCursor"]}
		}
		if len(listed) < 5 {
			t.Errorf("listed %d tasks", len(listed))
		}
	})
	t.Run("older revisions ignore params.task and know no tasks", func(t *testing.T) {
		c := s.legacy(t, "2025-06-18", object{})
		res := c.call("tools/call", object{"name": "greet", "arguments": object{"name": "x"}, "task": object{}}).result()
		want(t, "text", textOf(t, res), "Hello, x!")
		c.call("tasks/get", object{"taskId": "x"}).fails(-32601)
	})
}

// "Input Required Status": requests on the tasks/result stream.
func TestLegacyTaskInput(t *testing.T) {
	s := setup(t)
	c := s.legacy(t, "2025-11-25", elicits)
	answer := func(id any) *reply {
		return c.notify(object{"id": id, "result": object{"action": "accept", "content": object{"name": "Ann"}}})
	}
	t.Run("is asked and answered", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		c.await(id, "input_required")
		r := c.call("tasks/result", object{"taskId": id})
		f := r.next()
		want(t, "method", f.Method, "elicitation/create")
		related := f.Params["_meta"].(object)["io.modelcontextprotocol/related-task"].(object)
		want[any](t, "related task", related["taskId"], id)
		want(t, "status", answer(f.ID).status, http.StatusAccepted)
		want(t, "text", textOf(t, r.result()), "Hello, Ann!")
	})
	t.Run("is asked on one stream only", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		c.await(id, "input_required")
		first := c.call("tasks/result", object{"taskId": id})
		f := first.next()
		second := c.call("tasks/result", object{"taskId": id})
		answer(f.ID)
		if f := second.next(); f.Method != "" {
			t.Errorf("the second stream got %s", f.Method)
		}
		first.result()
	})
	t.Run("is asked again under a new id after a disconnect", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		c.await(id, "input_required")
		ctx, disconnect := context.WithCancel(t.Context())
		first := c.callContext(ctx, "tasks/result", object{"taskId": id}).next()
		r := c.call("tasks/result", object{"taskId": id})
		disconnect()
		second := r.next()
		want(t, "method", second.Method, first.Method)
		if string(first.ID) == string(second.ID) {
			t.Error("the same id")
		}
		answer(second.ID)
		want(t, "text", textOf(t, r.result()), "Hello, Ann!")
	})
	t.Run("an error response is an answer too", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		r := c.call("tasks/result", object{"taskId": id})
		c.notify(object{"id": r.next().ID, "error": object{"code": -1, "message": "not now"}})
		want(t, "text", textOf(t, r.result()), "no name: cancel")
	})
	t.Run("a session that cannot serve it just waits", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		c.await(id, "input_required")
		mute := s.legacy(t, "2025-11-25", object{})
		waiting := mute.call("tasks/result", object{"taskId": id})
		r := c.call("tasks/result", object{"taskId": id})
		answer(r.next().ID)
		want(t, "text", textOf(t, waiting.result()), "Hello, Ann!")
	})
	t.Run("notifications/cancelled ends the wait and not the task", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		r := c.call("tasks/result", object{"taskId": id})
		r.next()
		c.notify(object{"method": "notifications/cancelled", "params": object{"requestId": c.id}})
		if f := r.next(); f != nil {
			t.Errorf("got %+v", f)
		}
		want[any](t, "status", c.call("tasks/get", object{"taskId": id}).result()["status"], "input_required")
	})
}

func TestLegacyHeldCall(t *testing.T) {
	s := setup(t)
	c := s.legacy(t, "2025-06-18", elicits)
	t.Run("carries progress and requests on its stream", func(t *testing.T) {
		c := c.in(t)
		label := gate(t)
		r := c.call("tools/call", object{
			"name": "gate", "arguments": object{"label": label}, "_meta": object{"progressToken": 7},
		})
		f := r.next()
		want(t, "method", f.Method, "notifications/progress")
		want[any](t, "token", f.Params["progressToken"], float64(7))
		openGate(label)
		want(t, "text", textOf(t, r.result()), "through "+label)

		r = c.tool("ask", nil)
		f = r.next()
		want(t, "method", f.Method, "elicitation/create")
		if _, ok := f.Params["_meta"]; ok {
			t.Error("a request for no task names one")
		}
		c.notify(object{"id": f.ID, "result": object{"action": "decline"}})
		want(t, "text", textOf(t, r.result()), "no name: decline")
	})
	t.Run("is cancelled by notifications/cancelled, from any process", func(t *testing.T) {
		c := c.in(t)
		label := gate(t)
		r := c.tool("gate", object{"label": label})
		awaitEntered(t, label)
		elsewhere := *c
		elsewhere.stack = setup(t)
		elsewhere.notify(object{"method": "notifications/cancelled", "params": object{"requestId": c.id}})
		awaitEntered(t, label+" cancelled")
		r.next()
	})
	// "Disconnection SHOULD NOT be interpreted as the client cancelling its request."
	t.Run("survives a disconnect", func(t *testing.T) {
		s, label := setup(t), gate(t)
		c := s.legacy(t, "2025-06-18", object{})
		params := object{"name": "gate", "arguments": object{"label": label}, "_meta": object{"io.longhaul/idempotency-key": label}}
		ctx, disconnect := context.WithCancel(t.Context())
		c.callContext(ctx, "tools/call", params)
		awaitEntered(t, label)
		disconnect()
		if err := s.api.Shutdown(t.Context()); err != nil { // the handler has ended
			t.Fatal(err)
		}
		openGate(label)
		c.stack = setup(t)
		want(t, "text", textOf(t, c.call("tools/call", params).result()), "through "+label)
	})
}

func TestLegacySession(t *testing.T) {
	s := setup(t)
	t.Run("outlives the process", func(t *testing.T) {
		c := s.legacy(t, "2025-11-25", object{})
		c.stack = setup(t)
		c.call("ping", object{}).result()
	})
	t.Run("has one GET stream, which announces changes", func(t *testing.T) {
		c := s.legacy(t, "2025-11-25", object{})
		stream := s.do(t, t.Context(), http.MethodGet, c.header, "")
		want(t, "streams", stream.streams(), true)
		want(t, "a second one", s.do(t, t.Context(), http.MethodGet, c.header, "").status, http.StatusConflict)
		server.AddTool(newTool("later"), nil)
		defer server.RemoveTools("later")
		want(t, "method", stream.next().Method, "notifications/tools/list_changed")
		want(t, "delete", s.do(t, t.Context(), http.MethodDelete, c.header, "").status, http.StatusNoContent)
		if f := stream.next(); f != nil && f.Method == "" {
			t.Errorf("got %+v", f)
		}
		want(t, "afterwards", c.call("ping", object{}).status, http.StatusNotFound)
	})
	t.Run("cannot be deleted where other processes would not know", func(t *testing.T) {
		s := setup(t, func(o *api.Options) { o.Replicated = true })
		c := s.legacy(t, "2025-11-25", object{})
		want(t, "status", s.do(t, t.Context(), http.MethodDelete, c.header, "").status, http.StatusMethodNotAllowed)
		c.call("ping", object{}).result()
	})
	t.Run("batches belong to 2025-03-26", func(t *testing.T) {
		const batch = `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},` +
			`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"greet","arguments":{"name":"x"}}}]`
		r := s.post(t, s.legacy(t, "2025-03-26", object{}).header, batch)
		want(t, "first", string(r.next().ID), "1")
		want(t, "text", textOf(t, r.next().Result), "Hello, x!")
		r = s.post(t, s.legacy(t, "2025-06-18", object{}).header, batch)
		want(t, "status", r.status, http.StatusBadRequest)
		r.fails(-32600)
	})
}

// A task belongs to its owner, not to a generation.
func TestAcrossWires(t *testing.T) {
	s := setup(t)
	modern, legacy := s.modern(t, withTasks), s.legacy(t, "2025-11-25", elicits)
	t.Run("created on 2026, asked and answered on 2025", func(t *testing.T) {
		modern, legacy := modern.in(t), legacy.in(t)
		id := modern.tool("ask", nil).result()["taskId"].(string)
		legacy.await(id, "input_required")
		r := legacy.call("tasks/result", object{"taskId": id})
		legacy.notify(object{"id": r.next().ID, "result": object{"action": "accept", "content": object{"name": "Bob"}}})
		want(t, "text", textOf(t, r.result()), "Hello, Bob!")
		modern.await(id, "completed")
	})
	t.Run("created on 2025, answered on 2026", func(t *testing.T) {
		modern, legacy := modern.in(t), legacy.in(t)
		id := asTask(legacy, "ask", object{}, object{})["taskId"].(string)
		r := legacy.call("tasks/result", object{"taskId": id})
		r.next()
		modern.await(id, "input_required")
		modern.call("tasks/update", object{"taskId": id, "inputResponses": object{
			"user_name": object{"action": "accept", "content": object{"name": "Cy"}},
		}}).result()
		want(t, "text", textOf(t, r.result()), "Hello, Cy!")
	})
	t.Run("isError is failed on 2025 and completed on 2026", func(t *testing.T) {
		modern, legacy := modern.in(t), legacy.in(t)
		id := asTask(legacy, "fail", object{}, object{})["taskId"].(string)
		legacy.await(id, "failed")
		got := modern.call("tasks/get", object{"taskId": id}).result()
		want[any](t, "status", got["status"], "completed")
	})
	t.Run("cancelled on 2026, seen on 2025", func(t *testing.T) {
		modern, legacy := modern.in(t), legacy.in(t)
		label := gate(t)
		id := asTask(legacy, "gate", object{"label": label}, object{})["taskId"].(string)
		modern.call("tasks/cancel", object{"taskId": id}).result()
		legacy.await(id, "cancelled")
		got := modern.call("tasks/get", object{"taskId": id}).result()
		if got["error"] != nil || got["result"] != nil {
			t.Errorf("something is inlined: %v", got)
		}
	})
}
