package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/activities"
	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/workflows"
)

var temporalAddr string

func TestMain(m *testing.M) {
	if how := os.Getenv(asServer); how != "" {
		failingServer(how)
		return
	}
	os.Exit(temporaltest.Main(m, &temporalAddr))
}

// reports passes everything on to Temporal's client and tells of it.
type reports struct {
	activities.Reporter
	onBeat     func(task.Heartbeat, error)
	onComplete func(error)
}

func (r *reports) RecordActivityHeartbeat(ctx context.Context, token []byte, details ...any) error {
	err := r.Reporter.RecordActivityHeartbeat(ctx, token, details...)
	if r.onBeat != nil {
		r.onBeat(details[0].(task.Heartbeat), err)
	}
	return err
}

func (r *reports) CompleteActivity(ctx context.Context, token []byte, result any, failed error) error {
	err := r.Reporter.CompleteActivity(ctx, token, result, failed)
	if r.onComplete != nil {
		r.onComplete(err)
	}
	return err
}

type fixture struct {
	client client.Client
	queue  string
	worker sdkworker.Worker
	set    *upstream.Set
	report *reports
	claims claims.Store
}

// setup runs a worker for the tools that add adds to a server in this process,
// and for those of more servers.
func setup(t *testing.T, addr string, add func(*mcp.Server), more ...upstream.Server) *fixture {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	add(s)
	set, err := upstream.New(upstream.Options{Servers: append(more, upstream.InProcess("test", s))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	if err := set.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{queue: uuid.NewString(), set: set}
	if f.claims, err = claims.OpenDir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	// Not temporaltest.Dial: the connection may be cut on purpose.
	f.client, err = client.DialContext(t.Context(), client.Options{
		HostPort: addr,
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	f.report = &reports{Reporter: f.client}
	f.startWorker(t)
	return f
}

func (f *fixture) startWorker(t *testing.T) {
	t.Helper()
	f.worker = sdkworker.New(f.client, f.queue, sdkworker.Options{
		WorkerStopTimeout:            20 * time.Second,
		StickyScheduleToStartTimeout: time.Second,
	})
	workflows.Register(f.worker, nil)
	activities.New(f.set, f.report, f.claims, slog.New(slog.DiscardHandler)).Register(f.worker)
	if err := f.worker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(f.worker.Stop))
}

func (f *fixture) start(t *testing.T, tool string, p task.Policy) client.WorkflowRun {
	t.Helper()
	return f.startWith(t, uuid.NewString(), task.StartInput{
		Card:   task.Card{Tool: tool, CreatedAt: time.Now(), TTLMillis: time.Hour.Milliseconds()},
		Policy: p,
	})
}

func (f *fixture) startWith(t *testing.T, id string, in task.StartInput) client.WorkflowRun {
	t.Helper()
	run, err := f.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: f.queue}, task.WorkflowTask, in)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// addTool adds a tool without arguments.
func addTool(s *mcp.Server, name string, h mcp.ToolHandler) {
	s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, h)
}

func resultText(t *testing.T, run client.WorkflowRun) string {
	t.Helper()
	var o task.Outcome
	if err := run.Get(t.Context(), &o); err != nil {
		t.Fatal(err)
	}
	var r struct{ Content []struct{ Text string } }
	if err := json.Unmarshal(o.Result, &r); err != nil || len(r.Content) == 0 {
		t.Fatalf("result %s: %v", o.Result, err)
	}
	return r.Content[0].Text
}

// TestTemporalAway takes Temporal away under two running rounds for longer
// than any of the SDK's own deadlines: one ends meanwhile, one runs through.
func TestTemporalAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := temporaltest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	// Nobody keeps its port free while it is away.
	link, err := tcpproxy.Listen(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)

	running := make(chan struct{}, 2)
	endMeanwhile, endAfter := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	tool := func(end <-chan struct{}) mcp.ToolHandler {
		return func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			runs.Add(1)
			running <- struct{}{}
			select {
			case <-end:
				return text("done"), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	f := setup(t, link.Addr(), func(s *mcp.Server) {
		addTool(s, "ends-meanwhile", tool(endMeanwhile))
		addTool(s, "runs-through", tool(endAfter))
	})
	failedBeats, undelivered := make(chan struct{}, 1000), make(chan struct{}, 1000)
	beatFailed := tellFailures(failedBeats)
	f.report.onBeat = func(_ task.Heartbeat, err error) { beatFailed(err) }
	f.report.onComplete = tellFailures(undelivered)

	a := f.start(t, "ends-meanwhile", task.Policy{})
	b := f.start(t, "runs-through", task.Policy{})
	<-running
	<-running
	server.Kill()
	close(endMeanwhile)
	// Each of the two rounds tries a beat for 5 s: 20 s without Temporal.
	for range 8 {
		<-failedBeats
	}
	<-undelivered
	server, err = temporaltest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	link.SetTarget(server.Addr)
	close(endAfter)

	if got := resultText(t, a); got != "done" {
		t.Errorf("the round that ended meanwhile: %q", got)
	}
	if got := resultText(t, b); got != "done" {
		t.Errorf("the round that ran through: %q", got)
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("two tools were run %d times", n)
	}
}

func tellFailures(c chan<- struct{}) func(error) {
	return func(err error) {
		if err != nil {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	t.Run("a retried round gets its checkpoint and the same idempotency key", func(t *testing.T) {
		var keys []string
		beats := make(chan struct{}, 1000)
		f := setup(t, temporalAddr, func(s *mcp.Server) {
			addTool(s, "resume", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				keys = append(keys, req.Params.Meta[task.MetaIdempotencyKey].(string))
				at, ok, err := longhaul.LoadCheckpoint[int](req)
				if err != nil || ok {
					return text("resumed"), err
				}
				if err := longhaul.SaveCheckpoint(ctx, req, 1, 2, "half", 1+at); err != nil {
					return nil, err
				}
				for range 2 { // The second beat began after the checkpoint was saved.
					<-beats
				}
				<-ctx.Done() // The worker stops.
				return nil, ctx.Err()
			})
		})
		first := make(chan struct{})
		var once sync.Once
		f.report.onBeat = func(task.Heartbeat, error) {
			select {
			case beats <- struct{}{}:
			default:
			}
			once.Do(func() { close(first) })
		}
		run := f.start(t, "resume", task.Policy{Retry: true})
		<-first
		f.worker.Stop()
		f.startWorker(t)
		if got := resultText(t, run); got != "resumed" {
			t.Errorf("got %q", got)
		}
		if len(keys) != 2 || keys[0] != keys[1] || keys[0] == "" {
			t.Errorf("idempotency keys %q", keys)
		}
	})

	t.Run("a round that may not be repeated is waited for when the worker stops", func(t *testing.T) {
		running, end := make(chan struct{}), make(chan struct{})
		f := setup(t, temporalAddr, func(s *mcp.Server) {
			addTool(s, "once", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				close(running)
				<-end
				return text("ended"), nil
			})
		})
		run := f.start(t, "once", task.Policy{})
		<-running
		stopped := make(chan struct{})
		go func() { f.worker.Stop(); close(stopped) }()
		close(end)
		<-stopped
		f.startWorker(t)
		if got := resultText(t, run); got != "ended" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("a tool that outlives its timeout is cancelled and the task fails saying so", func(t *testing.T) {
		cancelled := make(chan struct{})
		f := setup(t, temporalAddr, func(s *mcp.Server) {
			addTool(s, "slow", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				<-ctx.Done()
				close(cancelled)
				return nil, ctx.Err()
			})
		})
		o := f.failure(t, f.start(t, "slow", task.Policy{TimeoutMillis: 50}))
		<-cancelled
		if o.Kind != task.OutcomeError || o.Error.Code != task.CodeInternalError {
			t.Errorf("outcome %+v", o)
		}
	})

	t.Run("a cancel reaches the tool", func(t *testing.T) {
		running, cancelled := make(chan struct{}), make(chan struct{})
		f := setup(t, temporalAddr, func(s *mcp.Server) {
			addTool(s, "slow", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				close(running)
				<-ctx.Done()
				close(cancelled)
				return nil, ctx.Err()
			})
		})
		run := f.start(t, "slow", task.Policy{})
		<-running
		if err := f.client.SignalWorkflow(t.Context(), run.GetID(), "", task.SignalCancel, task.CancelSignal{}); err != nil {
			t.Fatal(err)
		}
		<-cancelled
		if o := f.failure(t, run); o.Kind != task.OutcomeCancelled {
			t.Errorf("outcome %+v", o)
		}
	})
}

// failure is the outcome of a task that did not complete.
func (f *fixture) failure(t *testing.T, run client.WorkflowRun) *task.Outcome {
	t.Helper()
	err := run.Get(t.Context(), nil)
	var details interface{ Details(...any) error }
	var o task.Outcome
	if !errors.As(err, &details) {
		t.Fatalf("the workflow ended with %v", err)
	}
	if err := details.Details(&o); err != nil {
		t.Fatal(err)
	}
	return &o
}
