package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
)

type object = map[string]any

// The two wires.
const (
	wire2025 = "2025-11-25"
	wire2026 = "2026-07-28"
)

var wires = []string{wire2025, wire2026}

const (
	codeInvalidParams = -32602
	codeInternal      = -32603

	metaKey         = "io.longhaul/idempotency-key"
	tasksCapability = "io.modelcontextprotocol/tasks"
)

// client speaks one of the wires to any api. Each request has a connection of
// its own, so nothing but the client's session goes with it.
type client struct {
	w     *world
	wire  string
	token string
	// at is the api that gets the next request.
	at func() *cluster.Process
	// extension says that a client of 2026 knows tasks.
	extension bool

	session string
	lastID  *atomic.Int64
}

var transport = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// connect makes a client of the first api, with the tasks of either wire.
func (w *world) connect(wire string) *client {
	w.t.Helper()
	return w.connectAs(wire, "")
}

// connectAs is connect with a bearer token.
func (w *world) connectAs(wire, token string) *client {
	w.t.Helper()
	c := &client{w: w, wire: wire, token: token, extension: true, lastID: new(atomic.Int64)}
	c = c.on(w.APIs[0])
	if wire == wire2026 {
		return c
	}
	x, err := c.send(w.ctx, "initialize", object{
		"protocolVersion": wire2025,
		"capabilities":    object{"elicitation": object{}},
		"clientInfo":      object{"name": "faults", "version": "1"},
	}, nil)
	w.must(err)
	_, err = x.response()
	w.must(err)
	c.session = x.header.Get("Mcp-Session-Id")
	return c
}

// on is the same client with another api.
func (c *client) on(p *cluster.Process) *client {
	d := *c
	d.at = func() *cluster.Process { return p }
	return &d
}

// of is the same client in a subtest.
func (c *client) of(w *world) *client {
	d := *c
	d.w = w
	return &d
}

// moving is the same client, moved to another api at every request.
func (c *client) moving() *client {
	d := *c
	var n atomic.Int64
	d.at = func() *cluster.Process { return c.w.APIs[int(n.Add(1))%len(c.w.APIs)] }
	return &d
}

// plain is the same client without tasks: its calls are held.
func (c *client) plain() *client {
	d := *c
	d.extension = false
	return &d
}

// message is one of JSON-RPC.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d %s", e.Code, e.Message) }

// exchange is a request and what comes for it.
type exchange struct {
	header http.Header
	status string
	body   io.ReadCloser
	lines  *bufio.Scanner
	events bool
}

// send sends a request. An error is that of the connection alone.
func (c *client) send(ctx context.Context, method string, params, meta object) (*exchange, error) {
	header := http.Header{}
	sent := object{}
	for k, v := range params {
		sent[k] = v
	}
	all := object{}
	for k, v := range meta {
		all[k] = v
	}
	if c.wire == wire2026 {
		capabilities := object{"elicitation": object{}}
		if c.extension {
			capabilities["extensions"] = object{tasksCapability: object{}}
		}
		all["io.modelcontextprotocol/protocolVersion"] = wire2026
		all["io.modelcontextprotocol/clientInfo"] = object{"name": "faults", "version": "1"}
		all["io.modelcontextprotocol/clientCapabilities"] = capabilities
		header.Set("Mcp-Method", method)
		for _, name := range []string{"name", "taskId"} {
			if value, ok := params[name].(string); ok {
				header.Set("Mcp-Name", value)
			}
		}
	}
	if len(all) > 0 {
		sent["_meta"] = all
	}
	resp, err := c.post(ctx, object{"jsonrpc": "2.0", "id": c.lastID.Add(1), "method": method, "params": sent}, header)
	if err != nil {
		return nil, err
	}
	return exchangeOf(resp), nil
}

func exchangeOf(resp *http.Response) *exchange {
	x := &exchange{header: resp.Header, status: resp.Status, body: resp.Body, lines: bufio.NewScanner(resp.Body)}
	x.lines.Buffer(nil, 4<<20)
	x.events = strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	return x
}

