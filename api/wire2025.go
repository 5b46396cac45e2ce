package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// wire2025 words tasks as core MCP 2025-11-25 has them (basic/utilities/tasks).
type wire2025 struct{ pollInterval time.Duration }

type task2025 struct {
	TaskID        string `json:"taskId"`
	Status        string `json:"status"`
	StatusMessage string `json:"statusMessage,omitempty"`
	CreatedAt     string `json:"createdAt"`
	LastUpdatedAt string `json:"lastUpdatedAt"`
	TTL           int64  `json:"ttl"`
	PollInterval  int64  `json:"pollInterval"`
}

func (w wire2025) task(t *task.Task) task2025 {
	status := t.Status
	if status == task.StatusCompleted && t.Outcome != nil && t.Outcome.IsError {
		status = task.StatusFailed // "Task Execution Errors"
	}
	return task2025{
		TaskID:        t.ID,
		Status:        string(status),
		StatusMessage: statusMessage(t),
		CreatedAt:     timestamp(t.CreatedAt),
		LastUpdatedAt: timestamp(t.UpdatedAt),
		TTL:           t.TTL.Milliseconds(),
		PollInterval:  w.pollInterval.Milliseconds(),
	}
}

// created is the CreateTaskResult. "Tasks MUST begin in the working status",
// so that is what it says, however far the task has come meanwhile.
func (w wire2025) created(t *task.Task) any {
	seed := w.task(t)
	seed.Status = string(task.StatusWorking)
	seed.StatusMessage = ""
	return map[string]any{"task": seed}
}

func (w wire2025) detail(t *task.Task) any { return w.task(t) }

// notification is the task's status as it is pushed.
func (w wire2025) notification(t *task.Task) outgoing {
	return outgoing{JSONRPC: "2.0", Method: "notifications/tasks/status", Params: w.task(t)}
}

// result drops what 2025 does not know: resultType, the metadata that names the
// server behind this one, and structured content that is no object.
func (w wire2025) result(raw json.RawMessage) json.RawMessage {
	return edit(raw, func(m map[string]json.RawMessage) {
		delete(m, "resultType")
		withoutMeta(m, metaServerInfo)
		if s, ok := m["structuredContent"]; ok && s[0] != '{' {
			delete(m, "structuredContent")
		}
	})
}

// rpcError knows no code for what a client did not declare but invalid params
// (client/elicitation, "Error Handling"); -32021 is of 2026.
func (w wire2025) rpcError(e *task.RPCError) *task.RPCError {
	if e.Code == codeMissingCapability {
		return &task.RPCError{
			Code:    codeInvalidParams,
			Message: "Invalid params: the tool needs a client capability that this session does not have",
			Data:    e.Data,
		}
	}
	return e
}

// errorStatus: a JSON-RPC error is the answer to a request that did arrive.
func (w wire2025) errorStatus(int64) int { return http.StatusOK }

// relatedTask is the value of _meta for messages that belong to a task
// ("Related Task Metadata").
func relatedTask(id string) json.RawMessage {
	raw, err := encode(map[string]string{"taskId": id})
	if err != nil {
		panic(err) // strings always encode
	}
	return raw
}

// withoutMeta deletes keys of the _meta among members, and _meta with the last.
func withoutMeta(members map[string]json.RawMessage, keys ...string) {
	meta, ok := members["_meta"]
	if !ok {
		return
	}
	meta = edit(meta, func(m map[string]json.RawMessage) {
		for _, key := range keys {
			delete(m, key)
		}
	})
	members["_meta"] = meta
	if string(meta) == "{}" {
		delete(members, "_meta")
	}
}

// withMeta sets one key of the _meta of a JSON object.
func withMeta(raw json.RawMessage, key string, value json.RawMessage) json.RawMessage {
	return edit(raw, func(m map[string]json.RawMessage) {
		meta := m["_meta"]
		if len(meta) == 0 || meta[0] != '{' {
			meta = json.RawMessage("{}")
		}
		m["_meta"] = edit(meta, func(m map[string]json.RawMessage) { m[key] = value })
	})
}
