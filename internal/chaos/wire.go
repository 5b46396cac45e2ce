package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
)

type object = map[string]any

// caller is a plain MCP client of both generations, of one owner. It goes to
// another api with every request if it is told to.
type caller struct {
	token  string
	http   *http.Client
	lastID atomic.Int64

	mu      sync.Mutex
	session string // of 2025
}

func newCaller(token string) *caller {
	// A connection for each request: those of a killed server cannot be told
	// from good ones.
	return &caller{token: token, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// rpc is a JSON-RPC message.
type rpc struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// reply is what a request came to.
type reply struct {
	status int    // of HTTP
	body   string // of a reply that is no stream
	result json.RawMessage
	rpc    *rpcError
	err    error // no reply, or not all of it
}

// outcome is what the reply says of the request.
func (r reply) outcome() (o Outcome, message string) {
	switch {
	case r.err != nil:
		return Unknown, r.err.Error()
	case r.rpc == nil:
		return OK, ""
	case r.status >= http.StatusInternalServerError,
		strings.Contains(r.rpc.Message, "engine is unavailable"), strings.Contains(r.rpc.Message, "server is restarting"):
		return Unknown, fmt.Sprintf("%d %s", r.rpc.Code, r.rpc.Message)
	default:
		return Failed, fmt.Sprintf("%d %s", r.rpc.Code, r.rpc.Message)
	}
}

const (
	protocol2025 = "2025-11-25"
	protocol2026 = "2026-07-28"
)

// do2025 sends a request on the session, which it opens first if there is none.
// Requests that come before the response go to asked.
func (c *caller) do2025(ctx context.Context, api *cluster.Process, id any, method string, params object, asked func(rpc)) reply {
	session, err := c.open(ctx, api)
	if err != nil {
		return reply{err: fmt.Errorf("open a session: %w", err)}
	}
	r := c.post(ctx, api, message(id, method, params), http.Header{
		"Mcp-Session-Id": {session}, "Mcp-Protocol-Version": {protocol2025},
	}, asked)
	return r
}

// do2026 sends a request, of a client that has tasks or not.
func (c *caller) do2026(ctx context.Context, api *cluster.Process, id any, method, name string, params, meta object, tasks bool) reply {
	capabilities := object{"elicitation": object{}}
	if tasks {
		capabilities["extensions"] = object{"io.modelcontextprotocol/tasks": object{}}
	}
	meta["io.modelcontextprotocol/protocolVersion"] = protocol2026
	meta["io.modelcontextprotocol/clientInfo"] = object{"name": "chaos", "version": "1"}
	meta["io.modelcontextprotocol/clientCapabilities"] = capabilities
	params["_meta"] = meta
	return c.post(ctx, api, message(id, method, params), http.Header{
		"Mcp-Protocol-Version": {protocol2026}, "Mcp-Method": {method}, "Mcp-Name": {name},
	}, nil)
}

// respond posts the response to a request of the server.
func (c *caller) respond(ctx context.Context, api *cluster.Process, id json.RawMessage, result any) reply {
	session, err := c.open(ctx, api)
	if err != nil {
		return reply{err: err}
	}
	return c.post(ctx, api, object{"jsonrpc": "2.0", "id": id, "result": result}, http.Header{
		"Mcp-Session-Id": {session}, "Mcp-Protocol-Version": {protocol2025},
	}, nil)
}

func message(id any, method string, params object) object {
	return object{"jsonrpc": "2.0", "id": id, "method": method, "params": params}
}

func (c *caller) nextID() int64 { return c.lastID.Add(1) }

// open returns the ID of the session, which any api knows.
func (c *caller) open(ctx context.Context, api *cluster.Process) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != "" {
		return c.session, nil
	}
	body := message(c.nextID(), "initialize", object{
		"protocolVersion": protocol2025,
		"capabilities":    object{"elicitation": object{}},
		"clientInfo":      object{"name": "chaos", "version": "1"},
	})
	resp, err := c.send(ctx, api, body, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if c.session = resp.Header.Get("Mcp-Session-Id"); c.session == "" {
		said, _ := io.ReadAll(resp.Body)
		return "", fmt.Errorf("%s: %s", resp.Status, said)
	}
	return c.session, nil
}

func (c *caller) send(ctx context.Context, api *cluster.Process, body any, header http.Header) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, api.URL(), bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+c.token)
	return c.http.Do(r)
}

func (c *caller) post(ctx context.Context, api *cluster.Process, body any, header http.Header, asked func(rpc)) reply {
	resp, err := c.send(ctx, api, body, header)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return plainReply(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var m rpc
		if err := json.Unmarshal(data, &m); err != nil {
			return reply{err: fmt.Errorf("%q: %w", data, err)}
		}
		switch {
		case m.Method == "":
			return reply{status: resp.StatusCode, result: m.Result, rpc: m.Error}
		case m.ID != nil && asked != nil:
			asked(m)
		}
	}
	if err := lines.Err(); err != nil {
		return reply{err: err}
	}
	return reply{err: errors.New("the stream ended without a response")}
}

// plainReply is the reply of a response in one piece.
func plainReply(resp *http.Response) reply {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{err: err}
	}
	r := reply{status: resp.StatusCode, body: string(body)}
	if len(bytes.TrimSpace(body)) == 0 {
		return r // accepted
	}
	var m rpc
	if err := json.Unmarshal(body, &m); err != nil {
		return reply{err: fmt.Errorf("%s: %q: %w", resp.Status, body, err)}
	}
	r.result, r.rpc = m.Result, m.Error
	return r
}

// taskState is what a reply says of a task, on either wire.
type taskState struct {
	ResultType    string `json:"resultType"`
	RequestState  string `json:"requestState"`
	TaskID        string `json:"taskId"`
	Status        string `json:"status"`
	InputRequests map[string]struct {
		Params struct {
			Message string `json:"message"`
		} `json:"params"`
	} `json:"inputRequests"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
	Task   *taskState      `json:"task"`  // around it, in 2025's reply to a create
	Tasks  []taskState     `json:"tasks"` // in its list
}

func (r reply) state() (s taskState) {
	// What is no task leaves it empty.
	_ = json.Unmarshal(r.result, &s)
	return s
}

// The words in which [Op].Final says how a task ended.
const (
	finalResult    = "result "
	finalCancelled = "cancelled"
)

// final is the end of a task as 2026 inlines it.
func (s taskState) final() string {
	switch {
	case s.Status == "cancelled":
		return finalCancelled
	case s.Status == "failed" && s.Error != nil:
		return finalError(s.Error)
	case s.Status == "completed":
		return finalResult + canonical(s.Result)
	default:
		return ""
	}
}

func finalError(e *rpcError) string { return fmt.Sprintf("error %d %s", e.Code, e.Message) }

// final2025 is the end of a task as tasks/result has it.
func (r reply) final2025() string {
	switch {
	case r.rpc == nil:
		return finalResult + canonical(r.result)
	case r.rpc.Message == "Task was cancelled":
		return finalCancelled
	default:
		return finalError(r.rpc)
	}
}

// canonical is a result without what belongs to its wire.
func canonical(raw json.RawMessage) string {
	var result object
	if err := json.Unmarshal(raw, &result); err != nil {
		return string(raw)
	}
	delete(result, "_meta")
	delete(result, "resultType")
	encoded, err := json.Marshal(result)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

// question is the tool's name for what a message asks, which may be asked again
// with a reason added.
func question(message string) string {
	name, _, _ := strings.Cut(message, "\n")
	return name
}

// opTimeout bounds an operation that does not wait for a task.
const opTimeout = 10 * time.Second
