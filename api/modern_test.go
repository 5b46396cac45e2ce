package api_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
)

func TestModernCall(t *testing.T) {
	s := setup(t)
	with, without := s.modern(t, withTasks), s.modern(t, object{"elicitation": object{}})
	impatient := setup(t, func(o *api.Options) { o.InlineWindow = time.Millisecond }).modern(t, withTasks)

	t.Run("what ends at once is no task", func(t *testing.T) {
		with := with.in(t)
		res := with.tool("echo", object{"name": "x"}).result()
		want[any](t, "resultType", res["resultType"], "complete")
		want(t, "text", textOf(t, res), "echo x")
	})
	t.Run("what takes longer is a task", func(t *testing.T) {
		with := impatient.in(t)
		label := gate(t)
		res := with.tool("gate", object{"label": label}).result()
		want[any](t, "resultType", res["resultType"], "task")
		want[any](t, "status", res["status"], "working")
		want(t, "ttlMs", res["ttlMs"].(float64), float64(24*time.Hour.Milliseconds()))
		want(t, "pollIntervalMs", res["pollIntervalMs"].(float64), 1000)
		for _, absent := range []string{"task", "result", "error", "inputRequests", "requestState", "ttl", "pollInterval"} {
			if _, ok := res[absent]; ok {
				t.Errorf("the handle carries %s", absent)
			}
		}
		id := res["taskId"].(string)
		awaitEntered(t, label)
		openGate(label)
		done := with.await(id, "completed")
		want[any](t, "resultType of tasks/get", done["resultType"], "complete")
		want[any](t, "resultType inside", done["result"].(object)["resultType"], "complete")
		want(t, "text", textOf(t, done["result"].(object)), "through "+label)
	})
	t.Run("what ended before under its key is a task too, if its result is not read in time", func(t *testing.T) {
		call := object{"name": "echo", "arguments": object{"name": "x"}, "_meta": object{"io.longhaul/idempotency-key": t.Name()}}
		want[any](t, "resultType", with.in(t).call("tools/call", call).result()["resultType"], "complete")
		hasty := setup(t, func(o *api.Options) { o.InlineWindow = time.Nanosecond }).modern(t, withTasks)
		res := hasty.call("tools/call", call).result()
		if res["resultType"] != "task" {
			t.Fatalf("got %v", res)
		}
		done := hasty.await(res["taskId"].(string), "completed")
		want(t, "text", textOf(t, done["result"].(object)), "echo x")
	})
	t.Run("statusMessage shows progress while working", func(t *testing.T) {
		with := impatient.in(t)
		label := gate(t)
		id := with.tool("gate", object{"label": label}).result()["taskId"].(string)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			got := with.call("tasks/get", object{"taskId": id}).result()
			want[any](t, "status", got["status"], "working")
			if got["statusMessage"] == "60 of 100" || t.Failed() {
				break
			}
			<-tick.C
		}
		openGate(label)
	})
	t.Run("a required tool is always a task", func(t *testing.T) {
		with := with.in(t)
		res := with.tool("must", object{"name": "it"}).result()
		want[any](t, "resultType", res["resultType"], "task")
		done := with.await(res["taskId"].(string), "completed")
		want(t, "text", textOf(t, done["result"].(object)), "did it")
	})
	t.Run("a required tool needs the extension", func(t *testing.T) {
		without := without.in(t)
		r := without.tool("must", object{"name": "it"})
		f := r.fails(-32021) // ext-tasks, "Capability Negotiation"
		want(t, "status", r.status, http.StatusBadRequest)
		required := f.Error.Data["requiredCapabilities"].(object)["extensions"].(object)
		if _, ok := required["io.modelcontextprotocol/tasks"]; !ok {
			t.Errorf("data names %v", required)
		}
	})
	t.Run("without the extension the call is held", func(t *testing.T) {
		without := without.in(t)
		res := without.tool("echo", object{"name": "x"}).result()
		want[any](t, "resultType", res["resultType"], "complete")
		want(t, "text", textOf(t, res), "echo x")
	})
	t.Run("a forbidden tool is held, whatever params.task says", func(t *testing.T) {
		with := with.in(t)
		res := with.call("tools/call", object{
			"name": "greet", "arguments": object{"name": "x"}, "task": object{"ttl": 60000},
		}).result()
		want(t, "text", textOf(t, res), "Hello, x!")
	})
	t.Run("related-task is stripped and other metadata kept", func(t *testing.T) {
		without := without.in(t)
		meta := without.tool("echo", object{"name": "x"}).result()["_meta"].(object)
		if _, ok := meta["io.modelcontextprotocol/related-task"]; ok {
			t.Error("related-task is still there")
		}
		want[any](t, "kept", meta["kept"], true)
	})
	t.Run("isError is a completed task", func(t *testing.T) {
		with := with.in(t)
		res := with.tool("fail", nil).result()
		want[any](t, "isError", res["isError"], true)
	})
	t.Run("arguments that do not fit are an isError result", func(t *testing.T) {
		with := with.in(t)
		res := with.tool("echo", object{"name": 5}).result()
		want[any](t, "isError", res["isError"], true)
		want[any](t, "resultType", res["resultType"], "complete")
	})
	t.Run("arguments that do not fit a required tool end its task", func(t *testing.T) {
		with := with.in(t)
		id := with.tool("must", object{}).result()["taskId"].(string)
		done := with.await(id, "completed")
		want[any](t, "isError", done["result"].(object)["isError"], true)
	})
	t.Run("a JSON-RPC error fails the task", func(t *testing.T) {
		with := with.in(t)
		res := with.tool("raise", object{"code": 7, "message": "seven"}).result()
		got := with.await(res["taskId"].(string), "failed")
		want[any](t, "code", got["error"].(object)["code"], float64(7))
		if got["result"] != nil || got["statusMessage"] == nil {
			t.Errorf("got %v", got)
		}
	})
}

