package longhaul_test

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/task"
)

// position is the state of the tools in these tests.
type position struct {
	Line int    `json:"line"`
	Sum  []byte `json:"sum"`
}

// callTool runs handler as a tool, called by a real client with meta, and
// returns the progress notifications the client got.
func callTool(t *testing.T, meta mcp.Meta, handler func(context.Context, *mcp.CallToolRequest) error) []*mcp.ProgressNotificationParams {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "tool"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return nil, nil, handler(ctx, req)
	})
	var got []*mcp.ProgressNotificationParams
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
			got = append(got, req.Params)
		},
	})
	serverSide, clientSide := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), serverSide, nil); err != nil {
		t.Fatal(err)
	}
	session, err := client.Connect(t.Context(), clientSide, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Meta: meta, Name: "tool"})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.GetError(); err != nil {
		t.Fatalf("tool failed: %v", err)
	}
	// Notifications are handled in order, but may trail the result: they have
	// all been handled once the connection is closed.
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

func withToken(meta mcp.Meta) mcp.Meta {
	m := mcp.Meta{"progressToken": "token-1"}
	for k, v := range meta {
		m[k] = v
	}
	return m
}

func TestCheckpointComesBackInTheNextAttempt(t *testing.T) {
	want := position{Line: 7, Sum: []byte{0, 1, 0xff}}
	sent := callTool(t, withToken(nil), func(ctx context.Context, req *mcp.CallToolRequest) error {
		if state, ok, err := longhaul.LoadCheckpoint[position](req); ok || err != nil {
			t.Errorf("first attempt: LoadCheckpoint = %v, %v, %v; want none", state, ok, err)
		}
		if err := longhaul.SaveCheckpoint(ctx, req, 1, 10, "one", position{Line: 1}); err != nil {
			return err
		}
		return longhaul.SaveCheckpoint(ctx, req, 7, 10, "seven", want)
	})
	if len(sent) != 2 {
		t.Fatalf("got %d progress notifications, want 2", len(sent))
	}
	last := sent[1]
	if last.Progress != 7 || last.Total != 10 || last.Message != "seven" || last.ProgressToken != "token-1" {
		t.Errorf("last notification = %+v", last)
	}

	meta := mcp.Meta{task.MetaCheckpoint: last.Meta[task.MetaCheckpoint]}
	callTool(t, withToken(meta), func(_ context.Context, req *mcp.CallToolRequest) error {
		got, ok, err := longhaul.LoadCheckpoint[position](req)
		if !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("LoadCheckpoint = %+v, %v, %v; want %+v", got, ok, err, want)
		}
		return nil
	})
}

// What would not be kept is said when it is saved, not found out after a crash.
func TestCheckpointThatIsTooLarge(t *testing.T) {
	sent := callTool(t, withToken(nil), func(ctx context.Context, req *mcp.CallToolRequest) error {
		quotes := len(`""`)
		if err := longhaul.SaveCheckpoint(ctx, req, 1, 0, "", strings.Repeat("x", task.MaxCheckpoint-quotes)); err != nil {
			t.Error(err)
		}
		err := longhaul.SaveCheckpoint(ctx, req, 2, 0, "", strings.Repeat("x", task.MaxCheckpoint-quotes+1))
		if err == nil || !strings.Contains(err.Error(), "262145 bytes") {
			t.Errorf("one byte more: %v", err)
		}
		return nil
	})
	if len(sent) != 1 || sent[0].Progress != 1 {
		t.Errorf("sent %d notifications", len(sent))
	}
}

func TestProgressCarriesNoCheckpoint(t *testing.T) {
	sent := callTool(t, withToken(nil), func(ctx context.Context, req *mcp.CallToolRequest) error {
		return longhaul.Progress(ctx, req, 1, 0, "half way")
	})
	if len(sent) != 1 || sent[0].Message != "half way" {
		t.Fatalf("got %+v, want one notification", sent)
	}
	if _, ok := sent[0].Meta[task.MetaCheckpoint]; ok {
		t.Error("Progress sent a checkpoint")
	}
}

// Progress notifications may be sent only for a token that the caller gave
// (MCP 2025-11-25 and 2026-07-28, basic/utilities or basic/patterns, progress).
func TestNothingIsSentWithoutAProgressToken(t *testing.T) {
	sent := callTool(t, nil, func(ctx context.Context, req *mcp.CallToolRequest) error {
		if err := longhaul.Progress(ctx, req, 1, 2, ""); err != nil {
			return err
		}
		return longhaul.SaveCheckpoint(ctx, req, 2, 2, "", position{})
	})
	if len(sent) != 0 {
		t.Errorf("got %d notifications, want none", len(sent))
	}
}

func TestLoadCheckpoint(t *testing.T) {
	load := func(t *testing.T, saved any) (state position, ok bool, err error) {
		callTool(t, mcp.Meta{task.MetaCheckpoint: saved}, func(_ context.Context, req *mcp.CallToolRequest) error {
			state, ok, err = longhaul.LoadCheckpoint[position](req)
			return nil
		})
		return state, ok, err
	}
	t.Run("null is none", func(t *testing.T) {
		if _, ok, err := load(t, nil); ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
	})
	t.Run("a state of another shape is an error and no state", func(t *testing.T) {
		state, ok, err := load(t, map[string]any{"line": 3, "sum": 4})
		if ok || err == nil || !reflect.DeepEqual(state, position{}) {
			t.Errorf("got %+v, %v, %v; want an error and the zero state", state, ok, err)
		}
	})
	t.Run("unknown fields are ignored", func(t *testing.T) {
		state, ok, err := load(t, map[string]any{"line": 3, "page": 4})
		if !ok || err != nil || state.Line != 3 {
			t.Errorf("got %+v, %v, %v", state, ok, err)
		}
	})
}

func TestReportingFails(t *testing.T) {
	t.Run("with a state that is not JSON", func(t *testing.T) {
		sent := callTool(t, withToken(nil), func(ctx context.Context, req *mcp.CallToolRequest) error {
			err := longhaul.SaveCheckpoint(ctx, req, 1, 0, "", math.Inf(1))
			if err == nil || !strings.Contains(err.Error(), "save checkpoint") {
				t.Errorf("error = %v", err)
			}
			return nil
		})
		if len(sent) != 0 {
			t.Errorf("got %d notifications, want none", len(sent))
		}
	})
	t.Run("once the call is cancelled", func(t *testing.T) {
		callTool(t, withToken(nil), func(ctx context.Context, req *mcp.CallToolRequest) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			if err := longhaul.Progress(ctx, req, 1, 0, ""); err == nil {
				t.Error("Progress succeeded with a cancelled context")
			}
			return nil
		})
	})
}
