package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/heapfloor"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/worker"
	"github.com/longhaul-mcp/longhaul/workflows"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// roleLonghaul is Longhaul in one process, as dev puts it together, but for the
// Temporal, which is the one that the other side uses too. Its replies after the
// first say how many requests Temporal has had so far.
const roleLonghaul = "longhaul"

// served is where a process that was started can be reached.
type served struct{ Endpoint string }

func runLonghaul(ctx context.Context, r *role) error {
	var at place
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	defer heapfloor.Raise(128 << 20)() // as the command api does
	var count requests
	c, err := at.dial(ctx, count.intercept)
	if err != nil {
		return err
	}
	defer c.Close()
	quiet := slog.New(slog.DiscardHandler)
	tools, instant := benchTools(), instantTool()
	instant.List(tools)
	server := upstream.InProcess("bench", tools)
	server.Workflows = map[string]time.Duration{instant.Name(): instant.CleanupTimeout}
	set, err := upstream.New(upstream.Options{Servers: []upstream.Server{server}, Logger: quiet})
	if err != nil {
		return err
	}
	defer set.Close()
	if err := set.Start(ctx); err != nil {
		return err
	}
	w := worker.New(worker.Options{
		Client: c, Upstream: set, Functions: map[string]workflows.Function{instant.Name(): instant.Function()},
		TaskQueue: at.TaskQueue, BuildID: "bench", Logger: quiet,
	})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	key := bytes.Repeat([]byte("k"), api.KeySize)
	tasks, err := engine.New(engine.Options{Client: c, TaskQueue: at.TaskQueue, BuildID: "bench", Key: key, Logger: quiet})
	if err != nil {
		return err
	}
	defer tasks.Close()
	front, err := api.New(api.Options{Tasks: tasks, Catalogue: set, Key: key, Logger: quiet})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	listener := &http.Server{Handler: front.Handler()}
	defer listener.Close()
	go func() { _ = listener.Serve(l) }()
	if err := r.out.Encode(served{"http://" + l.Addr().String() + "/mcp"}); err != nil {
		return err
	}
	return serve(r, func(struct{}) (int64, error) { return count.n.Load(), nil })
}

// roleProgram is the program of Longhaul with the tools of the measurements: its
// arguments are a command of it.
const roleProgram = "program"

func runProgram(context.Context, *role) error {
	if code := longhaul.Run(longhaul.Options{Name: "bench", Server: benchTools()}); code != 0 {
		return fmt.Errorf("exit code %d", code)
	}
	return nil
}

// startCommand starts an api or a worker of Longhaul at that Temporal. All of a
// stage share their key.
func (s *stage) startCommand(t *temporal, command string, args ...string) (pid int, endpoint string, err error) {
	all := append([]string{s.self, command, "--data-dir", filepath.Join(s.dir, s.name), "--log-level", "warn"}, args...)
	if command == "api" {
		all = append(all, "--listen", "127.0.0.1:0")
	}
	return s.startProgram(command, append(s.env(roleProgram), "TEMPORAL_ADDRESS="+t.addr), all...)
}

// The tools of the measurements.
const (
	toolNothing = "nothing" // does nothing
	toolInstant = "instant" // the same, as a workflow function
	toolWait    = "wait"    // waits until it is cancelled
	toolEnd     = "end"     // ends after a while, and says when
	toolAsk     = "ask"     // asks whether its caller is sure
)

// instantTool is a workflow function that does nothing: the cheapest tool there
// is.
func instantTool() workflowtool.Tool {
	return workflowtool.New(&mcp.Tool{Name: toolInstant}, func(workflow.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
}

func benchTools() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	add := func(name string, handle mcp.ToolHandler) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, handle)
	}
	add(toolNothing, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil
	})
	add(toolWait, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	add(toolEnd, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var in endInput
		if err := json.Unmarshal(r.Params.Arguments, &in); err != nil {
			return nil, err
		}
		at, err := endAfter(ctx, in.After)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: at}}}, err
	})
	add(toolAsk, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"sure": &mcp.ElicitParams{
			Mode: "form", Message: "Sure?",
			RequestedSchema: json.RawMessage(`{"type":"object","properties":{"sure":{"type":"boolean"}}}`),
		}}}, nil
	})
	return s
}