// 2026-07-28, basic, "Error Codes".
func TestModernUpstreamErrors(t *testing.T) {
	s := setup(t)
	c := s.modern(t, object{})
	for _, tt := range []struct {
		name                 string
		upstream, code, http int
	}{
		{"an application's own code passes", 7, 7, 200},
		{"resource not found of 2025 is invalid params", -32002, -32602, 200},
		{"url elicitation of 2025 is an internal error", -32042, -32603, 200},
		{"a code reserved for MCP is an internal error", -32077, -32603, 200},
		{"a header mismatch upstream is not this client's", -32020, -32603, 200},
		{"a missing capability is the client's", -32021, -32021, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := c.in(t)
			r := c.tool("raise", object{"code": tt.upstream, "message": "m", "data": object{"requiredCapabilities": object{"sampling": object{}}}})
			f := r.fails(tt.code)
			want(t, "status", r.status, tt.http)
			if tt.code == -32603 && f.Error.Data["code"] != float64(tt.upstream) {
				t.Errorf("data is %v", f.Error.Data)
			}
		})
	}
}

func TestModernInput(t *testing.T) {
	s := setup(t)
	with, without := s.modern(t, withTasks), s.modern(t, object{"elicitation": object{}})
	accept := object{"user_name": object{"action": "accept", "content": object{"name": "Ann"}}}

	t.Run("in a task", func(t *testing.T) {
		with := with.in(t)
		id := with.tool("ask", nil).result()["taskId"].(string)
		got := with.await(id, "input_required")
		request := got["inputRequests"].(object)["user_name"].(object)
		want[any](t, "method", request["method"], "elicitation/create")
		ack := with.call("tasks/update", object{"taskId": id, "inputResponses": object{"unknown": object{}}}).result()
		want[any](t, "resultType of the ack", ack["resultType"], "complete")
		with.call("tasks/update", object{"taskId": id, "inputResponses": accept}).result()
		done := with.await(id, "completed")
		want(t, "text", textOf(t, done["result"].(object)), "Hello, Ann!")
		// "A terminal task is no error" for a late answer or cancel.
		with.call("tasks/update", object{"taskId": id, "inputResponses": accept}).result()
		with.call("tasks/cancel", object{"taskId": id}).result()
	})
	// ext-tasks, "Task Creation": MRTR exchanges come before the task.
	t.Run("before the task", func(t *testing.T) {
		with := with.in(t)
		first := with.tool("ask_first", nil).result()
		want[any](t, "resultType", first["resultType"], "input_required")
		if _, ok := first["taskId"]; ok {
			t.Error("the first round carries a taskId")
		}
		second := with.call("tools/call", object{
			"name": "ask_first", "arguments": object{}, "inputResponses": accept, "requestState": first["requestState"],
		}).result()
		want[any](t, "resultType", second["resultType"], "task")
		done := with.await(second["taskId"].(string), "completed")
		want(t, "text", textOf(t, done["result"].(object)), "Hello, Ann!")
	})
	t.Run("of a held call", func(t *testing.T) {
		without := without.in(t)
		first := without.tool("ask", nil).result()
		want[any](t, "resultType", first["resultType"], "input_required")
		retry := func(state any, responses object) *reply {
			return without.call("tools/call", object{
				"name": "ask", "arguments": object{}, "inputResponses": responses, "requestState": state,
			})
		}
		// patterns/mrtr, "Error Handling": missing information is asked for again.
		again := retry(first["requestState"], object{"other": object{}}).result()
		want[any](t, "resultType", again["resultType"], "input_required")
		if _, ok := again["inputRequests"].(object)["user_name"]; !ok {
			t.Errorf("asks for %v", again["inputRequests"])
		}
		res := retry(again["requestState"], accept).result()
		want(t, "text", textOf(t, res), "Hello, Ann!")
	})
	t.Run("an undeclared kind is never asked", func(t *testing.T) {
		r := s.modern(t, object{}).tool("ask", nil)
		r.fails(-32021)
		want(t, "status", r.status, http.StatusBadRequest)
	})
	// patterns/mrtr, "Server Requirements"; basic, "Per-request protocol fields":
	// what an earlier request declared does not count.
	t.Run("nor is one that only the request before declared", func(t *testing.T) {
		for name, c := range map[string]struct{ before, now *caller }{
			"ask":       {without, s.modern(t, object{})},
			"ask_first": {with, s.modern(t, object{"extensions": object{"io.modelcontextprotocol/tasks": object{}}})},
		} {
			params := object{"name": name, "arguments": object{}, "requestState": c.before.in(t).tool(name, nil).result()["requestState"]}
			r := c.now.in(t).call("tools/call", params)
			f := r.fails(-32021)
			want(t, "status", r.status, http.StatusBadRequest)
			if _, ok := f.Error.Data["requiredCapabilities"].(object)["elicitation"]; !ok {
				t.Errorf("data is %v", f.Error.Data)
			}
			// The call is still there for who declares it.
			if res := c.before.in(t).call("tools/call", params).result(); res["inputRequests"] == nil {
				t.Errorf("got %v", res)
			}
		}
	})
}

