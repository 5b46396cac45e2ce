package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	wire2025 = "2025-11-25"
	wire2026 = "2026-07-28"
)

// harness is a demo server on a directory of its own and a client connected to it.
type harness struct {
	demo    *demo
	dir     string
	log     *bytes.Buffer
	server  *mcp.Server
	session *mcp.ClientSession

	mu       sync.Mutex
	progress []*mcp.ProgressNotificationParams
}

// setup connects a client that hands input requests to the test. Its server
// reports progress as often as it can.
func setup(t *testing.T) *harness {
	t.Helper()
	return setupClient(t, t.TempDir(), wire2026, &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{}},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	})
}

func setupClient(t *testing.T, dir, version string, opts *mcp.ClientOptions) *harness {
	t.Helper()
	h := &harness{dir: dir, log: new(bytes.Buffer)}
	var err error
	h.demo, err = newDemo(dir, slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.demo.root.Close() })
	h.demo.pace = 0
	if h.server, err = h.demo.server(); err != nil {
		t.Fatal(err)
	}
	opts.ProgressNotificationHandler = func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.progress = append(h.progress, req.Params)
	}
	serverSide, clientSide := mcp.NewInMemoryTransports()
	if _, err := h.server.Connect(t.Context(), serverSide, nil); err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, opts)
	h.session, err = client.Connect(t.Context(), clientSide, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.session.Close() })
	return h
}

// call calls a tool and wants a result, be it an error result.
func (h *harness) call(t *testing.T, params *mcp.CallToolParams) *mcp.CallToolResult {
	t.Helper()
	res, err := h.session.CallTool(t.Context(), params)
	if err != nil {
		t.Fatalf("%s: %v", params.Name, err)
	}
	return res
}

// results delivers what the tools return from now on, whether or not the
// client still waits for it.
func (h *harness) results() <-chan *mcp.CallToolResult {
	results := make(chan *mcp.CallToolResult, 1)
	h.server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			res, err := next(ctx, method, req)
			if res, ok := res.(*mcp.CallToolResult); ok {
				results <- res
			}
			return res, err
		}
	})
	return results
}

// reported closes the connection, after which all progress notifications have
// been handled, and returns them.
func (h *harness) reported(t *testing.T) []*mcp.ProgressNotificationParams {
	t.Helper()
	if err := h.session.Close(); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.progress
}

// write makes the files of a tree under dir, by path and content.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
}

func text(res *mcp.CallToolResult) string {
	var b strings.Builder
	for _, c := range res.Content {
		if c, ok := c.(*mcp.TextContent); ok {
			b.WriteString(c.Text)
		}
	}
	return b.String()
}

// structured decodes what a tool returned and checks that its text is the same.
func structured[T any](t *testing.T, res *mcp.CallToolResult) T {
	t.Helper()
	if res.IsError {
		t.Fatalf("tool failed: %s", text(res))
	}
	var out, fromText T
	data, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	if err := json.Unmarshal([]byte(text(res)), &fromText); err != nil {
		t.Errorf("text is not the structured content: %v", err)
	}
	return out
}

func wantError(t *testing.T, res *mcp.CallToolResult, want string) {
	t.Helper()
	if !res.IsError {
		t.Fatalf("got %s, want an error with %q", text(res), want)
	}
	if !strings.Contains(text(res), want) {
		t.Errorf("error is %q, want one with %q", text(res), want)
	}
}

// growing checks that progress increases with each notification (MCP
// 2026-07-28, basic/patterns/progress).
func growing(t *testing.T, progress []*mcp.ProgressNotificationParams) {
	t.Helper()
	for i, p := range progress {
		if i > 0 && p.Progress <= progress[i-1].Progress {
			t.Errorf("progress %v after %v", p.Progress, progress[i-1].Progress)
		}
		if p.Message == "" {
			t.Error("progress without a message")
		}
	}
}

func checkpointOf(p *mcp.ProgressNotificationParams) any { return p.Meta[task.MetaCheckpoint] }

// attempt is the `_meta` of a call that asks for progress and comes with the
// checkpoint of an earlier attempt, or nil.
func attempt(checkpoint any) mcp.Meta {
	return mcp.Meta{"progressToken": "p", task.MetaCheckpoint: checkpoint}
}

func TestToolsDescribeThemselves(t *testing.T) {
	h := setup(t)
	list, err := h.session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	type hints struct{ readOnly, idempotent, destructive bool }
	want := map[string]hints{
		"checksum_tree": {readOnly: true, idempotent: true},
		"countdown":     {readOnly: true, idempotent: true},
		"rename_files":  {destructive: true},
	}
	for _, tool := range list.Tools {
		if tool.Title == "" || tool.Description == "" || tool.InputSchema == nil || tool.OutputSchema == nil {
			t.Errorf("%s lacks a title, a description or a schema", tool.Name)
		}
		a := tool.Annotations
		got := hints{a.ReadOnlyHint, a.IdempotentHint, a.DestructiveHint != nil && *a.DestructiveHint}
		if got != want[tool.Name] {
			t.Errorf("%s: hints %+v, want %+v", tool.Name, got, want[tool.Name])
		}
		if a.OpenWorldHint == nil || *a.OpenWorldHint {
			t.Errorf("%s: openWorldHint is not false", tool.Name)
		}
		delete(want, tool.Name)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}

func TestNewServerWantsADirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"file": ""})
	for _, name := range []string{"missing", "file"} {
		if _, err := NewServer(filepath.Join(dir, name), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("NewServer took %s for a directory", name)
		}
	}
	if _, err := NewServer(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

func TestPathsStayInside(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret.txt": "secret", "root/in/a.txt": "a", "root/file": "f"})
	root := filepath.Join(outside, "root")
	symlink(t, "..", filepath.Join(root, "up"))
	symlink(t, outside, filepath.Join(root, "absolute"))
	symlink(t, "in/../../../", filepath.Join(root, "winding"))
	symlink(t, "in", filepath.Join(root, "alias"))

	paths := map[string]string{ // what the error says, or "" where there is none
		"in":                               "",
		"./in/":                            "",
		"alias":                            "",
		filepath.Join(root, "in"):          "",
		"..":                               "outside",
		"in/../..":                         "outside",
		"../root/in":                       "outside",
		"up":                               "outside",
		"up/root/in":                       "outside",
		"absolute":                         "outside",
		"winding":                          "outside",
		outside:                            "outside",
		string(filepath.Separator) + "etc": "outside",
		"missing":                          "no such file",
		"file":                             "not a directory",
		"in\x00":                           "invalid",
	}
	calls := map[string]map[string]any{
		"checksum_tree": {},
		"rename_files":  {"pattern": `\.txt$`, "replacement": ".md"},
	}
	for tool, args := range calls {
		for path, want := range paths {
			t.Run(tool+" "+path, func(t *testing.T) {
				h := setupClient(t, root, wire2026, &mcp.ClientOptions{
					Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{}},
					MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
				})
				args["path"] = path
				res := h.call(t, &mcp.CallToolParams{Name: tool, Arguments: args})
				if want != "" {
					wantError(t, res, want)
				} else if res.IsError {
					t.Errorf("failed: %s", text(res))
				}
			})
		}
	}
}
