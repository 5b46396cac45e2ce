package conformance_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// client is a plain MCP client of one generation that knows nothing but tasks.
// Its methods fail the test when the server does not answer as it should.
type client interface {
	// create calls a tool and returns the id of the task.
	create(tool string, arguments object) string
	// createOnce is create with an idempotency key.
	createOnce(key, tool string, arguments object) (string, error)
	get(id string) taskState
	// answer answers the outstanding request with this message, whose content
	// is the value of one property.
	answer(id, message, property string, value any)
	// cancel returns when the task is cancelled.
	cancel(id string)
	// text is the text of the task's result, for which it waits.
	text(id string) string
}

type object = map[string]any

// idempotencyKey is the member of _meta that makes a call the same as the
// first one with it.
const idempotencyKey = "io.longhaul/idempotency-key"

// taskState is what both generations tell of a task.
type taskState struct {
	Status        string
	StatusMessage string
}

// generations are the clients of both, by name.
var generations = []struct {
	name    string
	connect func(t *testing.T, url string) client
}{
	{"2025", connect2025},
	{"2026", connect2026},
}

// patience bounds every wait of a test, so that a server that hangs is stopped
// and its log seen.
const patience = time.Minute

// await polls a task until it is as wanted.
func await(t *testing.T, c client, id string, what string, is func(taskState) bool) {
	t.Helper()
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s := c.get(id)
		if is(s) {
			return
		}
		if slices.Contains([]string{"completed", "failed", "cancelled"}, s.Status) {
			t.Fatalf("waiting for %s, but the task is %+v", what, s)
		}
		select {
		case <-tick.C:
		case <-tooLong.C:
			t.Fatalf("waiting for %s: the task is still %+v", what, s)
		}
	}
}

func awaitInput(t *testing.T, c client, id string) {
	t.Helper()
	await(t, c, id, "input_required", func(s taskState) bool { return s.Status == "input_required" })
}