func TestModernHeldCall(t *testing.T) {
	s := setup(t)
	t.Run("carries progress on its stream", func(t *testing.T) {
		label := gate(t)
		c := s.modern(t, object{})
		r := c.call("tools/call", object{
			"name": "gate", "arguments": object{"label": label}, "_meta": object{"progressToken": "p"},
		})
		f := r.next()
		want(t, "method", f.Method, "notifications/progress")
		want[any](t, "token", f.Params["progressToken"], "p")
		want[any](t, "progress", f.Params["progress"], float64(60))
		openGate(label)
		want(t, "text", textOf(t, r.result()), "through "+label)
	})
	t.Run("answers before the client gives up", func(t *testing.T) {
		s := setup(t)
		s.api.SetMaxWait(50 * time.Millisecond)
		label := gate(t)
		c := s.modern(t, object{})
		res := c.tool("gate", object{"label": label}).result()
		want[any](t, "resultType", res["resultType"], "input_required")
		if _, ok := res["inputRequests"]; ok {
			t.Error("asks for something")
		}
		openGate(label)
		for res["resultType"] == "input_required" {
			res = c.call("tools/call", object{
				"name": "gate", "arguments": object{"label": label}, "requestState": res["requestState"],
			}).result()
		}
		want(t, "text", textOf(t, res), "through "+label)
	})
	// streamable-http, "Cancellation".
	t.Run("is cancelled by a disconnect", func(t *testing.T) {
		label := gate(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			awaitEntered(t, label)
			cancel()
		}()
		h, body := s.modern(t, object{}).request("tools/call", object{"name": "gate", "arguments": object{"label": label}})
		req := newRequest(t, ctx, s.url, h, body)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			t.Fatal("got a response")
		}
		awaitEntered(t, label+" cancelled")
	})
	t.Run("with an idempotency key is found again", func(t *testing.T) {
		label := gate(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			awaitEntered(t, label)
			cancel()
		}()
		c := s.modern(t, object{})
		params := object{"name": "gate", "arguments": object{"label": label}, "_meta": object{"io.longhaul/idempotency-key": label}}
		h, body := c.request("tools/call", params)
		if res, err := http.DefaultClient.Do(newRequest(t, ctx, s.url, h, body)); err == nil {
			res.Body.Close()
			t.Fatal("got a response")
		}
		openGate(label)
		for range 2 { // the second finds it ended
			want(t, "text", textOf(t, c.call("tools/call", params).result()), "through "+label)
		}
		params["arguments"] = object{"label": label + " too"}
		c.call("tools/call", params).fails(-32602)
	})
	t.Run("is no task", func(t *testing.T) {
		without, with := s.modern(t, object{"elicitation": object{}}), s.legacy(t, "2025-11-25", object{})
		without.tool("ask_held", nil).result()
		for _, listed := range with.call("tasks/list", object{}).result()["tasks"].([]any) {
			if id := listed.(object)["taskId"].(string); len(id) > 5 && id[:5] == "call-" {
				t.Errorf("%s is listed", id)
			}
		}
	})
}