func (c *client) post(ctx context.Context, m object, header http.Header) (*http.Response, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	req, err := c.newRequest(ctx, http.MethodPost, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	return transport.Do(req)
}

func (c *client) newRequest(ctx context.Context, method string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.at().URL(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Mcp-Protocol-Version", c.wire)
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// listen opens the GET stream of the session.
func (c *client) listen(ctx context.Context) (*exchange, error) {
	req, err := c.newRequest(ctx, http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := transport.Do(req)
	if err != nil {
		return nil, err
	}
	x := exchangeOf(resp)
	if !x.events {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("GET: %s", resp.Status)
	}
	return x, nil
}

// subscribe asks to be told of a task (2026), and returns when that is promised.
func (c *client) subscribe(id string) *exchange {
	c.w.t.Helper()
	x, err := c.send(c.w.ctx, "subscriptions/listen", object{"notifications": object{"taskIds": []string{id}}}, nil)
	c.w.must(err)
	m, err := x.next()
	c.w.must(err)
	if m.Method != "notifications/subscriptions/acknowledged" || !bytes.Contains(m.Params, []byte(id)) {
		c.w.t.Fatalf("the first message of a subscription is %s %s", m.Method, m.Params)
	}
	return x
}

// awaitStatus reads a subscription up to where its task has a status.
func (x *exchange) awaitStatus(w *world, status string) {
	w.t.Helper()
	for {
		m, err := x.next()
		w.must(err)
		var s state
		w.must(json.Unmarshal(m.Params, &s))
		switch {
		case m.Method == "notifications/tasks" && s.Status == status:
			return
		case m.Method == "notifications/tasks" && s.ended():
			w.t.Fatalf("the task is %s, and never became %s", m.Params, status)
		}
	}
}

// next is the next message, or why there is none.
func (x *exchange) next() (m message, err error) {
	for x.lines.Scan() {
		data, ok := bytes.CutPrefix(x.lines.Bytes(), []byte("data:"))
		if x.events && !ok || len(bytes.TrimSpace(data)) == 0 {
			continue
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return m, fmt.Errorf("%s: %s: %w", x.status, data, err)
		}
		return m, nil
	}
	return m, errors.Join(x.lines.Err(), errors.New("the connection ended without a response"))
}

// asked is the next request of the server.
func (x *exchange) asked() (message, error) {
	for {
		m, err := x.next()
		switch {
		case err != nil:
			return m, err
		case m.Method != "" && m.ID != nil:
			return m, nil
		case m.Method == "":
			return m, fmt.Errorf("a response came instead of a request: %s %w", m.Result, m.Error)
		}
	}
}

// response is the result, which ends the exchange. That the server asks for
// something is an error.
func (x *exchange) response() (json.RawMessage, error) {
	defer x.body.Close()
	for {
		m, err := x.next()
		switch {
		case err != nil:
			return nil, err
		case m.Method != "" && m.ID != nil:
			return nil, fmt.Errorf("the server asks %s %s", m.Method, m.Params)
		case m.Method != "": // a notification
		case m.Error != nil:
			return nil, m.Error
		default:
			return m.Result, nil
		}
	}
}

// do sends a request and returns its result.
func (c *client) do(method string, params, meta object) (json.RawMessage, error) {
	x, err := c.send(c.w.ctx, method, params, meta)
	if err != nil {
		return nil, err
	}
	return x.response()
}

// respond posts the answer to a request of the server (2025).
func (c *client) respond(m message, value string) error {
	return c.notify(object{"jsonrpc": "2.0", "id": m.ID, "result": accepted(value)})
}

// cancelCall tells of a request that nobody waits for any more (2025).
func (c *client) cancelCall(id int64) error {
	return c.notify(object{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": object{"requestId": id}})
}

// notify posts what has no response.
func (c *client) notify(m object) error {
	resp, err := c.post(c.w.ctx, m, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted {
		return nil
	}
	if _, err := exchangeOf(resp).response(); err != nil {
		return err
	}
	return errors.New(resp.Status)
}

func accepted(value string) object {
	return object{"action": "accept", "content": object{"value": value}}
}

// callMeta is the _meta of a call with an idempotency key, or without.
func callMeta(key string) object {
	if key == "" {
		return nil
	}
	return object{metaKey: key}
}

// handle is the reply to a call: that of a task or, on 2026, its result if it
// has ended.
type handle struct {
	id   string
	done *done
}

// done is what the tools of the cluster return.
type done struct {
	Label   string
	Answers []string
}

func doneOf(raw json.RawMessage) (*done, error) {
	var r struct {
		StructuredContent *done
		IsError           bool
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	if r.StructuredContent == nil || r.IsError {
		return nil, fmt.Errorf("no good result: %s", raw)
	}
	return r.StructuredContent, nil
}

// create calls a tool as a task.
func (c *client) create(key, tool string, arguments object) (handle, error) {
	params := object{"name": tool, "arguments": arguments}
	if c.wire == wire2025 {
		params["task"] = object{}
	}
	raw, err := c.do("tools/call", params, callMeta(key))
	if err != nil {
		return handle{}, err
	}
	var r struct {
		ResultType, TaskID string
		Task               struct{ TaskID string }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return handle{}, err
	}
	if id := r.TaskID + r.Task.TaskID; id != "" {
		return handle{id: id}, nil
	}
	d, err := doneOf(raw)
	return handle{done: d}, err
}

// created is create where nothing is in the way, of a task that is not over in
// a moment.
func (c *client) created(tool string, arguments object) (id string) {
	c.w.t.Helper()
	h, err := c.create("", tool, arguments)
	c.w.must(err)
	if h.id == "" {
		c.w.t.Fatalf("%s did not become a task: %+v", tool, h.done)
	}
	return h.id
}

// call calls a tool without a task.
func (c *client) call(ctx context.Context, key, tool string, arguments object) (*exchange, error) {
	return c.plain().send(ctx, "tools/call", object{"name": tool, "arguments": arguments}, callMeta(key))
}

// state is what tasks/get tells.
type state struct {
	Status        string
	StatusMessage string
	InputRequests map[string]struct{ Params struct{ Message string } }
	Result        json.RawMessage
	Error         *rpcError
}

func (s state) ended() bool {
	return slices.Contains([]string{"completed", "failed", "cancelled"}, s.Status)
}

func (c *client) get(id string) (s state, err error) {
	raw, err := c.do("tasks/get", object{"taskId": id}, nil)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// await waits until a task is as wanted, through all trouble on the way.
func (c *client) await(id, what string, is func(state) bool) (last state) {
	c.w.t.Helper()
	var err error
	c.w.poll(fmt.Sprintf("task %s, %s", id, what), func() bool {
		last, err = c.get(id)
		var e *rpcError
		switch {
		case errors.As(err, &e) && e.Code != codeInternal:
			c.w.t.Fatalf("waiting for a task that %s: %v", what, err)
		case err == nil && !is(last) && last.ended():
			c.w.t.Fatalf("waiting for a task that %s, but it is %+v", what, last)
		}
		return err == nil && is(last)
	})
	return last
}

// awaitAsks waits until a task asks something.
func (c *client) awaitAsks(id string) {
	c.w.t.Helper()
	c.await(id, "asks", func(s state) bool { return s.Status == "input_required" })
}

// answer answers the one thing that a task asks, when it does.
func (c *client) answer(id, value string) error {
	if c.wire == wire2025 {
		x, err := c.send(c.w.ctx, "tasks/result", object{"taskId": id}, nil)
		if err != nil {
			return err
		}
		defer x.body.Close()
		m, err := x.asked()
		if err != nil {
			return err
		}
		return c.respond(m, value)
	}
	key, err := c.asks(id)
	if err != nil {
		return err
	}
	return c.update(id, key, value)
}

// asks is the key of the one thing that a task asks (2026).
func (c *client) asks(id string) (key string, err error) {
	s, err := c.get(id)
	if err == nil && len(s.InputRequests) != 1 {
		err = fmt.Errorf("task %s is %s with %d requests outstanding", id, s.Status, len(s.InputRequests))
	}
	for key = range s.InputRequests {
	}
	return key, err
}

// update answers under a key (2026).
func (c *client) update(id, key, value string) error {
	_, err := c.do("tasks/update", object{"taskId": id, "inputResponses": object{key: accepted(value)}}, nil)
	return err
}

// result is that of a task, for which it waits. An error of the task is one.
// That the task asks something is one, too.
func (c *client) result(id string) (*done, error) {
	if c.wire == wire2025 {
		raw, err := c.do("tasks/result", object{"taskId": id}, nil)
		if err != nil {
			return nil, err
		}
		return doneOf(raw)
	}
	s := c.await(id, "has ended", func(s state) bool { return s.ended() || s.Status == "input_required" })
	switch {
	case s.Error != nil:
		return nil, s.Error
	case s.Status != "completed":
		return nil, fmt.Errorf("the task is %+v", s)
	}
	return doneOf(s.Result)
}

// wantResult waits for the result of a task.
func (c *client) wantResult(id, label string, answers ...string) {
	c.w.t.Helper()
	d, err := c.result(id)
	if err != nil {
		c.w.t.Errorf("%s: the result of task %s: %v", c.wire, id, err)
		return
	}
	c.w.wantDone(d, label, answers...)
}

func (w *world) wantDone(d *done, label string, answers ...string) {
	w.t.Helper()
	if d.Label != label || !slices.Equal(d.Answers, answers) {
		w.t.Errorf("the result is %+v, not that of %s with the answers %q", *d, label, answers)
	}
}

// wantUnknown waits for a task that fails because nobody knows what happened.
func (c *client) wantUnknown(id string) {
	c.w.t.Helper()
	s := c.await(id, "has failed", func(s state) bool { return s.Status == "failed" })
	if !strings.Contains(s.StatusMessage, "outcome is unknown") {
		c.w.t.Errorf("the task says %q", s.StatusMessage)
	}
	_, err := c.result(id)
	wantError(c.w.t, err, codeInternal, "outcome is unknown")
}

// listed are the ids of all tasks that tasks/list has (2025).
func (c *client) listed() ([]string, error) {
	var ids []string
	params := object{}
	for {
		raw, err := c.do("tasks/list", params, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Tasks      []struct{ TaskID string }
			NextCursor string
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, err
		}
		for _, t := range page.Tasks {
			ids = append(ids, t.TaskID)
		}
		if page.NextCursor == "" {
			return ids, nil
		}
		params = object{"cursor": page.NextCursor}
	}
}

// awaitListed waits until tasks/list has a task.
func (c *client) awaitListed(id string) {
	c.w.t.Helper()
	c.w.poll("task "+id+" is listed", func() bool {
		ids, err := c.listed()
		return err == nil && slices.Contains(ids, id)
	})
}

func wantError(t interface {
	Helper()
	Errorf(string, ...any)
}, err error, code int, says string) {
	t.Helper()
	var e *rpcError
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(strings.ToLower(e.Message), strings.ToLower(says)) {
		t.Errorf("the error is %v, not %d saying %q", err, code, says)
	}
}
