package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	temporal "go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/worker"
)

// The tests run against the real thing: Temporal, the engine, a worker and an
// MCP server in this process, brought up once.
var (
	temporalAddr string
	tools        *upstream.Set
	server       *mcp.Server // the upstream
	gates        = gateSet{open: map[string]chan struct{}{}, entered: map[string]chan struct{}{}}
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if temporaltest.FuzzWorker() {
		return m.Run()
	}
	if os.Getenv(benchServer) != "" {
		return serveBench()
	}
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "longhaul-api-test")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	temporalServer, err := temporaltest.Start(dir)
	if err != nil {
		return fail(err)
	}
	defer temporalServer.Stop()
	temporalAddr = temporalServer.Addr

	server = newUpstream()
	if tools, err = upstream.New(upstream.Options{
		Servers: []upstream.Server{upstream.InProcess("test", server)},
		Tools: map[string]upstream.ToolOptions{
			"greet":     {Support: task.SupportForbidden},
			"ask_held":  {Support: task.SupportForbidden},
			"must":      {Support: task.SupportRequired},
			"ask_first": {Support: task.SupportRequired, Input: task.InputBeforeTask},
		},
	}); err != nil {
		return fail(err)
	}
	defer tools.Close()
	if err := tools.Start(ctx); err != nil {
		return fail(err)
	}
	client, err := temporal.DialContext(ctx, temporal.Options{HostPort: temporalAddr, Logger: discard()})
	if err != nil {
		return fail(err)
	}
	defer client.Close()
	verbatim := httptest.NewServer(http.HandlerFunc(serveVerbatim))
	defer verbatim.Close()
	if verbatimTools, err = newVerbatim(ctx, verbatim.URL); err != nil {
		return fail(err)
	}
	defer verbatimTools.Close()
	for _, o := range []worker.Options{{Upstream: tools}, {Upstream: verbatimTools, TaskQueue: verbatimQueue}} {
		o.Client, o.StopTimeout = client, time.Second
		w := worker.New(o)
		if err := w.Start(); err != nil {
			return fail(err)
		}
		defer w.Stop()
	}
	return m.Run()
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// gateSet lets tests hold a tool back and see that it runs.
type gateSet struct {
	mu            sync.Mutex
	open, entered map[string]chan struct{}
}

func (g *gateSet) channel(m map[string]chan struct{}, label string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m[label] == nil {
		m[label] = make(chan struct{})
	}
	return m[label]
}

func (g *gateSet) close(m map[string]chan struct{}, label string) {
	c := g.channel(m, label)
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// gate is the label of a gate of this test, opened at the latest at its end.
func gate(t *testing.T) string {
	label := fmt.Sprintf("%s %d", t.Name(), lastID.Add(1))
	t.Cleanup(func() { openGate(label) })
	return label
}

func openGate(label string) { gates.close(gates.open, label) }

func awaitEntered(t *testing.T, label string) {
	t.Helper()
	select {
	case <-gates.channel(gates.entered, label):
	case <-t.Context().Done():
		t.Fatal("the tool did not start")
	}
}

type toolHandler = func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error)

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

func newUpstream() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	add := func(name, schema string, h toolHandler) {
		s.AddTool(&mcp.Tool{Name: name, Description: name, InputSchema: json.RawMessage(schema)}, h)
	}
	argument := func(req *mcp.CallToolRequest, name string) string {
		var args map[string]any
		_ = json.Unmarshal(req.Params.Arguments, &args) // checked by the schema
		s, _ := args[name].(string)
		return s
	}
	const anything = `{"type":"object"}`
	const named = `{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`

	add("greet", named, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text("Hello, %s!", argument(req, "name")), nil
	})
	// echo ends at once.
	add("echo", named, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res := text("echo %s", argument(req, "name"))
		res.Meta = mcp.Meta{task.MetaRelatedTask: map[string]any{"taskId": "of somebody else"}, "kept": true}
		return res, nil
	})
	// gate waits until the test opens it; it reports progress when it starts.
	add("gate", `{"type":"object","properties":{"label":{"type":"string"}},"required":["label"]}`,
		func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			label := argument(req, "label")
			if token := req.Params.GetProgressToken(); token != nil {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 60, Total: 100})
			}
			gates.close(gates.entered, label)
			select {
			case <-gates.channel(gates.open, label):
				return text("through %s", label), nil
			case <-ctx.Done():
				gates.close(gates.entered, label+" cancelled")
				return nil, ctx.Err()
			}
		})
	ask := func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answer, ok := req.Params.InputResponses["user_name"].(*mcp.ElicitResult)
		if !ok {
			return &mcp.CallToolResult{RequestState: "asked", InputRequests: mcp.InputRequestMap{
				"user_name": &mcp.ElicitParams{Mode: "form", Message: "Your name?", RequestedSchema: json.RawMessage(
					`{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`)},
			}}, nil
		}
		if answer.Action != "accept" {
			return text("no name: %s", answer.Action), nil
		}
		return text("Hello, %v!", answer.Content["name"]), nil
	}
	add("ask", anything, ask)
	add("ask_held", anything, ask)
	add("ask_first", anything, ask)
	add("must", named, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text("did %s", argument(req, "name")), nil
	})
	add("fail", anything, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res := text("broken")
		res.IsError = true
		return res, nil
	})
	// raise ends in the JSON-RPC error of its arguments.
	add("raise", anything, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var e jsonrpc.Error
		if err := json.Unmarshal(req.Params.Arguments, &e); err != nil {
			return nil, err
		}
		return nil, &e
	})
	add("regional", `{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"zone":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"Zone"}}}}}`,
		func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return text("in %s", argument(req, "region")), nil
		})
	return s
}

