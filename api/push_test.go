package api_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
)

// nextTask is the next notifications/tasks of a subscription.
func nextTask(t *testing.T, r *reply) object {
	t.Helper()
	f := r.next()
	if f == nil || f.Method != "notifications/tasks" {
		t.Fatalf("got %+v", f)
	}
	if _, ok := f.Params["_meta"].(object)["io.modelcontextprotocol/subscriptionId"]; !ok {
		t.Error("it carries no subscription id")
	}
	if _, ok := f.Params["resultType"]; ok {
		t.Error("it has a resultType, which results have")
	}
	return f.Params
}

// subscribe opens a subscription to tasks and returns the ids that are
// acknowledged.
func subscribe(t *testing.T, c *caller, ids ...string) (*reply, []any) {
	t.Helper()
	r := c.call("subscriptions/listen", object{"notifications": object{"taskIds": ids}})
	ack := r.next()
	want(t, "first", ack.Method, "notifications/subscriptions/acknowledged")
	agreed, _ := ack.Params["notifications"].(object)["taskIds"].([]any)
	return r, agreed
}

// ext-tasks, "Task Status Notifications".
func TestModernTaskNotifications(t *testing.T) {
	tokens := loadTokens(t, "ann: token-of-ann\nbob: token-of-bob\n")
	with := setup(t, func(o *api.Options) { o.Auth = tokens })
	as := func(t *testing.T, s *stack, token string) *caller {
		c := s.modern(t, withTasks)
		c.header.Set("Authorization", "Bearer "+token)
		return c
	}

	t.Run("carry the task as tasks/get has it, from its current state to its end", func(t *testing.T) {
		c := as(t, with, "token-of-ann")
		id := c.tool("ask", nil).result()["taskId"].(string)
		got := c.await(id, "input_required")
		r, agreed := subscribe(t, c, id)
		if len(agreed) != 1 || agreed[0] != id {
			t.Errorf("agreed to %v", agreed)
		}
		first := nextTask(t, r)
		for _, member := range []string{"taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"} {
			want(t, member, first[member], got[member])
		}
		if _, ok := first["inputRequests"].(object)["user_name"]; !ok {
			t.Errorf("inputRequests are %v", first["inputRequests"])
		}
		c.call("tasks/update", object{"taskId": id, "inputResponses": object{
			"user_name": object{"action": "accept", "content": object{"name": "Ann"}},
		}}).result()
		last := nextTask(t, r)
		for last["status"] == "working" { // which may last too short to be seen
			last = nextTask(t, r)
		}
		want[any](t, "status", last["status"], "completed")
		want(t, "text", textOf(t, last["result"].(object)), "Hello, Ann!")
		want[any](t, "resultType of the result", last["result"].(object)["resultType"], "complete")
	})

	t.Run("come from a process that has not created the task", func(t *testing.T) {
		label := gate(t)
		c := as(t, setup(t, func(o *api.Options) { o.Auth, o.InlineWindow = tokens, time.Millisecond }), "token-of-ann")
		id := c.tool("gate", object{"label": label}).result()["taskId"].(string)
		awaitEntered(t, label)
		r, _ := subscribe(t, as(t, setup(t, func(o *api.Options) { o.Auth = tokens }), "token-of-ann"), id)
		want[any](t, "status", nextTask(t, r)["status"], "working")
		openGate(label)
		// The tool has reported progress meanwhile, which is no change of status.
		want[any](t, "status", nextTask(t, r)["status"], "completed")
	})

	t.Run("are for the owner alone", func(t *testing.T) {
		ann, bob := as(t, with, "token-of-ann"), as(t, with, "token-of-bob")
		hers := ann.tool("ask", nil).result()["taskId"].(string)
		his := bob.tool("ask", nil).result()["taskId"].(string)
		ann.await(hers, "input_required")
		bob.await(his, "input_required")
		r, agreed := subscribe(t, bob, hers, "nosuchtask", his, "not an id", his)
		if !slices.Equal(agreed, []any{his}) {
			t.Errorf("agreed to %v", agreed)
		}
		ann.call("tasks/cancel", object{"taskId": hers}).result()
		ann.await(hers, "cancelled")
		want[any](t, "task", nextTask(t, r)["taskId"], his)
		bob.call("tasks/cancel", object{"taskId": his}).result()
		f := nextTask(t, r)
		want[any](t, "task", f["taskId"], his)
		want[any](t, "status", f["status"], "cancelled")
	})

	t.Run("go beside those of another kind", func(t *testing.T) {
		c := as(t, with, "token-of-ann")
		id := c.tool("ask", nil).result()["taskId"].(string)
		c.await(id, "input_required")
		r := c.call("subscriptions/listen", object{"notifications": object{"taskIds": []string{id}, "toolsListChanged": true}})
		want(t, "honours", len(r.next().Params["notifications"].(object)), 2)
		nextTask(t, r)
		server.AddTool(newTool("pushed"), nil)
		defer server.RemoveTools("pushed")
		want(t, "method", r.next().Method, "notifications/tools/list_changed")
		c.call("tasks/cancel", object{"taskId": id}).result()
		want[any](t, "status", nextTask(t, r)["status"], "cancelled")
	})
}

