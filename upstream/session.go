package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// connectTimeout bounds how long a server may take to start and to agree on
	// a protocol; a command may have to be downloaded first.
	connectTimeout = time.Minute
	// cancelTimeout bounds how long a cancelled call waits for its cancel
	// notification to be sent. The SDK sends it on its own time, and closing
	// the session at once would lose it.
	cancelTimeout = time.Second
	// closeTimeout bounds how long the SDK may take to close a session.
	closeTimeout = 2 * time.Second
)

// session is one MCP session. It serves one request at a time.
type session struct {
	server *server
	link   link
	tap    tap
	client *mcp.ClientSession
	// ended is closed when the session is over, for whatever reason.
	ended chan struct{}
	// began is when it was dialled. obituary does its work once: what it has to
	// tell is told, or the end is no failure.
	began    time.Time
	obituary sync.Once
	// proved is set when it has answered a call.
	proved atomic.Bool

	// caps are the client capabilities it declares; with every request, if it is
	// stateless, it declares moreCaps, which are these and the tasks extension.
	caps, moreCaps []byte
	// tasks is set if the server takes calls as tasks where it must (2025).
	tasks bool
	// listing is set for the session that only lists tools.
	listing bool
	// asked is closed, by rootsRefused, when the server was refused roots it
	// had asked for on its own account.
	asked        chan struct{}
	rootsRefused func()
	// calls counts the calls made; params are those of the current one.
	calls  int
	params *callParams
	// spoiled is set when a call was cut short: its tool may still run.
	spoiled bool
	// idleSince is when its pool got it back.
	idleSince time.Time
}

type sessionOptions struct {
	caps []byte
	// onListChanged, if not nil, makes this the session that lists tools.
	onListChanged func()
}

// connect opens a session. All errors but that of ctx are a *LostError.
func (s *server) connect(ctx context.Context, o sessionOptions) (*session, error) {
	dialCtx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errSlowConnect)
	defer cancel()
	sess := &session{
		server: s, caps: o.caps, listing: o.onListChanged != nil,
		asked: make(chan struct{}), ended: make(chan struct{}), began: time.Now(),
	}
	sess.moreCaps = sess.caps
	if !sess.listing {
		sess.moreCaps = withTasks(sess.caps)
	}
	sess.rootsRefused = sync.OnceFunc(func() { close(sess.asked) })
	started, err := s.starts.begin(dialCtx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, s.lostError(false, err, err.Error())
	}
	defer started()
	l, err := s.dialer.dial(dialCtx, &sess.tap)
	if err != nil {
		return nil, sess.unborn(err, "")
	}
	sess.link = l
	options := &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	}
	if o.onListChanged != nil {
		options.ToolListChangedHandler = func(context.Context, *mcp.ToolListChangedRequest) { o.onListChanged() }
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "longhaul", Version: s.set.options.Version}, options)
	client.AddSendingMiddleware(sess.sending)
	client.AddReceivingMiddleware(sess.receiving)
	if err := addTaskMethods(client); err != nil {
		l.close()
		return nil, err
	}

	// Not everything Connect waits for heeds its context; the end of the
	// connection ends it in any case.
	stop := context.AfterFunc(dialCtx, l.close)
	hello := &exchange{method: methodInitialize}
	sess.tap.begin(hello)
	sess.client, err = client.Connect(dialCtx, l.transport(), &mcp.ClientSessionOptions{ProtocolVersion: s.Protocol})
	sess.tap.end()
	sess.tasks = hasToolTasks(hello.result)
	if !stop() && err == nil {
		err = dialCtx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			l.close()
			return nil, ctx.Err()
		}
		detail := ""
		if dialCtx.Err() != nil {
			err = context.Cause(dialCtx)
		} else {
			detail = l.explain()
		}
		l.close()
		return nil, sess.unborn(err, detail)
	}
	settled := time.AfterFunc(settledAfter, s.starts.sound)
	go func() { // until close
		_ = sess.client.Wait()
		settled.Stop()
		close(sess.ended)
		sess.died()
	}()
	return sess, nil
}

// unborn is the error of a session that could not be begun.
func (s *session) unborn(err error, detail string) *LostError {
	lost := s.server.lostError(false, err, detail)
	s.server.starts.failed(s.began, lost.what())
	return lost
}

