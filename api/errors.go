package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/longhaul-mcp/longhaul/task"
)

// JSON-RPC error codes, and those MCP 2026-07-28 adds ("Error Codes").
const (
	codeParse              = -32700
	codeInvalidRequest     = -32600
	codeMethodNotFound     = -32601
	codeInvalidParams      = -32602
	codeInternal           = -32603
	codeHeaderMismatch     = -32020
	codeMissingCapability  = -32021
	codeUnsupportedVersion = -32022

	// Codes of earlier revisions, which 2026-07-28 forbids to send.
	codeResourceNotFound = -32002
	codeURLElicitation   = -32042
)

// refusal is a request turned away with a JSON-RPC error under an HTTP status
// of its own. Errors that are only a JSON-RPC error are *task.RPCError, and
// the wire knows their status.
type refusal struct {
	status int
	rpc    task.RPCError
}

func (r *refusal) Error() string { return r.rpc.Message }

func refuse(status int, code int64, format string, args ...any) error {
	return &refusal{status: status, rpc: task.RPCError{Code: code, Message: fmt.Sprintf(format, args...)}}
}

func rpcErrorf(code int64, format string, args ...any) *task.RPCError {
	return &task.RPCError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalidParams(format string, args ...any) *task.RPCError {
	return rpcErrorf(codeInvalidParams, format, args...)
}

// missingTasksExtension is what a client hears that did not declare the tasks
// extension where it is needed (ext-tasks, "Capability Negotiation").
func missingTasksExtension() error {
	return &task.RPCError{
		Code:    codeMissingCapability,
		Message: "Missing required client capability: the " + tasksExtension + " extension",
		Data:    json.RawMessage(`{"requiredCapabilities":{"extensions":{"` + tasksExtension + `":{}}}}`),
	}
}

// errNoReply ends a request without any response: the client cancelled it.
var errNoReply = errors.New("request cancelled by the client")

// errClosing ends the wait for a task because the server shuts down,
// errClosingCall that for a held call, whose caller had better not repeat it.
var (
	errClosing     = rpcErrorf(codeInternal, "The server is restarting. Nothing is lost: ask again.")
	errClosingCall = rpcErrorf(codeInternal, "The server is restarting. The call goes on, but its result cannot be delivered any more.")
)

// errMaybeStarted is [task.ErrUnavailable] for a call without an idempotency
// key: that no reply came does not say that nothing was started, and to try
// again may be to start it twice.
var errMaybeStarted = rpcErrorf(codeInternal, "The task engine is unavailable. "+
	"The call may have been started all the same: without an idempotency key, to try again may run the tool twice.")

// serviceErrors translates the vocabulary of [task.Service].
//
// "Not found" and "expired" are invalid params on both wires ("Protocol
// Errors"); an engine that is away never is, for the task may well exist.
var serviceErrors = []struct {
	err     error
	code    int64
	message string
}{
	{task.ErrNotFound, codeInvalidParams, "Failed to retrieve task: Task not found"},
	{task.ErrExpired, codeInvalidParams, "Failed to retrieve task: Task has expired"},
	{task.ErrTerminal, codeInvalidParams, "Task is already in a terminal status"},
	{task.ErrRunning, codeInvalidParams, "Task is still running"},
	{task.ErrKeyReused, codeInvalidParams, "Idempotency key was already used for a different call"},
	{task.ErrTooLarge, codeInvalidParams, "Arguments or responses are too large to be stored"},
	{task.ErrClaimMissing, codeInternal, "The task has ended, but its result cannot be read: what was stored is not in this store; api and worker must share it"},
	{task.ErrClaimCorrupt, codeInternal, "The task has ended, but its result cannot be read: what was stored has been changed in the store"},
	{task.ErrBadCursor, codeInvalidParams, "Invalid cursor"},
	{task.ErrUnavailable, codeInternal, "The task engine is unavailable. Nothing is lost: try again."},
}

// rpcError is the JSON-RPC error for err; a bare -32603 for what nobody foresaw.
func rpcError(err error) *task.RPCError {
	if r, ok := errors.AsType[*refusal](err); ok {
		return &r.rpc
	}
	if e, ok := errors.AsType[*task.RPCError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*task.SizeError](err); ok {
		return invalidParams("Invalid params: %v", e)
	}
	for _, s := range serviceErrors {
		if errors.Is(err, s.err) {
			return rpcErrorf(s.code, "%s", s.message)
		}
	}
	return rpcErrorf(codeInternal, "Internal error")
}

func foreseen(err error) bool {
	if _, ok := errors.AsType[*refusal](err); ok {
		return true
	}
	if _, ok := errors.AsType[*task.RPCError](err); ok {
		return true
	}
	for _, s := range serviceErrors {
		if errors.Is(err, s.err) {
			return true
		}
	}
	return false
}

// httpStatus is the status under which err travels on w, or where w is nil
// before it is known which wire that is.
func httpStatus(err error, w wire) int {
	rpc := rpcError(err)
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	switch {
	case w != nil:
		return w.errorStatus(rpc.Code)
	case errors.Is(err, task.ErrUnavailable):
		return http.StatusServiceUnavailable
	case rpc.Code == codeInternal:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// logUntold logs err if its JSON-RPC error does not say all there is to say.
func (a *API) logUntold(err error, args ...any) {
	switch {
	case errors.Is(err, task.ErrUnavailable):
		a.log.Warn("the engine is unavailable", append(args, "error", err)...)
	case errors.Is(err, task.ErrClaimMissing), errors.Is(err, task.ErrClaimCorrupt):
		a.log.Error("a result is lost", append(args, "error", err)...)
	case !foreseen(err) && !errors.Is(err, context.Canceled):
		a.log.Error("request failed", append(args, "error", err)...)
	}
}
