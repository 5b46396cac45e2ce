package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// This file is about requests that servers of the 2025 protocol make while a
// tool runs: what is put to the caller, and what is refused.
//
// A request belongs to the call that is under way on its session when it
// comes. The transports say no more than that: a tool may well ask on a stream
// of the session's own, and the standard streams of a process are only one.
//
// Elicitation and sampling are only ever asked for by tools. Roots are not:
// many servers ask for them on their own account when a session begins
// (server-everything after 350 ms, the filesystem server at once), and would
// do so for every single call, whether its tool needs roots or not. Nothing in
// such a request tells it from a tool's. So the server is watched on the
// session that lists its tools, where no tool can be the reason. If it asks
// for roots there, every session with a caller's capabilities awaits that
// request, and refuses it, before its first call is sent; what comes after is
// the tool's. It is refused with an error and not with an empty list, because
// a server that keeps the list would not ask again when a tool needs it.
//
// A server that was told roots may keep them as well. They are one caller's, so
// its session serves no other call.

// askedError ends a call whose tool asked for input while it ran, where there
// is nobody to ask.
type askedError struct{ method string }

func (e *askedError) Error() string {
	return "the tool asked for input (" + e.method + ") while it was running, but nobody can be asked"
}

// modernRefusal is in the error with which the SDK refuses a handler's request
// to the client on the protocol of 2026 (2026-07-28, mrtr, "Server
// Requirements": servers ask by ending the round).
const modernRefusal = "cannot be sent while serving a request on protocol version"

// remedy is what to do about a tool that was refused so, "" for any other.
func (s *session) remedy(r task.RoundResult) string {
	refused := r.Error != nil && strings.Contains(r.Error.Message, modernRefusal) ||
		r.IsError && bytes.Contains(r.Result, []byte(modernRefusal))
	if !refused || !s.isStateless() {
		return ""
	}
	return fmt.Sprintf(`the tool asks for input while it runs, which MCP %s does not allow. It can on %s: `+
		`set "longhaul": {"servers": {%q: {"protocol": %q}}} in the configuration, or Server.Protocol in Go`,
		Protocol2026, Protocol2025, s.server.Name, Protocol2025)
}

// unansweredError ends a call because of an error of [Call.Ask].
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return e.err.Error() }
func (e *unansweredError) Unwrap() error { return e.err }

// receiving answers the requests of the server.
func (s *session) receiving(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if !isAsking(method) {
			return next(ctx, method, req)
		}
		a, done, ok := s.tap.unmark(req.GetParams().GetMeta())
		if !ok {
			return nil, internalError("the call this request belongs to is over")
		}
		defer done()
		switch {
		case s.listing && method == task.MethodRoots:
			s.server.habit.learn(true)
			return next(ctx, method, req) // there are none
		case s.listing:
			return nil, internalError("no tool is being called")
		}
		if missing := undeclared(s.caps, method, a.params); missing != nil {
			return nil, missing
		}
		switch {
		case a.during != nil && a.during.ask != nil:
			return s.answer(ctx, method, a)
		case method == task.MethodRoots:
			s.rootsRefused()
			return nil, internalError("the roots of the caller are not available now")
		case a.during != nil:
			refusal := &askedError{method}
			a.during.abort(refusal)
			return nil, internalError("%s", refusal)
		default:
			return nil, internalError("no tool is being called")
		}
	}
}

// answer has a request answered that came during a call.
func (s *session) answer(ctx context.Context, method string, a asked) (mcp.Result, error) {
	e := a.during
	askCtx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	// ctx ends when the server cancels its request, or is gone.
	defer context.AfterFunc(ctx, cancel)()
	if method == task.MethodRoots {
		s.tap.tell(e)
	}
	answer, err := e.ask(askCtx, task.InputRequest{Method: method, Params: ownParams(a.params)})
	var rpc *task.RPCError
	switch {
	case err == nil:
		if !isObject(answer) {
			return nil, internalError("the answer to %s is not a JSON object", method)
		}
		return &rawResult{raw: answer}, nil
	case errors.As(err, &rpc):
		return nil, &jsonrpc.Error{Code: rpc.Code, Message: rpc.Message, Data: rpc.Data}
	case ctx.Err() == nil:
		e.abort(&unansweredError{err})
		// The cancel of the call is to reach the tool before an error it might
		// take for the caller's answer.
		<-e.over
	}
	return nil, internalError("%s was not answered", method)
}

