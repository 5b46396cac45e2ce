package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// serveVar makes this test binary an MCP server on its standard streams.
const serveVar = "UPSTREAM_TEST_SERVE"

func TestMain(m *testing.M) {
	switch os.Getenv(serveVar) {
	case "":
		os.Exit(m.Run())
	case "flapping":
		// It is what it says as long as there is a file.
		file := os.Getenv("FLAP_FILE")
		if f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString("x")
			fmt.Fprintln(os.Stderr, "cannot open the database")
			os.Exit(7)
		}
		if err := newServer().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	case "sdk":
		if err := newServer().Run(context.Background(), &mcp.StdioTransport{MaxLineLength: -1}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	case "raw":
		serveRaw()
	case "relay":
		serveRelay()
	case "stubborn":
		// Neither the end of its input nor SIGTERM makes it go.
		ignoreTerminate()
		go newServer().Run(context.Background(), &mcp.StdioTransport{})
		select {}
	case "broken":
		fmt.Fprintln(os.Stderr, "cannot open the database")
		os.Exit(7)
	}
}

// newServer is an SDK server whose tools behave in all the ways tools do.
func newServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ServerOptions{
		Logger: slog.New(slog.DiscardHandler), PageSize: 3,
	})
	object := map[string]any{"type": "object"}
	add := func(name string, h mcp.ToolHandler) { s.AddTool(&mcp.Tool{Name: name, InputSchema: object}, h) }

	// seen tells what reached the tool.
	s.AddTool(&mcp.Tool{
		Name: "seen", InputSchema: object, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return textResult(map[string]any{
			"arguments": req.Params.Arguments, "pid": os.Getpid(), "protocol": req.ProtocolVersion(),
			"capabilities": req.ClientCapabilities(), "meta": req.Params.Meta,
			"env": map[string]string{"TEMPORAL_API_KEY": os.Getenv("TEMPORAL_API_KEY"), "LANG": os.Getenv("LANG"), "MODE": os.Getenv(serveVar)},
		}), nil
	})
	add("progress", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, p := range []float64{1, 2, 2, 1, 3} {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: p, Total: 3, Message: fmt.Sprint("step ", p),
			})
			if err != nil {
				return nil, err
			}
		}
		err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: req.Params.GetProgressToken(), Progress: 3,
			Meta: mcp.Meta{task.MetaCheckpoint: json.RawMessage(`{"at":12345678901234567890}`)},
		})
		return textResult("done"), err
	})
	add("error", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return nil, &jsonrpc.Error{Code: -32042, Message: "sign in first", Data: json.RawMessage(`{"url":"https://example.com/?a=1&b=2"}`)}
	})
	add("is-error", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "no"}}}, nil
	})
	add("ask", func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if req.Params.RequestState == "" {
			return &mcp.CallToolResult{
				RequestState: "state-1",
				InputRequests: mcp.InputRequestMap{
					"b": &mcp.ElicitParams{Message: "sure?", RequestedSchema: object},
					"a": &mcp.ListRootsParams{},
				},
			}, nil
		}
		return textResult(map[string]any{"state": req.Params.RequestState, "answers": req.Params.InputResponses}), nil
	})
	add("elicit", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		r, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "sure?", RequestedSchema: object})
		return textResult(r), err
	})
	add("roots", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		r, err := req.Session.ListRoots(ctx, nil)
		if err != nil {
			return textResult(err.Error()), nil
		}
		return textResult(r), nil
	})
	add("sample", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		r, err := req.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 5})
		return textResult(r), err
	})
	// block waits for its cancel and says so on standard error.
	add("block", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		started(ctx, req)
		<-ctx.Done()
		if f := os.Getenv("CANCELLED_FILE"); f != "" {
			_ = os.WriteFile(f, []byte("cancelled"), 0o600)
		}
		return nil, ctx.Err()
	})
	add("ignore-cancel", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		started(ctx, req)
		select {}
	})
	add("die", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		fmt.Fprintf(os.Stderr, "segmentation fault in module 7\nwith password %s\n", os.Getenv("PASSWORD"))
		os.Exit(3)
		return nil, nil
	})
	add("rubbish", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		fmt.Println("Debug: entering the tool")
		<-ctx.Done()
		return nil, ctx.Err()
	})
	// sized returns as much text as its arguments are long, and the number more
	// that they say.
	add("sized", func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var in struct{ More int }
		if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
			return nil, err
		}
		return textResult(strings.Repeat("x", len(req.Params.Arguments)+in.More)), nil
	})
	return s
}

