package upstream

import (
	"encoding/json"
	"errors"
	"math"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	methodCall      = "tools/call"
	methodList      = "tools/list"
	methodProgress  = "notifications/progress"
	methodCancelled = "notifications/cancelled"
)

// tap reads the JSON-RPC messages of one session as they pass. The connection
// reports each one before the SDK sees it, so when the SDK has returned from a
// request, the tap has seen all that came before its response.
//
// A session makes one request at a time that matters, the exchange.
type tap struct {
	mu       sync.Mutex
	exchange *exchange
}

// exchange is a request under way.
type exchange struct {
	method string
	// token is the progress token; progress takes what is reported under it.
	token    string
	progress func(task.Progress, json.RawMessage)
	last     task.Progress
	// abort, if not nil, ends the exchange for a reason of its own.
	abort func(error)

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
}

// begin starts to watch the next request with e's method.
func (t *tap) begin(e *exchange) {
	e.last.Progress = math.Inf(-1)
	e.cancelSent = make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchange = e
}

// end stops to watch. Afterwards the exchange does not change any more and
// its functions are not called.
func (t *tap) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchange = nil
}

// sending takes note of a message about to be sent.
func (t *tap) sending(msg jsonrpc.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	req, ok := msg.(*jsonrpc.Request)
	switch e := t.exchange; {
	case !ok || e == nil:
	case req.Method == e.method && !e.id.IsValid():
		e.id = req.ID
	case req.Method == methodCancelled:
		e.cancelled = true
	}
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
	case req.Method == methodCancelled:
		select {
		case <-e.cancelSent:
		default:
			close(e.cancelSent)
		}
	}
}

// received takes note of a message from the server.
func (t *tap) received(msg jsonrpc.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.exchange
	if e == nil || e.answered || e.cancelled {
		return
	}
	switch msg := msg.(type) {
	case *jsonrpc.Response:
		if msg.ID != e.id || !e.id.IsValid() {
			return
		}
		e.answered = true
		var rpc *jsonrpc.Error
		if errors.As(msg.Error, &rpc) {
			e.err = &task.RPCError{Code: rpc.Code, Message: rpc.Message, Data: rpc.Data}
		} else {
			e.result = msg.Result
		}
	case *jsonrpc.Request:
		if msg.Method == methodProgress && e.progress != nil {
			e.report(msg.Params)
		}
	}
}

// abort ends the exchange under way.
func (t *tap) abort(reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exchange != nil && t.exchange.abort != nil {
		t.exchange.abort(reason)
	}
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
	checkpoint := p.Meta[task.MetaCheckpoint]
	switch {
	case p.Progress.Progress > e.last.Progress:
		e.last = p.Progress
	case checkpoint == nil:
		return
	}
	e.progress(e.last, checkpoint)
}
