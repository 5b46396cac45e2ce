package api

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Protocol versions, newest first.
const (
	version20260728 = "2026-07-28"
	version20251125 = "2025-11-25"
	version20250618 = "2025-06-18"
	version20250326 = "2025-03-26"
)

// supportedVersions is what server/discover lists; legacyVersions are those
// that initialize negotiates.
var (
	supportedVersions = []string{version20260728, version20251125, version20250618, version20250326}
	legacyVersions    = supportedVersions[1:]
)

const tasksExtension = "io.modelcontextprotocol/tasks"

// wire words the one neutral task for one generation of the protocol.
type wire interface {
	// created words the reply to a tools/call that became a task.
	created(t *task.Task) any
	// detail words the reply to tasks/get. On 2026 it needs the full outcome.
	detail(t *task.Task) any
	// result words a tool's result as the reply to tools/call.
	result(raw json.RawMessage) json.RawMessage
	// rpcError words a JSON-RPC error a tool call ended with.
	rpcError(e *task.RPCError) *task.RPCError
	// errorStatus is the HTTP status of a JSON-RPC error.
	errorStatus(code int64) int
}

// outcomeReply words an outcome as the reply the underlying tools/call would
// have had: a result, or a JSON-RPC error.
func outcomeReply(w wire, o *task.Outcome) (json.RawMessage, error) {
	if o.Kind == task.OutcomeResult {
		return w.result(o.Result), nil
	}
	return nil, outcomeError(w, o)
}

// outcomeError is the JSON-RPC error of an outcome that is no result.
func outcomeError(w wire, o *task.Outcome) *task.RPCError {
	switch {
	case o.Kind == task.OutcomeError && o.Error != nil:
		return w.rpcError(o.Error)
	case o.Kind == task.OutcomeCancelled:
		return rpcErrorf(codeInternal, "Task was cancelled")
	case o.Kind == task.OutcomeExpired:
		return rpcErrorf(codeInternal, "Task has expired: its time to live ran out before it ended")
	case o.Message != "":
		return rpcErrorf(codeInternal, "%s", o.Message)
	default:
		return rpcErrorf(codeInternal, "The outcome of the task is unknown")
	}
}

// statusMessage explains the status to people: what the task says of itself,
// or how far its running tool has come.
func statusMessage(t *task.Task) string {
	if t.Progress != nil {
		switch t.Status {
		case task.StatusWorking:
			return progressText(t.Progress)
		case task.StatusInputRequired:
			return t.StatusMessage + "\n\nSo far: " + progressText(t.Progress)
		}
	}
	if t.StatusMessage == "" && t.Outcome != nil {
		return t.Outcome.Message
	}
	return t.StatusMessage
}

func progressText(p *task.Progress) string {
	if p.Message != "" {
		return p.Message
	}
	text := strconv.FormatFloat(p.Progress, 'f', -1, 64)
	if p.Total > 0 {
		text += " of " + strconv.FormatFloat(p.Total, 'f', -1, 64)
	}
	return text
}

// timestamp is RFC 3339 in UTC with milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// isErrorResult is the result of a call whose arguments do not fit the tool
// (server/tools, "Error Handling": input validation errors).
func isErrorResult(message string) json.RawMessage {
	out, err := encode(map[string]any{
		"content": []map[string]string{{"type": "text", "text": message}},
		"isError": true,
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return out
}
