package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/task"
)

// sizedServer has one tool, which returns a text of the wanted size, and first
// counts what it was sent.
func sizedServer() *mcp.Server {
	type input struct {
		Size int    `json:"size"`
		Fill string `json:"fill"`
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "sized", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "sized"}, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
		if strings.Trim(in.Fill, "x") != "" {
			return nil, nil, errors.New("the arguments are not those that were sent")
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: strings.Repeat("y", in.Size)}}}, nil, nil
	})
	return s
}

// sized are arguments of so many bytes that want a result of so many.
func sized(t *testing.T, size, result int) object {
	t.Helper()
	empty, err := json.Marshal(object{"size": result, "fill": ""})
	if err != nil {
		t.Fatal(err)
	}
	return object{"size": result, "fill": strings.Repeat("x", max(0, size-len(empty)))}
}

// TestLarge calls with the largest arguments, for the largest results.
func TestLarge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDev(t, longhaul.Options{Server: sizedServer(), ClaimsDir: dir})
	const frame = 1000 // more than a result has besides its text
	for _, kind := range callers {
		t.Run(kind.name, func(t *testing.T) {
			call := func(size, result int) (string, error) {
				return kind.connect(t, p.MCPURL).call("sized", sized(t, size, result), nil)
			}
			got, err := call(task.MaxBytes, task.MaxBytes-frame)
			if err != nil || len(got) != task.MaxBytes-frame || strings.Trim(got, "y") != "" {
				t.Errorf("got %d bytes and error %v", len(got), err)
			}
			_, err = call(task.MaxBytes+1, 0)
			var refused *rpcError
			if !errors.As(err, &refused) || refused.Code != -32602 || !strings.Contains(refused.Message, "the arguments have 52428801 bytes; at most 52428800 can be stored") {
				t.Errorf("larger arguments: %v", err)
			}
			_, err = call(0, task.MaxBytes)
			if err == nil || !strings.Contains(err.Error(), "at most 52428800 can be stored") {
				t.Errorf("a larger result: %v", err)
			}
		})
	}
	t.Run("a request that is larger", func(t *testing.T) {
		resp, err := http.Post(p.MCPURL, "application/json", io.LimitReader(endless{}, task.MaxBytes+2<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var m rpc
		if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusRequestEntityTooLarge || m.Error == nil || m.Error.Code != -32600 {
			t.Errorf("%s, %v", resp.Status, m.Error)
		}
	})
	// What was refused left nothing behind.
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.*", "*"))
	if want := 2 * len(callers); err != nil || len(files) != want {
		t.Errorf("%d files are kept, want %d: %v", len(files), want, err)
	}
}

// endless is white space without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }
