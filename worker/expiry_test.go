package worker_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/worker"
	"github.com/longhaul-mcp/longhaul/workflows"
)

var temporalAddr string

func TestMain(m *testing.M) { os.Exit(temporaltest.Main(m, &temporalAddr)) }

const owner task.Owner = "ann"

// setup is an engine and a worker, on a task queue of their own.
func setup(t *testing.T, change func(*worker.Options)) *engine.Engine {
	t.Helper()
	c := temporaltest.Dial(t, temporalAddr)
	e, err := engine.New(engine.Options{Client: c, TaskQueue: t.Name(), Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	o := worker.Options{Client: c, TaskQueue: t.Name(), StopTimeout: time.Second}
	change(&o)
	w := worker.New(o)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return e
}

// serve serves one tool, called "tool", of a server that has the protocol.
func serve(t *testing.T, protocol string, handler mcp.ToolHandler) *upstream.Set {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "tool", InputSchema: json.RawMessage(`{"type":"object"}`)}, handler)
	server := upstream.InProcess("test", s)
	server.Protocol = protocol
	set, err := upstream.New(upstream.Options{Servers: []upstream.Server{server}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	if err := set.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return set
}

// What has not ended when the task's time is over is told to, and the task has
// failed, whatever it was doing.
func TestExpiry(t *testing.T) {
	sure := &mcp.ElicitParams{Message: "Sure?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)}
	cancelled := make(chan string, 8) // tells which was
	for name, setUp := range map[string]struct {
		worker   func(*testing.T, *worker.Options)
		workflow string
		told     bool // there is something to be cancelled
	}{
		"a round": {worker: func(t *testing.T, o *worker.Options) {
			o.Upstream = serve(t, "", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				<-ctx.Done()
				cancelled <- "a round"
				return nil, ctx.Err()
			})
		}, told: true},
		"a round held by a request": {worker: func(t *testing.T, o *worker.Options) {
			o.Upstream = serve(t, upstream.Protocol2025, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				_, err := req.Session.Elicit(ctx, sure)
				if ctx.Err() == nil {
					<-ctx.Done() // The request was refused before the call was cancelled.
				}
				cancelled <- "a round held by a request"
				return nil, err
			})
		}, told: true},
		"a task that waits for input": {worker: func(t *testing.T, o *worker.Options) {
			o.Upstream = serve(t, "", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"sure": sure}}, nil
			})
		}},
		"a workflow tool": {worker: func(t *testing.T, o *worker.Options) {
			o.Upstream = serve(t, "", nil)
			o.Functions = map[string]workflows.Function{"process": func(ctx workflow.Context, _ json.RawMessage) (task.RoundResult, error) {
				err := workflow.Sleep(ctx, 24*time.Hour)
				cancelled <- "a workflow tool"
				return task.RoundResult{}, err
			}}
		}, workflow: "process", told: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t, func(o *worker.Options) { setUp.worker(t, o) })
			created, err := e.Create(t.Context(), task.CreateRequest{
				Owner: owner, Tool: "tool", TTL: 1500 * time.Millisecond, Workflow: setUp.workflow,
				Capabilities: json.RawMessage(`{"elicitation":{}}`),
			})
			if err != nil {
				t.Fatal(err)
			}
			var last *task.Task
			for last, err = range e.Watch(t.Context(), task.Ref{ID: created.ID, Owner: owner}, task.WatchOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if last.Status != task.StatusFailed || last.Outcome.Kind != task.OutcomeExpired {
				t.Errorf("ended as %+v", last)
			}
			if setUp.told {
				if got := <-cancelled; got != name {
					t.Errorf("cancelled: %s", got)
				}
			}
		})
	}
}
