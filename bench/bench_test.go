// Package bench compares Longhaul with what it stands on, side by side in one
// run. It prints ratios: the machine's own speed cancels out.
//
//	go test -run '^$' -bench . ./bench
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/worker"
)

var temporalAddr string

func TestMain(m *testing.M) { os.Exit(temporaltest.Main(m, &temporalAddr)) }

// BenchmarkCreateToResult takes a call from its creation to its result in
// hand: a workflow with one activity on the bare Temporal SDK, and a 2025
// task over HTTP (tools/call, then tasks/result) with an in-process tool that
// does the same: nothing. Both start eagerly, on one engine.
func BenchmarkCreateToResult(b *testing.B) {
	bare, long := newBare(b), newLonghaul(b)
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			perOp := map[string]float64{}
			for _, side := range []struct {
				name   string
				call   func(context.Context) (id string, err error)
				client client.Client
			}{{"bare", bare.call, bare.client}, {"longhaul", long.call, long.client}} {
				b.Run(side.name, func(b *testing.B) {
					var id atomic.Value
					parallel(b, clients, func() error {
						last, err := side.call(b.Context())
						id.Store(last)
						return err
					})
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
					b.ReportMetric(float64(historyEvents(b, side.client, id.Load().(string))), "events/task")
					perOp[side.name] = b.Elapsed().Seconds() / float64(b.N)
				})
			}
			if len(perOp) == 2 {
				fmt.Printf("clients=%d: Longhaul's throughput is %.2f of bare Temporal's\n", clients, perOp["bare"]/perOp["longhaul"])
			}
		})
	}
}

// parallel runs b.N calls from a number of clients.
func parallel(b *testing.B, clients int, call func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

func historyEvents(b *testing.B, c client.Client, id string) int {
	events := c.GetWorkflowHistory(b.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	n := 0
	for events.HasNext() {
		if _, err := events.Next(); err != nil {
			b.Fatal(err)
		}
		n++
	}
	return n
}

// bareTemporal is the same work without Longhaul.
type bareTemporal struct {
	client client.Client
	queue  string
}

func newBare(b *testing.B) *bareTemporal {
	t := &bareTemporal{client: temporaltest.Dial(b, temporalAddr), queue: uuid.NewString()}
	w := sdkworker.New(t.client, t.queue, sdkworker.Options{
		WorkflowTaskPollerBehavior: sdkworker.NewPollerBehaviorAutoscaling(sdkworker.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior: sdkworker.NewPollerBehaviorAutoscaling(sdkworker.PollerBehaviorAutoscalingOptions{}),
	})
	w.RegisterActivityWithOptions(func(context.Context, string) (string, error) { return "done", nil },
		activity.RegisterOptions{Name: "nothing"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		err = workflow.ExecuteActivity(ctx, "nothing", in).Get(ctx, &out)
		return out, err
	}, workflow.RegisterOptions{Name: "bare"})
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	return t
}

func (t *bareTemporal) call(ctx context.Context) (string, error) {
	run, err := t.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: uuid.NewString(), TaskQueue: t.queue, EnableEagerStart: true,
	}, "bare", "{}")
	if err != nil {
		return "", err
	}
	return run.GetID(), run.Get(ctx, nil)
}

// longhaulServer is Longhaul as dev puts it together, but for the engine,
// which is the one that bare Temporal uses too.
type longhaulServer struct {
	client client.Client
	tasks  *taskclient.Client
}

func newLonghaul(b *testing.B) *longhaulServer {
	l := &longhaulServer{client: temporaltest.Dial(b, temporalAddr)}
	quiet := slog.New(slog.DiscardHandler)
	queue := uuid.NewString()

	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "nothing", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil
		})
	set, err := upstream.New(upstream.Options{Servers: []upstream.Server{upstream.InProcess("bench", s)}, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = set.Close() })
	if err := set.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	w := worker.New(worker.Options{Client: l.client, Upstream: set, TaskQueue: queue, Logger: quiet})
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	key := bytes.Repeat([]byte("k"), api.KeySize)
	tasks, err := engine.New(engine.Options{Client: l.client, TaskQueue: queue, Key: key, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(tasks.Close)
	front, err := api.New(api.Options{Tasks: tasks, Catalogue: set, Key: key, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(front.Handler())
	b.Cleanup(server.Close)
	if l.tasks, err = taskclient.Connect(b.Context(), server.URL+"/mcp"); err != nil {
		b.Fatal(err)
	}
	return l
}

func (l *longhaulServer) call(ctx context.Context) (string, error) {
	id, err := l.tasks.Create(ctx, "nothing", map[string]any{})
	if err != nil {
		return "", err
	}
	return id, l.tasks.Result(ctx, id, nil)
}