func TestModernDiscover(t *testing.T) {
	s := setup(t)
	c := s.modern(t, withTasks)
	got := c.call("server/discover", object{}).result()
	capabilities := got["capabilities"].(object)
	if _, ok := capabilities["tasks"]; ok {
		t.Error("capabilities.tasks is of 2025")
	}
	if _, ok := capabilities["extensions"].(object)["io.modelcontextprotocol/tasks"]; !ok {
		t.Errorf("extensions are %v", capabilities["extensions"])
	}
	// server/utilities/caching
	for method, res := range map[string]object{"server/discover": got, "tools/list": c.call("tools/list", object{}).result()} {
		want[any](t, "cacheScope of "+method, res["cacheScope"], "private")
		want[any](t, "resultType of "+method, res["resultType"], "complete")
		if ttl, _ := res["ttlMs"].(float64); ttl <= 0 {
			t.Errorf("ttlMs of %s is %v", method, res["ttlMs"])
		}
		info, _ := res["_meta"].(object)["io.modelcontextprotocol/serverInfo"].(object)
		want[any](t, "serverInfo of "+method, info["name"], "longhaul")
	}
	for _, tool := range c.call("tools/list", object{}).result()["tools"].([]any) {
		if _, ok := tool.(object)["execution"]; ok {
			t.Errorf("%v has execution", tool)
		}
	}
}

// patterns/subscriptions.
func TestModernListen(t *testing.T) {
	s := setup(t)
	c := s.modern(t, withTasks)
	listen := func(filter object) *reply { return c.call("subscriptions/listen", object{"notifications": filter}) }
	r := listen(object{"toolsListChanged": true, "promptsListChanged": true, "taskIds": []string{"a"}})
	other := listen(object{"promptsListChanged": true})

	ack := r.next()
	want(t, "first", ack.Method, "notifications/subscriptions/acknowledged")
	if honoured := ack.Params["notifications"].(object); len(honoured) != 1 || honoured["toolsListChanged"] != true {
		t.Errorf("honours %v", honoured)
	}
	other.next()
	change := make(chan struct{})
	cancel := tools.Subscribe(func() { close(change) })
	server.AddTool(newTool("late"), nil)
	defer server.RemoveTools("late")
	<-change
	cancel()
	f := r.next()
	want(t, "then", f.Method, "notifications/tools/list_changed")
	for _, f := range []*frame{ack, f} {
		if _, ok := f.Params["_meta"].(object)["io.modelcontextprotocol/subscriptionId"]; !ok {
			t.Errorf("%s carries no subscription id", f.Method)
		}
	}
	if err := s.api.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// "Graceful Closure"; and the other stream was told of nothing it did not ask for.
	for _, r := range []*reply{r, other} {
		f := r.next()
		if f == nil || f.Result["resultType"] != "complete" {
			t.Errorf("ends with %+v", f)
		}
	}
}

func TestModernShutdownSendsHeldCallsElsewhere(t *testing.T) {
	s, elsewhere := setup(t), setup(t)
	label := gate(t)
	c := s.modern(t, object{})
	go func() {
		awaitEntered(t, label)
		if err := s.api.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	res := c.tool("gate", object{"label": label}).result()
	want[any](t, "resultType", res["resultType"], "input_required")
	openGate(label)
	c.stack = elsewhere
	res = c.call("tools/call", object{"name": "gate", "arguments": object{"label": label}, "requestState": res["requestState"]}).result()
	want(t, "text", textOf(t, res), "through "+label)
}

func TestOwners(t *testing.T) {
	tokens := loadTokens(t, "ann: token-of-ann\nbob: token-of-bob\n")
	s := setup(t, func(o *api.Options) { o.Auth = tokens })
	as := func(token string) *caller {
		c := s.modern(t, withTasks)
		c.header.Set("Authorization", "Bearer "+token)
		return c
	}
	ann, bob := as("token-of-ann"), as("token-of-bob")
	id := ann.tool("ask", nil).result()["taskId"].(string)
	ann.await(id, "input_required")

	unknown := bob.call("tasks/get", object{"taskId": "nosuchtask"}).fails(-32602).Error
	for method, params := range map[string]object{
		"tasks/get": {"taskId": id}, "tasks/cancel": {"taskId": id}, "tasks/update": {"taskId": id, "inputResponses": object{"user_name": object{}}},
	} {
		if got := bob.call(method, params).fails(-32602).Error; got.Message != unknown.Message {
			t.Errorf("%s: a foreign task is %q, an unknown one %q", method, got.Message, unknown.Message)
		}
	}
	lister := s.legacy(t, "2025-11-25", object{}, "Authorization", "Bearer token-of-bob")
	want(t, "bob's list", len(lister.call("tasks/list", object{}).result()["tasks"].([]any)), 0)
	lister = s.legacy(t, "2025-11-25", object{}, "Authorization", "Bearer token-of-ann")
	if !slices.ContainsFunc(lister.call("tasks/list", object{}).result()["tasks"].([]any), func(t any) bool { return t.(object)["taskId"] == id }) {
		t.Error("ann's list lacks her task")
	}
	ann.call("tasks/cancel", object{"taskId": id}).result()
	ann.await(id, "cancelled")
}