// died takes in that the session ended by itself.
func (s *session) died() {
	s.obituary.Do(func() {
		if time.Since(s.began) < settledAfter && !s.proved.Load() {
			s.server.starts.failed(s.began, s.server.lostError(true, errEnded, s.link.explain()).what())
		}
	})
}

var errSlowConnect = fmt.Errorf("it did not answer within %s (if it knows older protocols only, and does not answer what it does not know, set its protocol to %s)",
	connectTimeout, Protocol2025)

// alive reports whether the session can serve another call.
func (s *session) alive() bool {
	if s.spoiled {
		return false
	}
	select {
	case <-s.link.lost():
		return false
	case <-s.ended:
		return false
	default:
		return true
	}
}

// close ends the session and what is behind it.
func (s *session) close() {
	select {
	case <-s.link.lost():
		s.died()
	default:
		s.obituary.Do(func() {}) // killed
	}
	closed := make(chan struct{})
	go func() {
		// The error is that of a connection nobody needs any more.
		_ = s.client.Close()
		close(closed)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
	s.link.close()
	<-closed
	<-s.ended
}

// callParams are the params of tools/call, with what was answered and asked
// for as it came.
type callParams struct {
	mcp.ParamsBase
	Name           string                     `json:"name"`
	Arguments      json.RawMessage            `json:"arguments"`
	InputResponses map[string]json.RawMessage `json:"inputResponses,omitempty"`
	RequestState   string                     `json:"requestState,omitempty"`
	Task           *taskRequest               `json:"task,omitempty"`
}

// initializeParams are the params of initialize, with verbatim capabilities.
type initializeParams struct {
	mcp.ParamsBase
	ProtocolVersion string              `json:"protocolVersion"`
	ClientInfo      *mcp.Implementation `json:"clientInfo"`
	Capabilities    json.RawMessage     `json:"capabilities"`
}

// sending puts into requests what the SDK's types cannot hold.
func (s *session) sending(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if p := req.GetParams(); p != nil {
			if meta := p.GetMeta(); meta[mcp.MetaKeyClientCapabilities] != nil {
				meta[mcp.MetaKeyClientCapabilities] = json.RawMessage(s.moreCaps)
			}
		}
		client, _ := req.GetSession().(*mcp.ClientSession)
		switch p := req.GetParams().(type) {
		case *mcp.InitializeParams:
			req = &mcp.ClientRequest[*initializeParams]{Session: client, Params: &initializeParams{
				ProtocolVersion: p.ProtocolVersion, ClientInfo: p.ClientInfo, Capabilities: s.caps,
			}}
		case *mcp.CallToolParams:
			s.params.Meta = p.Meta
			req = &mcp.ClientRequest[*callParams]{Session: client, Params: s.params}
		}
		result, err := next(ctx, method, req)
		if list, ok := result.(*mcp.ListToolsResult); ok && err == nil {
			// The SDK would answer the next listing from its cache.
			list.TTLMs = 0
		}
		return result, err
	}
}

// isStateless reports whether the session speaks a protocol in which servers
// make no requests, and every request says who makes it.
func (s *session) isStateless() bool {
	return s.client.InitializeResult().ProtocolVersion >= Protocol2026
}

