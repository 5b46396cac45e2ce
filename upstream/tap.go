package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	methodInitialize = "initialize"

	methodCall      = "tools/call"
	methodList      = "tools/list"
	methodProgress  = "notifications/progress"
	methodCancelled = "notifications/cancelled"
	methodCompleted = "notifications/elicitation/complete"
)

// tap reads the JSON-RPC messages of one session as they pass. The connection
// reports each one before the SDK sees it, so when the SDK has returned from a
// request, the tap has seen all that came before its response.
//
// A session makes one request at a time that matters, the exchange.
//
// The SDK decodes the params of the requests a server makes into structs of
// its own before anybody else sees them. So the tap takes them out of these
// requests, and leaves a marker by which they can be had back.
type tap struct {
	mu       sync.Mutex
	exchange *exchange
	// aside are requests made during an exchange, by their methods.
	aside map[string]*exchange
	// asked are the requests that wait for the SDK, by their markers.
	asked map[string]asked
	// marked counts the markers.
	marked int
}

// asked is a request that the server made.
type asked struct {
	// params are as they came; nil if there are none.
	params json.RawMessage
	// during is the call that was under way when it came, if any.
	during *exchange
}

// marker is the key in the `_meta` of a request whose params the tap has.
const marker = "io.longhaul/params"

// exchange is a request under way.
type exchange struct {
	method string
	// token is the progress token; progress takes what is reported under it.
	token    string
	progress func(task.Progress, json.RawMessage)
	last     task.Progress
	// reports is set when the server has reported progress.
	reports bool
	// begins, if not nil, tells whether a result begins a task of the server's;
	// then the exchange goes on, and tasked is set.
	begins func(result json.RawMessage) bool
	tasked bool
	// abort, if not nil, ends the exchange for a reason of its own.
	abort func(error)
	// ask, if not nil, answers requests of the server; see [Call.Ask]. Its
	// context is derived from ctx. completed takes in that an elicitation is
	// complete.
	ask       func(ctx context.Context, in task.InputRequest) (json.RawMessage, error)
	ctx       context.Context
	completed func(elicitationID string)
	// asking counts the calls of ask; over is closed when there will be no more.
	asking sync.WaitGroup
	over   chan struct{}

	// The following are guarded by the tap's mu.

	id jsonrpc.ID
	// sent reports whether the request may have reached the server.
	sent bool
	// answered is set by the response: either result or err.
	answered bool
	result   json.RawMessage
	err      *task.RPCError
	// cancelled is set when the cancel notification is about to be sent: what
	// the server answers to that is ignored (2025-11-25, cancellation, "Behavior
	// Requirements"). cancelSent is closed when it has been sent.
	cancelled  bool
	cancelSent chan struct{}
	// told is set when the server was told the caller's roots.
	told bool
}

// begin starts to watch the next request with e's method.
func (t *tap) begin(e *exchange) {
	e.cancelSent = make(chan struct{})
	e.over = make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchange = e
}

// end stops to watch. Afterwards the exchange does not change any more and
// its functions are not called.
func (t *tap) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.exchange.over)
	t.exchange = nil
}

// beginAside starts to watch the next request with e's method, beside the
// exchange.
func (t *tap) beginAside(e *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.aside == nil {
		t.aside = map[string]*exchange{}
	}
	t.aside[e.method] = e
}

// endAside stops to watch. Afterwards e does not change any more.
func (t *tap) endAside(e *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.aside[e.method] == e {
		delete(t.aside, e.method)
	}
}

// sending takes note of a message about to be sent.
func (t *tap) sending(msg jsonrpc.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	req, ok := msg.(*jsonrpc.Request)
	if !ok {
		return
	}
	if e := t.aside[req.Method]; e != nil && !e.id.IsValid() {
		e.id = req.ID
	}
	switch e := t.exchange; {
	case e == nil:
	case req.Method == e.method && !e.id.IsValid():
		e.id = req.ID
	case cancels(req, e.id):
		e.cancelled = true
	}
}

// cancels reports whether a message is the cancel notification of a request.
func cancels(msg *jsonrpc.Request, id jsonrpc.ID) bool {
	if msg.Method != methodCancelled || !id.IsValid() {
		return false
	}
	var p struct {
		ID any `json:"requestId"`
	}
	if json.Unmarshal(msg.Params, &p) != nil {
		return false
	}
	cancelled, err := jsonrpc.MakeID(p.ID)
	return err == nil && cancelled == id
}

// sent takes note that a message was sent, or may have been.
func (t *tap) sent(msg jsonrpc.Message) { t.setSent(msg, true) }

