package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// abandoned is a task that asks, and whose worker has left.
func (f *fixture) abandoned(round roundFunc) (task.Ref, *task.Task) {
	f.t.Helper()
	w := worker.New(f.client, f.queue, worker.Options{})
	workflows.Register(w, nil)
	w.RegisterActivityWithOptions(round, activity.RegisterOptions{Name: task.ActivityRound})
	if err := w.Start(); err != nil {
		f.t.Fatal(err)
	}
	defer w.Stop()
	ref := f.create()
	return ref, f.await(ref, inputRequired)
}

// Whoever has answered is not asked again, although nobody has taken the
// answer in.
func TestAnswersWithoutWorker(t *testing.T) {
	f := setup(t)
	ref, asked := f.abandoned(func(context.Context, task.RoundInput) (task.RoundResult, error) {
		ask := func(key string) task.InputRequest {
			return task.InputRequest{Key: key, Method: task.MethodElicit, Params: json.RawMessage(`{"message":"` + key + `?"}`)}
		}
		return task.RoundResult{NeedsInput: true, Inputs: []task.InputRequest{ask("a"), ask("b")}}, nil
	})

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

// An answer that is refused leads to a new request, which those are told of who
// came when no worker had made it yet.
func TestRefusedAnswerWithoutWorker(t *testing.T) {
	f := setup(t)
	ref, asked := f.abandoned(askOnce)

	bad := map[string]json.RawMessage{asked.Inputs[0].Key: json.RawMessage(`{"action":"perhaps"}`)}
	if err := f.Answer(t.Context(), ref, bad); err != nil {
		t.Fatal(err)
	}
	// The one knows of the answer, the other reads of it.
	other := f.behind(t, f.polls.count)
	for name, e := range map[string]*engine.Engine{"the process that took the answer": f.Engine, "another": other} {
		if now, err := e.Get(t.Context(), ref); err != nil || now.Status != task.StatusWorking || now.Rev != asked.Rev {
			t.Errorf("%s shows %+v, error %v", name, now, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	next, stop := iter.Pull2(other.Watch(ctx, ref, task.WatchOptions{}))
	defer stop()
	if now, err, _ := next(); err != nil || now.Status != task.StatusWorking {
		t.Fatalf("begins with %+v, error %v", now, err)
	}
	f.work(askOnce)
	now, err, ok := next()
	if !ok || err != nil || !inputRequired(now) || now.Inputs[0].Key == asked.Inputs[0].Key {
		t.Fatalf("asked under %q, and then got %+v, error %v", asked.Inputs[0].Key, now, err)
	}
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
	return f.behind(t, refuse)
}

// behind is another engine, all of whose requests go through the interceptor.
func (f *fixture) behind(t *testing.T, i grpc.UnaryClientInterceptor) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{Client: dial(t, temporalAddr, i), TaskQueue: f.queue, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// A worker that comes just when a process looks for answers that nobody has
// taken in has taken them in: whoever gave one is not asked again.
func TestAnswersTakenInMeanwhile(t *testing.T) {
	f := setup(t)
	round := func(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
		if in.Round > 1 {
			return done("ok"), nil
		}
		return ask("a"), nil
	}
	ref, asked := f.abandoned(round)

	var meanwhile sync.Once
	other := f.behind(t, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		if _, looks := req.(*workflowservice.GetWorkflowExecutionHistoryReverseRequest); looks {
			meanwhile.Do(func() {
				f.work(round)
				f.await(ref, terminal)
			})
		}
		return invoke(ctx, method, req, reply, cc, o...)
	})
	if err := f.Answer(t.Context(), ref, answers(asked.Inputs[0].Key)); err != nil {
		t.Fatal(err)
	}
	got, err := other.Get(t.Context(), ref)
	if err != nil || got.Status != task.StatusCompleted || len(got.Inputs) > 0 {
		t.Errorf("got %+v, error %v", got, err)
	}
}