// call makes one call, or goes on with the one that a attends. A call that was
// cut short spoils the session.
func (s *session) call(ctx context.Context, tool exposedTool, c Call, a *attendance) (task.RoundResult, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if !s.isStateless() {
		if refused := visited(&c); refused != nil {
			return task.RoundResult{Error: refused}, nil
		}
	}
	if c.Ask != nil {
		s.awaitHabit(ctx)
	}
	s.calls++
	asTask := tool.taskOnly && s.tasks
	e := &exchange{
		method: methodCall, token: strconv.Itoa(s.calls), progress: c.OnProgress, last: a.last,
		begins: func(result json.RawMessage) bool {
			_, ok := s.createdTask(result)
			return ok && (asTask || s.isStateless())
		},
		tasked: a.handle != nil,
		abort:  stop, ask: c.Ask, ctx: ctx, completed: c.OnElicitationComplete,
	}
	s.tap.begin(e)
	var (
		round task.RoundResult
		err   error
	)
	if a.handle == nil {
		s.params = newCallParams(tool.upstream, c)
		if asTask {
			s.params.Task = &taskRequest{TTL: ttl(ctx).Milliseconds()}
		}
		err = s.send(ctx, tool, c, e.token)
		if s.tap.isTask(e) {
			s.beginTask(a, e.result, c)
		}
	}
	if a.handle != nil {
		round, err = s.attend(ctx, e, a, c)
	}
	cancelled := ctx.Err() != nil && s.tap.pending(e)
	if cancelled {
		s.awaitCancel(e)
	}
	s.tap.end()
	cause := context.Cause(ctx)
	stop(nil)
	e.asking.Wait()
	a.last = e.last

	if e.answered {
		s.proved.Store(true)
		s.server.starts.sound()
	}
	s.spoiled = cancelled || !e.answered || e.told
	var (
		asked      *askedError
		unanswered *unansweredError
	)
	switch {
	case errors.As(cause, &asked) || errors.Is(cause, errTooLarge):
		s.spoiled = true
		return failure(cause.Error()), nil
	case errors.As(cause, &unanswered) && (!e.answered || e.tasked):
		s.spoiled = true
		return task.RoundResult{}, unanswered.err
	case a.handle != nil:
		s.spoiled = err != nil || e.told
		return s.conclude(round), err
	case cancelled:
		return task.RoundResult{}, cause
	case e.err != nil:
		return s.conclude(errorRound(e.err)), nil
	case e.answered:
		return s.conclude(roundResult(e.result)), nil
	case cause != nil:
		return task.RoundResult{}, cause
	default:
		lost := s.server.lostError(e.sent, err, s.link.explain())
		s.died()
		return task.RoundResult{}, lost
	}
}