// started tells the caller that the tool runs, by progress.
func started(ctx context.Context, req *mcp.CallToolRequest) {
	_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: req.Params.GetProgressToken(), Progress: float64(os.Getpid()),
	})
}

func textResult(v any) *mcp.CallToolResult {
	text, ok := v.(string)
	if !ok {
		b, _ := json.Marshal(v)
		text = string(b)
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

const (
	rawDefinition = `{"title":"T & <T>","name":"odd","x-vendor":[1, 2.50],"inputSchema":{"type":"object"},"execution":{"taskSupport":"required"},"annotations":{"idempotentHint":true}}`
	rawTools      = `{"name":"bad name","inputSchema":{"type":"object"}},` +
		`{"name":"twice","inputSchema":{"type":"object"}},{"name":"twice","inputSchema":{"type":"object"}},` +
		`{"name":"bad-header","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}`
	rawResult = `{"content":[{"type":"hologram","data":12345678901234567890}],  "extra":"<&>","isError":true}`
)

// serveRaw is a server of the 2025 protocol by hand, to send what no SDK would.
func serveRaw() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Cursor string `json:"cursor"`
			} `json:"params"`
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		switch {
		case m.Method == "initialize":
			fmt.Printf(`{"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"0"}},"jsonrpc":"2.0","id":%s}`+"\n", m.ID)
		case m.Method == "tools/list" && m.Params.Cursor == "":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s,{"name":"no schema"}],"nextCursor":"two"}}`+"\n", m.ID, rawDefinition)
		case m.Method == "tools/list":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]}}`+"\n", m.ID, rawTools)
		case m.Method == "tools/call":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, rawResult)
		default:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`+"\n", m.ID)
		}
	}
}

// command is this test binary as a stdio server.
func command(t *testing.T, name, mode string, env map[string]string) upstream.Server {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{serveVar: mode}
	for k, v := range env {
		all[k] = v
	}
	return upstream.Command(name, upstream.CommandOptions{Command: exe, Args: []string{"-test.run=^$"}, Env: all})
}

// setup starts a Set, which ends with the test, and returns what it logs.
func setup(t *testing.T, o upstream.Options) (*upstream.Set, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	s, err := upstream.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, log
}

func oneServer(t *testing.T, server upstream.Server) *upstream.Set {
	t.Helper()
	s, _ := setup(t, upstream.Options{Servers: []upstream.Server{server}})
	return s
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// call calls a tool that must be answered.
func call(t *testing.T, s *upstream.Set, c upstream.Call) task.RoundResult {
	t.Helper()
	r, err := s.Call(t.Context(), c)
	if err != nil {
		t.Fatalf("calling %s: %v", c.Tool, err)
	}
	return r
}

// text is the text of a result.
func text(t *testing.T, r task.RoundResult) string {
	t.Helper()
	var result struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if err := json.Unmarshal(r.Result, &result); err != nil || len(result.Content) == 0 {
		t.Fatalf("no text in %s (error %+v)", r.Result, r.Error)
	}
	return result.Content[0].Text
}

// observation is what the tool "seen" returns.
type observation struct {
	Arguments    json.RawMessage            `json:"arguments"`
	Pid          int                        `json:"pid"`
	Protocol     string                     `json:"protocol"`
	Capabilities json.RawMessage            `json:"capabilities"`
	Meta         map[string]json.RawMessage `json:"meta"`
	Env          map[string]string          `json:"env"`
}

func seen(t *testing.T, s *upstream.Set, c upstream.Call) observation {
	t.Helper()
	var o observation
	if err := json.Unmarshal([]byte(text(t, call(t, s, c))), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func names(tools []task.Tool) string {
	var all []string
	for _, tool := range tools {
		all = append(all, tool.Name)
	}
	return strings.Join(all, " ")
}

func lost(t *testing.T, err error) *upstream.LostError {
	t.Helper()
	var l *upstream.LostError
	if !errors.As(err, &l) {
		t.Fatalf("error is %v, want a LostError", err)
	}
	return l
}

// patience bounds waits for events that come soon or never.
const patience = 30 * time.Second