// stack is a front over a real engine.
type stack struct {
	api     *api.API
	url     string
	service task.Service
}

func setup(t *testing.T, change ...func(*api.Options)) *stack {
	t.Helper()
	return setupOn(t, dial(t), change...)
}

func setupOn(t *testing.T, client temporal.Client, change ...func(*api.Options)) *stack {
	t.Helper()
	s := serve(t, api.Options{
		Tasks: newEngine(t, client, ""), Catalogue: tools, Key: key, Logger: discard(),
		InlineWindow: time.Minute, // what ends by itself ends within it, however slow the machine
	}, change...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.api.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

// serve serves an API with these options until the test ends.
func serve(t *testing.T, o api.Options, change ...func(*api.Options)) *stack {
	t.Helper()
	for _, c := range change {
		c(&o)
	}
	a, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	return &stack{a, s.URL + "/mcp", o.Tasks}
}

var key = bytes.Repeat([]byte("k"), api.KeySize)

func dial(t *testing.T) temporal.Client {
	t.Helper()
	client, err := temporal.DialContext(t.Context(), temporal.Options{HostPort: temporalAddr, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newEngine(t *testing.T, client temporal.Client, taskQueue string) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{Client: client, Key: key, TaskQueue: taskQueue})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// object is a JSON object.
type object = map[string]any

// frame is one JSON-RPC message of the server.
type frame struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params object          `json:"params"`
	Result object          `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    object `json:"data"`
	} `json:"error"`
}

// reply is an HTTP response, read frame by frame.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   io.ReadCloser
	lines  *bufio.Reader
}

// post sends body as it is.
func (s *stack) post(t *testing.T, header http.Header, body string) *reply {
	t.Helper()
	return s.do(t, t.Context(), http.MethodPost, header, body)
}

func (s *stack) do(t *testing.T, ctx context.Context, method string, header http.Header, body string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return &reply{t, res.StatusCode, res.Header, res.Body, bufio.NewReader(res.Body)}
}

func (r *reply) streams() bool {
	return strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream")
}

// next is the next message but for pushed statuses, or nil after the last one.
func (r *reply) next() *frame {
	r.t.Helper()
	for {
		if f := r.message(); f == nil || f.Method != "notifications/tasks/status" {
			return f
		}
	}
}

// message is the next message, or nil after the last one.
func (r *reply) message() *frame {
	r.t.Helper()
	if !r.streams() {
		body, err := io.ReadAll(r.lines)
		if err != nil {
			r.t.Fatal(err)
		}
		return r.decode(body)
	}
	for {
		line, err := r.lines.ReadString('\n')
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return r.decode([]byte(data))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *reply) decode(b []byte) *frame {
	r.t.Helper()
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	var f frame
	if err := json.Unmarshal(b, &f); err != nil {
		r.t.Fatalf("%v in %s", err, b)
	}
	return &f
}

// response skips notifications and is the response.
func (r *reply) response() *frame {
	r.t.Helper()
	for {
		f := r.next()
		if f == nil {
			r.t.Fatalf("no response (HTTP %d)", r.status)
		}
		if f.Method == "" {
			return f
		}
	}
}

// result is the response's result.
func (r *reply) result() object {
	r.t.Helper()
	f := r.response()
	if f.Error != nil {
		r.t.Fatalf("error %d: %s", f.Error.Code, f.Error.Message)
	}
	return f.Result
}

// fails checks the response's error code.
func (r *reply) fails(code int) *frame {
	r.t.Helper()
	f := r.response()
	if f.Error == nil {
		r.t.Fatalf("got result %v, want error %d", f.Result, code)
	}
	if f.Error.Code != code {
		r.t.Fatalf("got error %d (%s), want %d", f.Error.Code, f.Error.Message, code)
	}
	return f
}

// caller is a client of either generation.
type caller struct {
	*stack
	t       *testing.T
	header  http.Header
	version string
	caps    object
	id      int // of the last request
}

// lastID makes request ids unique, as a session demands, and gates.
var lastID atomic.Int64

// in is the caller for a subtest.
func (c *caller) in(t *testing.T) *caller {
	other := *c
	other.t = t
	return &other
}

func headers(pairs ...string) http.Header {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

var withTasks = object{"elicitation": object{}, "extensions": object{"io.modelcontextprotocol/tasks": object{}}}

// modern is a 2026 client with the given capabilities.
func (s *stack) modern(t *testing.T, caps object) *caller {
	return &caller{stack: s, t: t, header: headers("Mcp-Protocol-Version", "2026-07-28"), caps: caps}
}

// legacy is a 2025 client that has initialized a session.
func (s *stack) legacy(t *testing.T, version string, caps object, pairs ...string) *caller {
	t.Helper()
	c := &caller{stack: s, t: t, header: headers(pairs...), version: version, caps: caps}
	r := c.call("initialize", object{
		"protocolVersion": version, "capabilities": caps, "clientInfo": object{"name": "test", "version": "1"},
	})
	if got := r.result()["protocolVersion"]; got != version {
		t.Fatalf("negotiated %v, want %s", got, version)
	}
	c.header.Set("Mcp-Session-Id", r.header.Get("Mcp-Session-Id"))
	c.header.Set("Mcp-Protocol-Version", version)
	return c
}

func (c *caller) request(method string, params object) (http.Header, string) {
	c.id = int(lastID.Add(1))
	h := c.header
	if c.version == "" {
		h = h.Clone()
		h.Set("Mcp-Method", method)
		for _, field := range []string{"name", "taskId"} {
			if name, ok := params[field].(string); ok {
				h.Set("Mcp-Name", name)
			}
		}
		meta := object{
			"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
			"io.modelcontextprotocol/clientCapabilities": c.caps,
		}
		if more, ok := params["_meta"].(object); ok {
			for k, v := range more {
				meta[k] = v
			}
		}
		with := object{"_meta": meta}
		for k, v := range params {
			if k != "_meta" {
				with[k] = v
			}
		}
		params = with
	}
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": c.id, "method": method, "params": params})
	if err != nil {
		c.t.Fatal(err)
	}
	return h, string(body)
}

func (c *caller) call(method string, params object) *reply {
	c.t.Helper()
	return c.callContext(c.t.Context(), method, params)
}

func (c *caller) callContext(ctx context.Context, method string, params object) *reply {
	c.t.Helper()
	h, body := c.request(method, params)
	return c.do(c.t, ctx, http.MethodPost, h, body)
}

func (c *caller) tool(name string, arguments object) *reply {
	c.t.Helper()
	if arguments == nil {
		arguments = object{}
	}
	return c.call("tools/call", object{"name": name, "arguments": arguments})
}

// notify sends a notification or a response.
func (c *caller) notify(message object) *reply {
	c.t.Helper()
	message["jsonrpc"] = "2.0"
	body, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.post(c.t, c.header, string(body))
}

// await polls tasks/get until the status is one of want.
func (c *caller) await(taskID string, want ...string) object {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got := c.call("tasks/get", object{"taskId": taskID}).result()
		for _, w := range want {
			if got["status"] == w {
				return got
			}
		}
		if s := got["status"]; s != "working" && s != "input_required" {
			c.t.Fatalf("task is %v, want %v", s, want)
		}
		<-tick.C
	}
}

func textOf(t *testing.T, result object) string {
	t.Helper()
	content, _ := result["content"].([]any)
	if len(content) == 0 {
		t.Fatalf("no content in %v", result)
	}
	text, _ := content[0].(object)["text"].(string)
	return text
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