// rpc is a JSON-RPC message.
type rpc struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      any             `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d %s", e.Code, e.Message) }

// httpClient makes a connection for each request: those of a killed server
// cannot be told from good ones.
var httpClient = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// poster posts JSON-RPC messages to one endpoint.
type poster struct {
	t      *testing.T
	url    string
	header http.Header
	lastID atomic.Int64
}

func (p *poster) post(m rpc, header http.Header) (*http.Response, error) {
	m.JSONRPC = "2.0"
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, p.header)
	maps.Copy(r.Header, header)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	return httpClient.Do(r)
}

// call sends a request and returns the result. Requests of the server that
// come before it on the same stream go to asked, which ends the call by
// returning false.
func (p *poster) call(method string, params object, header http.Header, asked func(rpc) bool) json.RawMessage {
	p.t.Helper()
	result, err := p.try(method, params, header, asked)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	return result
}

// try is call for a server that may be killed meanwhile.
func (p *poster) try(method string, params object, header http.Header, asked func(rpc) bool) (json.RawMessage, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	resp, err := p.post(rpc{ID: p.lastID.Add(1), Method: method, Params: raw}, header)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for m, err := range messages(resp) {
		switch {
		case err != nil:
			return nil, err
		case m.Method != "" && m.ID == nil: // a notification
		case m.Method != "":
			if asked == nil {
				return nil, fmt.Errorf("unexpected request %s %s", m.Method, m.Params)
			}
			if !asked(m) {
				return nil, nil
			}
		case m.Error != nil:
			return nil, fmt.Errorf("%.1000s: %w", raw, m.Error)
		default:
			return m.Result, nil
		}
	}
	return nil, errors.New("no response")
}

// messages are those of a response, be it JSON or a stream of events.
func messages(resp *http.Response) iter.Seq2[rpc, error] {
	return func(yield func(rpc, error) bool) {
		stream := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
			if stream && !ok || len(bytes.TrimSpace(data)) == 0 {
				continue
			}
			var m rpc
			err := json.Unmarshal(data, &m)
			if err != nil {
				err = fmt.Errorf("%s: %.1000s: %w", resp.Status, data, err)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(rpc{}, err)
		}
	}
}

func decode[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

type toolResult struct {
	Content []struct {
		Text string `json:"text"`
	} `json:"content"`
}

func (r toolResult) text() string {
	var text []string
	for _, c := range r.Content {
		text = append(text, c.Text)
	}
	return strings.Join(text, "\n")
}

// client2025 speaks 2025-11-25.
type client2025 struct {
	*poster
}

func connect2025(t *testing.T, url string) client {
	t.Helper()
	return openSession(t, url, "2025-11-25", object{"elicitation": object{}})
}

// openSession connects a client of any version of 2025.
func openSession(t *testing.T, url, version string, capabilities object) client2025 {
	t.Helper()
	c := client2025{&poster{t: t, url: url, header: http.Header{"Mcp-Protocol-Version": {version}}}}
	params, err := json.Marshal(object{
		"protocolVersion": version,
		"capabilities":    capabilities,
		"clientInfo":      object{"name": "raw", "version": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.post(rpc{ID: 0, Method: "initialize", Params: params}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c.header.Set("Mcp-Session-Id", resp.Header.Get("Mcp-Session-Id"))
	c.send(rpc{Method: "notifications/initialized"})
	return c
}

// send posts what has no reply.
func (c client2025) send(m rpc) {
	c.t.Helper()
	resp, err := c.post(m, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(resp.Body)
		c.t.Fatalf("%s %v: %s %s", m.Method, m.ID, resp.Status, body)
	}
}

func (c client2025) create(tool string, arguments object) string {
	c.t.Helper()
	id, err := c.createOnce("", tool, arguments)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c client2025) createOnce(key, tool string, arguments object) (string, error) {
	params := object{"name": tool, "arguments": arguments, "task": object{"ttl": 600_000}, "_meta": object{}}
	if key != "" {
		params["_meta"] = object{idempotencyKey: key}
	}
	raw, err := c.try("tools/call", params, nil, nil)
	if err != nil {
		return "", err
	}
	var r struct{ Task struct{ TaskID string } }
	return r.Task.TaskID, json.Unmarshal(raw, &r)
}

// list are the ids of the newest tasks.
func (c client2025) list() []string {
	c.t.Helper()
	page := decode[struct{ Tasks []struct{ TaskID string } }](c.t, c.call("tasks/list", object{}, nil, nil))
	var ids []string
	for _, t := range page.Tasks {
		ids = append(ids, t.TaskID)
	}
	return ids
}

func (c client2025) get(id string) taskState {
	c.t.Helper()
	return decode[taskState](c.t, c.call("tasks/get", object{"taskId": id}, nil, nil))
}

func (c client2025) answer(id, message, property string, value any) {
	c.t.Helper()
	c.call("tasks/result", object{"taskId": id}, nil, func(m rpc) bool {
		c.t.Helper()
		p := decode[struct {
			Message string
			Meta    map[string]struct{ TaskID string } `json:"_meta"`
		}](c.t, m.Params)
		if got := p.Meta["io.modelcontextprotocol/related-task"].TaskID; got != id {
			c.t.Errorf("%s: the related task is %q, not %q", m.Method, got, id)
		}
		if p.Message != message {
			return true
		}
		result, err := json.Marshal(accepted(property, value))
		if err != nil {
			c.t.Fatal(err)
		}
		c.send(rpc{ID: m.ID, Result: result})
		return false
	})
}

func accepted(property string, value any) object {
	return object{"action": "accept", "content": object{property: value}}
}

func (c client2025) cancel(id string) {
	c.t.Helper()
	raw := c.call("tasks/cancel", object{"taskId": id}, nil, nil)
	if s := decode[taskState](c.t, raw); s.Status != "cancelled" {
		c.t.Fatalf("tasks/cancel: the task is %+v", s)
	}
}

func (c client2025) text(id string) string {
	c.t.Helper()
	return decode[toolResult](c.t, c.call("tasks/result", object{"taskId": id}, nil, nil)).text()
}

// client2026 speaks 2026-07-28, with the tasks extension unless its
// capabilities are without it.
type client2026 struct {
	*poster
	capabilities object
}

func connect2026(t *testing.T, url string) client {
	return newClient2026(t, url, object{"elicitation": object{}, "extensions": tasksExtension})
}

// tasksExtension are the extensions of a client that has the one for tasks.
var tasksExtension = object{"io.modelcontextprotocol/tasks": object{}}

func newClient2026(t *testing.T, url string, capabilities object) client2026 {
	return client2026{&poster{t: t, url: url, header: http.Header{"Mcp-Protocol-Version": {"2026-07-28"}}}, capabilities}
}

func (c client2026) request(method, name string, params object) json.RawMessage {
	c.t.Helper()
	raw, err := c.tryRequest(method, name, params, object{})
	if err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	return raw
}

func (c client2026) tryRequest(method, name string, params, meta object) (json.RawMessage, error) {
	meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28"
	meta["io.modelcontextprotocol/clientInfo"] = object{"name": "raw", "version": "1"}
	meta["io.modelcontextprotocol/clientCapabilities"] = c.capabilities
	params["_meta"] = meta
	return c.try(method, params, http.Header{"Mcp-Method": {method}, "Mcp-Name": {name}}, nil)
}

func (c client2026) create(tool string, arguments object) string {
	c.t.Helper()
	id, err := c.createOnce("", tool, arguments)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c client2026) createOnce(key, tool string, arguments object) (string, error) {
	meta := object{}
	if key != "" {
		meta[idempotencyKey] = key
	}
	raw, err := c.tryRequest("tools/call", tool, object{"name": tool, "arguments": arguments}, meta)
	if err != nil {
		return "", err
	}
	var r struct{ ResultType, TaskID string }
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", err
	}
	if r.ResultType != "task" {
		return "", fmt.Errorf("%s did not become a task: %s", tool, raw)
	}
	return r.TaskID, nil
}

// detailed is the reply to tasks/get.
type detailed struct {
	taskState
	InputRequests map[string]struct {
		Params struct{ Message string }
	}
	Result toolResult
}

func (c client2026) detail(id string) detailed {
	c.t.Helper()
	return decode[detailed](c.t, c.request("tasks/get", id, object{"taskId": id}))
}

func (c client2026) get(id string) taskState { c.t.Helper(); return c.detail(id).taskState }

func (c client2026) answer(id, message, property string, value any) {
	c.t.Helper()
	awaitInput(c.t, c, id)
	for key, in := range c.detail(id).InputRequests {
		if in.Params.Message == message {
			c.request("tasks/update", id, object{
				"taskId": id, "inputResponses": object{key: accepted(property, value)},
			})
			return
		}
	}
	c.t.Fatalf("nobody asks %q", message)
}

func (c client2026) cancel(id string) {
	c.t.Helper()
	c.request("tasks/cancel", id, object{"taskId": id})
	await(c.t, c, id, "cancelled", func(s taskState) bool { return s.Status == "cancelled" })
}

func (c client2026) text(id string) string {
	c.t.Helper()
	await(c.t, c, id, "completed", func(s taskState) bool {
		if s.Status == "input_required" {
			c.t.Fatalf("the task asks (again): %+v", s)
		}
		return s.Status == "completed"
	})
	return c.detail(id).Result.text()
}

func wantText(t *testing.T, c client, id, want string) {
	t.Helper()
	if got := c.text(id); got != want {
		t.Errorf("the result is %q, not %q", got, want)
	}
}