// refused takes note that a message which had been sent was turned away before
// it took any effect.
func (t *tap) refused(msg jsonrpc.Message) { t.setSent(msg, false) }

func (t *tap) setSent(msg jsonrpc.Message, sent bool) {
	req, ok := msg.(*jsonrpc.Request)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := t.exchange; {
	case e == nil || !e.id.IsValid():
	case req.ID == e.id:
		e.sent = sent
	case cancels(req, e.id):
		select {
		case <-e.cancelSent:
		default:
			close(e.cancelSent)
		}
	}
}

// received takes note of a message from the server. It reports whether it has
// changed the message, which is then to be handed on as it is now.
func (t *tap) received(msg jsonrpc.Message) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.exchange
	if e != nil && !e.running() {
		e = nil
	}
	switch msg := msg.(type) {
	case *jsonrpc.Response:
		for _, aside := range t.aside {
			aside.answer(msg)
		}
		if e != nil {
			e.answer(msg)
		}
	case *jsonrpc.Request:
		switch {
		case msg.IsCall() && isAsking(msg.Method):
			t.mark(msg, e)
			return true
		case e == nil:
		case msg.Method == methodProgress && e.progress != nil:
			e.report(msg.Params)
		case msg.Method == methodCompleted && e.completed != nil:
			var p struct {
				ID string `json:"elicitationId"`
			}
			if json.Unmarshal(msg.Params, &p) == nil && p.ID != "" {
				e.completed(p.ID)
			}
		}
	}
	return false
}

// isAsking reports whether a method asks the client for something.
func isAsking(method string) bool {
	return method == task.MethodElicit || method == task.MethodSample || method == task.MethodRoots
}

// running reports whether the request was sent and awaits its response, or what
// it began goes on.
func (e *exchange) running() bool {
	return !e.cancelled && (e.tasked || e.id.IsValid() && !e.answered)
}

// answer takes in a response, if it is that of e.
func (e *exchange) answer(msg *jsonrpc.Response) {
	if msg.ID != e.id || !e.id.IsValid() || e.answered {
		return
	}
	e.answered = true
	var rpc *jsonrpc.Error
	if errors.As(msg.Error, &rpc) {
		e.err = &task.RPCError{Code: rpc.Code, Message: rpc.Message, Data: rpc.Data}
		return
	}
	e.result = msg.Result
	e.tasked = e.begins != nil && e.begins(e.result)
}

// mark takes the params out of a request that came during e.
func (t *tap) mark(req *jsonrpc.Request, e *exchange) {
	if e != nil && e.method != methodCall {
		e = nil
	}
	t.marked++
	name := strconv.Itoa(t.marked)
	if t.asked == nil {
		t.asked = map[string]asked{}
	}
	t.asked[name] = asked{params: req.Params, during: e}
	req.Params = json.RawMessage(`{"_meta":{"` + marker + `":"` + name + `"}}`)
}

// unmark returns a request as it came, by the `_meta` it is marked with. It
// reports false if there is none, or if the call it came during is over. What
// it returns true for counts as asking until done is called.
func (t *tap) unmark(meta map[string]any) (a asked, done func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, _ := meta[marker].(string)
	a, ok = t.asked[name]
	delete(t.asked, name)
	switch {
	case !ok || a.during == nil:
		return a, func() {}, ok
	case a.during != t.exchange:
		return a, nil, false
	default:
		a.during.asking.Add(1)
		return a, a.during.asking.Done, true
	}
}

// tell notes that the server is told the caller's roots during e.
func (t *tap) tell(e *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.told = true
}

// abort ends the exchange under way.
func (t *tap) abort(reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exchange != nil && t.exchange.abort != nil {
		t.exchange.abort(reason)
	}
}

// isTask reports whether e goes on as a task of the server's.
func (t *tap) isTask(e *exchange) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.tasked
}

// pending reports whether e was sent and has no response.
func (t *tap) pending(e *exchange) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.sent && !e.answered
}

// report passes on a progress notification (2026-07-28, progress: the value
// MUST increase with each notification).
func (e *exchange) report(params json.RawMessage) {
	var p struct {
		Token string `json:"progressToken"`
		task.Progress
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	if json.Unmarshal(params, &p) != nil || p.Token != e.token {
		return
	}
	e.reports = true
	checkpoint := p.Meta[task.MetaCheckpoint]
	switch {
	case p.Progress.Progress > e.last.Progress:
		e.last = p.Progress
	case checkpoint == nil:
		return
	}
	e.progress(e.last, checkpoint)
}