// nextStatus is the next notifications/tasks/status of a stream, about the task.
func nextStatus(t *testing.T, r *reply, id, status string) {
	t.Helper()
	f := r.message()
	for f != nil && f.Method == "notifications/tools/list_changed" { // of the tests before
		f = r.message()
	}
	if f == nil || f.Method != "notifications/tasks/status" {
		t.Fatalf("got %+v", f)
	}
	want[any](t, "task", f.Params["taskId"], id)
	want[any](t, "status", f.Params["status"], status)
	// 2025-11-25, tasks, "Task Notifications": SHOULD NOT include related-task.
	if _, ok := f.Params["_meta"]; ok {
		t.Errorf("it has _meta %v", f.Params["_meta"])
	}
}

// 2025-11-25, tasks, "Task Status Notification".
func TestLegacyTaskNotifications(t *testing.T) {
	s := setup(t)
	get := func(c *caller) *reply { return c.do(t, t.Context(), http.MethodGet, c.header, "") }
	cancelled := func(c *caller, id string) { c.call("tasks/cancel", object{"taskId": id}).result() }

	t.Run("go to the GET stream of the session that created the task", func(t *testing.T) {
		c, other := s.legacy(t, "2025-11-25", elicits), s.legacy(t, "2025-11-25", elicits)
		stream, others := get(c), get(other)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		nextStatus(t, stream, id, "input_required")
		cancelled(c, id)
		nextStatus(t, stream, id, "cancelled")
		next := asTask(other, "ask", object{}, object{})["taskId"].(string)
		nextStatus(t, others, next, "input_required")
		cancelled(other, next)
	})

	t.Run("go to the stream of tasks/result instead while there is one", func(t *testing.T) {
		c := s.legacy(t, "2025-11-25", elicits)
		stream := get(c)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		nextStatus(t, stream, id, "input_required")
		r := c.call("tasks/result", object{"taskId": id})
		request := r.message() // and not the status, which the session knows
		want(t, "method", request.Method, "elicitation/create")
		c.notify(object{"id": request.ID, "result": object{"action": "accept", "content": object{"name": "Bob"}}})
		for f := r.message(); ; f = r.message() {
			if f.Method == "notifications/tasks/status" && f.Params["status"] == "working" {
				continue // which may last too short to be seen
			}
			want(t, "method", f.Method, "notifications/tasks/status")
			want[any](t, "status", f.Params["status"], "completed")
			break
		}
		want(t, "text", textOf(t, r.result()), "Hello, Bob!")
		next := asTask(c, "ask", object{}, object{})["taskId"].(string)
		nextStatus(t, stream, next, "input_required")
		cancelled(c, next)
	})

	t.Run("tell a new stream where the tasks stand", func(t *testing.T) {
		c := s.legacy(t, "2025-11-25", elicits)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		c.await(id, "input_required")
		c.stack = setup(t)
		awaitListed(t, c, id)
		stream := get(c)
		nextStatus(t, stream, id, "input_required")
		cancelled(c, id)
		nextStatus(t, stream, id, "cancelled")
	})

	t.Run("tell of tasks that another process has created", func(t *testing.T) {
		c := s.legacy(t, "2025-11-25", elicits)
		elsewhere := *c
		elsewhere.stack = setup(t, func(o *api.Options) { o.Replicated = true })
		stream := get(&elsewhere)
		id := asTask(c, "ask", object{}, object{})["taskId"].(string)
		nextStatus(t, stream, id, "input_required")
		cancelled(c, id)
		nextStatus(t, stream, id, "cancelled")
	})
}

// awaitListed waits until Temporal lists a task to a process that has not
// created it.
func awaitListed(t *testing.T, c *caller, id string) {
	t.Helper()
	for {
		tasks := c.call("tasks/list", object{}).result()["tasks"].([]any)
		if slices.ContainsFunc(tasks, func(t any) bool { return t.(object)["taskId"] == id }) {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("it is not listed")
		}
	}
}
