package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// wire2026 words tasks as the extension io.modelcontextprotocol/tasks of MCP
// 2026-07-28 has them (ext-tasks).
type wire2026 struct {
	pollInterval time.Duration
	// meta identifies this server in every result ("Per-response protocol
	// fields"). It is never changed.
	meta map[string]json.RawMessage
}

func newWire2026(pollInterval time.Duration, serverInfo json.RawMessage) wire2026 {
	return wire2026{pollInterval, map[string]json.RawMessage{metaServerInfo: serverInfo}}
}

const metaServerInfo = "io.modelcontextprotocol/serverInfo"

type task2026 struct {
	ResultType    string                     `json:"resultType,omitempty"`
	TaskID        string                     `json:"taskId"`
	Status        string                     `json:"status"`
	StatusMessage string                     `json:"statusMessage,omitempty"`
	CreatedAt     string                     `json:"createdAt"`
	LastUpdatedAt string                     `json:"lastUpdatedAt"`
	TTL           int64                      `json:"ttlMs"`
	PollInterval  int64                      `json:"pollIntervalMs"`
	InputRequests inputRequests              `json:"inputRequests,omitempty"`
	Result        json.RawMessage            `json:"result,omitempty"`
	Error         *task.RPCError             `json:"error,omitempty"`
	Meta          map[string]json.RawMessage `json:"_meta"`
}

// inputRequests are a task's outstanding requests by key ("InputRequests").
type inputRequests map[string]inputRequest

type inputRequest struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

func wordInputs(inputs []task.InputRequest) inputRequests {
	out := make(inputRequests, len(inputs))
	for _, in := range inputs {
		out[in.Key] = inputRequest{in.Method, inputParams2026(in)}
	}
	return out
}

func (w wire2026) task(t *task.Task, resultType string) task2026 {
	return task2026{
		ResultType:    resultType,
		TaskID:        t.ID,
		Status:        string(t.Status),
		StatusMessage: statusMessage(t),
		CreatedAt:     timestamp(t.CreatedAt),
		LastUpdatedAt: timestamp(t.UpdatedAt),
		TTL:           t.TTL.Milliseconds(),
		PollInterval:  w.pollInterval.Milliseconds(),
		Meta:          w.meta,
	}
}

// created is the CreateTaskResult: flat, and without the payload of any state.
func (w wire2026) created(t *task.Task) any { return w.task(t, "task") }

// detail is the DetailedTask, "exactly what the underlying request would have
// returned" inlined.
func (w wire2026) detail(t *task.Task) any { return w.detailed(t, "complete") }

// notification is the DetailedTask as notifications/tasks carry it, no result
// of a request.
func (w wire2026) notification(t *task.Task, meta map[string]json.RawMessage) any {
	d := w.detailed(t, "")
	d.Meta = meta
	return d
}

func (w wire2026) detailed(t *task.Task, resultType string) task2026 {
	d := w.task(t, resultType)
	switch t.Status {
	case task.StatusInputRequired:
		d.InputRequests = wordInputs(t.Inputs)
	case task.StatusCompleted:
		d.Result = inlined(t.Outcome.Result)
	case task.StatusFailed:
		d.Error = outcomeError(w, t.Outcome)
		if d.StatusMessage == "" {
			d.StatusMessage = d.Error.Message
		}
	}
	return d
}

// inlined is a tool's result inside a task: complete, and without the metadata
// that names the task around it (2025) or the server behind this one.
func inlined(raw json.RawMessage) json.RawMessage {
	return edit(raw, func(m map[string]json.RawMessage) {
		m["resultType"] = json.RawMessage(`"complete"`)
		withoutMeta(m, task.MetaRelatedTask, metaServerInfo)
	})
}

func (w wire2026) result(raw json.RawMessage) json.RawMessage {
	return withMeta(inlined(raw), metaServerInfo, w.meta[metaServerInfo])
}

// ack is the empty result.
func (w wire2026) ack() any {
	return map[string]any{"resultType": "complete", "_meta": w.meta}
}

// rpcError keeps codes off the wire that this revision forbids to send ("Error
// Codes"): those of earlier revisions, and those reserved for MCP that speak
// of the hop between Longhaul and the tool rather than of this one.
func (w wire2026) rpcError(e *task.RPCError) *task.RPCError {
	switch {
	case e.Code == codeResourceNotFound:
		return &task.RPCError{Code: codeInvalidParams, Message: e.Message, Data: e.Data}
	case e.Code == codeMissingCapability:
		return e // the tool lacks something of the client
	case e.Code >= -32099 && e.Code <= -32000:
		data, err := encode(e)
		if err != nil {
			data = nil
		}
		return &task.RPCError{Code: codeInternal, Message: e.Message, Data: data}
	default:
		return e
	}
}

func (w wire2026) errorStatus(code int64) int {
	switch code {
	case codeMethodNotFound:
		return http.StatusNotFound
	case codeHeaderMismatch, codeMissingCapability, codeUnsupportedVersion:
		return http.StatusBadRequest
	default:
		return http.StatusOK
	}
}
