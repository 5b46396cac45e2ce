package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path"
	"slices"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// Whoever has answered is not asked again, although nobody has taken the
// answer in.
func TestAnswersWithoutWorker(t *testing.T) {
	f := setup(t)
	w := worker.New(f.client, f.queue, worker.Options{})
	workflows.Register(w, nil)
	w.RegisterActivityWithOptions(func(context.Context, task.RoundInput) (task.RoundResult, error) {
		ask := func(key string) task.InputRequest {
			return task.InputRequest{Key: key, Method: task.MethodElicit, Params: json.RawMessage(`{"message":"` + key + `?"}`)}
		}
		return task.RoundResult{NeedsInput: true, Inputs: []task.InputRequest{ask("a"), ask("b")}}, nil
	}, activity.RegisterOptions{Name: task.ActivityRound})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	ref := f.create()
	asked := f.await(ref, inputRequired)
	w.Stop()

	other, err := engine.New(engine.Options{Client: f.client, TaskQueue: f.queue, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	check := func(rev int64, status task.Status, message string, keys ...string) {
		t.Helper()
		for _, e := range []*engine.Engine{f.Engine, other} {
			got, err := e.Get(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != status || got.StatusMessage != message || got.Rev != rev || len(got.Inputs) != len(keys) {
				t.Errorf("got %+v", got)
			}
			for i := range min(len(keys), len(got.Inputs)) {
				if got.Inputs[i].Key != keys[i] {
					t.Errorf("request %d is %q, not %q", i, got.Inputs[i].Key, keys[i])
				}
			}
		}
	}
	check(asked.Rev, task.StatusInputRequired, "Waiting for input: a?; b?", "a", "b")
	for _, key := range []string{"a", "no such key"} {
		if err := f.Answer(t.Context(), ref, answers(key)); err != nil {
			t.Fatal(err)
		}
	}
	check(asked.Rev+1, task.StatusInputRequired, "Waiting for input: b?", "b")
	if err := other.Answer(t.Context(), ref, answers("b")); err != nil {
		t.Fatal(err)
	}
	check(asked.Rev+2, task.StatusWorking, "")

	t.Run("when Temporal gives the query up", func(t *testing.T) {
		e := f.failing(t, "QueryWorkflow")
		got, err := e.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != task.StatusWorking {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("or else cannot be read", func(t *testing.T) {
		e := f.failing(t, "QueryWorkflow", "GetWorkflowExecutionHistoryReverse")
		got, err := e.Get(t.Context(), ref)
		if !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("got %+v and error %v", got, err)
		}
	})
}

// failing is another engine, to which Temporal answers the methods with an error.
func (f *fixture) failing(t *testing.T, methods ...string) *engine.Engine {
	t.Helper()
	refuse := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		if slices.Contains(methods, path.Base(method)) {
			return status.Error(codes.Unavailable, "refused by the test")
		}
		return invoke(ctx, method, req, reply, cc, o...)
	}
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort:          temporalAddr,
		Logger:            slog.New(slog.DiscardHandler),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(refuse)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	e, err := engine.New(engine.Options{Client: c, TaskQueue: f.queue, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}