// send sends the call and waits until it is answered, or ctx ends.
func (s *session) send(ctx context.Context, tool exposedTool, c Call, token string) error {
	if tool.mirrored && s.isStateless() {
		// The SDK sets the headers that mirror arguments of tools it has listed.
		// Without them the server says what is wrong.
		for t, err := range s.client.Tools(ctx, nil) {
			if err != nil || t.Name == tool.upstream {
				break
			}
		}
	}
	returned := make(chan error, 1)
	go func() { // until the session is closed, if the connection is stuck
		_, err := s.client.CallTool(ctx, &mcp.CallToolParams{Meta: newMeta(token, c), Name: tool.upstream})
		returned <- err
	}()
	select {
	case err := <-returned:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errorRound is the end of a round whose tool returned an error.
func errorRound(e *task.RPCError) task.RoundResult {
	if size := len(e.Message) + len(e.Data); size > maxErrorBytes {
		return failure(tooLarge("error", size, maxErrorBytes))
	}
	return task.RoundResult{Error: e}
}

// conclude is the end of a round whose tool returned r.
func (s *session) conclude(r task.RoundResult) task.RoundResult {
	if remedy := s.remedy(r); remedy != "" {
		return failure(remedy)
	}
	if r.Error != nil {
		if round, ok := s.urlRequired(r.Error); ok {
			return round
		}
	}
	return r
}

// awaitCancel waits until the SDK has sent the cancel notification.
func (s *session) awaitCancel(e *exchange) {
	timer := time.NewTimer(cancelTimeout)
	defer timer.Stop()
	select {
	case <-e.cancelSent:
	case <-s.link.lost():
	case <-timer.C:
	}
}

func newCallParams(name string, c Call) *callParams {
	p := &callParams{Name: name, Arguments: c.Arguments, InputResponses: c.Answers, RequestState: c.RequestState}
	if len(p.Arguments) == 0 {
		p.Arguments = json.RawMessage("{}")
	}
	return p
}

func newMeta(token string, c Call) mcp.Meta {
	meta := mcp.Meta{}
	if c.OnProgress != nil {
		meta["progressToken"] = token
	}
	if c.IdempotencyKey != "" {
		meta[task.MetaIdempotencyKey] = c.IdempotencyKey
	}
	if c.Checkpoint != nil {
		meta[task.MetaCheckpoint] = c.Checkpoint
	}
	return meta
}

// roundResult makes a round's end of a result of tools/call.
func roundResult(raw json.RawMessage) task.RoundResult {
	if len(raw) > task.MaxBytes {
		return failure(tooLarge("result", len(raw), task.MaxBytes))
	}
	// A map, because names are case-sensitive.
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return failure("the tool returned no result")
	}
	var (
		resultType, state string
		isError           bool
		requests          map[string]task.InputRequest
	)
	for name, v := range map[string]any{
		"resultType": &resultType, "requestState": &state, "isError": &isError, "inputRequests": &requests,
	} {
		if field, ok := fields[name]; ok && json.Unmarshal(field, v) != nil {
			return failure(fmt.Sprintf("the tool's result has an invalid %q", name))
		}
	}
	switch {
	case resultType == "input_required" || len(requests) > 0:
		result := task.RoundResult{NeedsInput: true, RequestState: state}
		for _, key := range slices.Sorted(maps.Keys(requests)) {
			result.Inputs = append(result.Inputs, task.InputRequest{
				Key: key, Method: requests[key].Method, Params: requests[key].Params,
			})
		}
		return result
	case resultType != "" && resultType != "complete":
		return failure(fmt.Sprintf("the tool returned a result of the type %q, which was not asked for", resultType))
	default:
		return task.RoundResult{Result: raw, IsError: isError}
	}
}

func failure(message string) task.RoundResult {
	return task.RoundResult{Error: &task.RPCError{Code: task.CodeInternalError, Message: message}}
}

func tooLarge(what string, size, most int) string {
	return fmt.Sprintf("the tool's %s has %d bytes; at most %d can be stored", what, size, most)
}

// everyCapability is declared when tools are listed, because servers may offer
// a tool only to clients that declare what it needs.
var everyCapability = []byte(`{"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}}}`)

// declaredCapabilities is what a server is told of the caller: everything but
// tasks, because the caller takes its tasks from Longhaul. What tasks Longhaul
// takes from the server is a matter of their own.
func declaredCapabilities(caps json.RawMessage) ([]byte, error) {
	if len(caps) == 0 {
		return []byte("{}"), nil
	}
	var c, extensions map[string]json.RawMessage
	if err := json.Unmarshal(caps, &c); err != nil || c == nil {
		return nil, errors.New("client capabilities are not a JSON object")
	}
	delete(c, "tasks")
	if json.Unmarshal(c["extensions"], &extensions) == nil {
		if _, ok := extensions[tasksExtension]; ok {
			delete(extensions, tasksExtension)
			c["extensions"], _ = json.Marshal(extensions)
		}
	}
	return json.Marshal(c)
}

// list lists the server's tools.
func (s *session) list(ctx context.Context) ([]listedTool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errSlowConnect)
	defer cancel()
	var tools []listedTool
	seen := map[string]bool{}
	for cursor := ""; ; {
		e := &exchange{method: methodList}
		s.tap.begin(e)
		_, err := s.client.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
		s.tap.end()
		switch {
		case e.err != nil && e.err.Code == jsonrpc.CodeMethodNotFound:
			return nil, nil // a server without tools
		case e.err != nil:
			return nil, s.server.lostError(true, fmt.Errorf("%s: %w", methodList, e.err), "")
		case !e.answered:
			return nil, s.server.lostError(e.sent, err, s.link.explain())
		}
		var page struct {
			Tools      []json.RawMessage `json:"tools"`
			NextCursor string            `json:"nextCursor"`
		}
		if err := json.Unmarshal(e.result, &page); err != nil {
			return nil, s.server.lostError(true, fmt.Errorf("%s: %w", methodList, err), "")
		}
		for _, raw := range page.Tools {
			tool, err := parseTool(raw)
			if err != nil {
				s.server.set.warn("a tool is left out", s.server.Name, tool.name, err.Error())
				continue
			}
			tools = append(tools, tool)
		}
		if seen[page.NextCursor] {
			return nil, s.server.lostError(true, errors.New(methodList+": the server repeats a cursor"), "")
		}
		if cursor = page.NextCursor; cursor == "" {
			return tools, nil
		}
		seen[cursor] = true
	}
}