func isObject(raw json.RawMessage) bool {
	return json.Valid(raw) && bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{"))
}

// rawResult is a result as it is.
type rawResult struct {
	mcp.ResultBase
	raw json.RawMessage
}

func (r *rawResult) MarshalJSON() ([]byte, error) { return r.raw, nil }

func (r *rawResult) UnmarshalJSON(data []byte) error {
	r.raw = bytes.Clone(data)
	return nil
}

// ownParams are a request's params without what is only about the session they
// came on: its progress token, the server's task it belongs to, and that the
// server would like a task for it, which it was not offered.
func ownParams(params json.RawMessage) json.RawMessage {
	return editObject(params, func(m *member) (keep bool) {
		switch m.name {
		case "task":
			return false
		case "_meta":
			m.value = editObject(m.value, func(m *member) bool {
				return m.name != "progressToken" && m.name != task.MetaRelatedTask
			})
			return string(m.value) != "{}"
		default:
			return true
		}
	})
}

// editObject rewrites a JSON object, if it is one and edit changes anything.
func editObject(object json.RawMessage, edit func(*member) (keep bool)) json.RawMessage {
	members, err := objectMembers(object)
	if err != nil {
		return object
	}
	var b bytes.Buffer
	changed := false
	b.WriteByte('{')
	for _, m := range members {
		before := m.value
		if !edit(&m) {
			changed = true
			continue
		}
		changed = changed || !bytes.Equal(before, m.value)
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(jsonString(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	if !changed {
		return object
	}
	return b.Bytes()
}

// undeclared is the error for a request the caller's capabilities do not
// cover, nil if they do: "method not found" if it is one of a capability that
// was not declared, "invalid params" if only its mode, or its use of tools, was
// not (2025-11-25, elicitation, sampling and roots, "Error Handling").
func undeclared(caps []byte, method string, params json.RawMessage) error {
	if task.Undeclared(caps, []task.InputRequest{{Method: method, Params: params}}) == nil {
		return nil
	}
	capability := map[string]string{
		task.MethodElicit: "elicitation", task.MethodSample: "sampling", task.MethodRoots: "roots",
	}[method]
	if declares(caps, capability) {
		return &jsonrpc.Error{
			Code: jsonrpc.CodeInvalidParams, Message: "the client has not declared what this " + method + " request needs",
		}
	}
	return &jsonrpc.Error{
		Code: jsonrpc.CodeMethodNotFound, Message: fmt.Sprintf("the client does not have the %s capability", capability),
	}
}

func declares(caps []byte, capability string) bool {
	var c map[string]json.RawMessage
	return json.Unmarshal(caps, &c) == nil && isObject(c[capability])
}

const (
	// habitTime is how long after the beginning of a session a server is
	// watched for a request for roots on its own account.
	habitTime = time.Second
	// rootsTimeout bounds how long such a request is awaited.
	rootsTimeout = 2 * habitTime
)

// habit is what is known of a server's asking for roots on its own account.
type habit struct {
	known chan struct{} // closed when it is known
	mu    sync.Mutex
	asks  bool
	once  sync.Once
}

func newHabit() *habit { return &habit{known: make(chan struct{})} }

func (h *habit) learn(asks bool) {
	h.mu.Lock()
	h.asks = h.asks || asks
	h.mu.Unlock()
	h.once.Do(func() { close(h.known) })
}

func (h *habit) asksForRoots() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asks
}

// awaitHabit waits until a server that asks for roots when a session begins
// has done so, in order not to take that for a tool's request.
func (s *session) awaitHabit(ctx context.Context) {
	if s.calls > 0 || s.isStateless() || !declares(s.caps, "roots") {
		return
	}
	timer := time.NewTimer(rootsTimeout)
	defer timer.Stop()
	select {
	case <-s.server.habit.known:
	case <-timer.C:
	case <-ctx.Done():
	}
	if !s.server.habit.asksForRoots() {
		return
	}
	select {
	case <-s.asked:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.ended:
	}
}
