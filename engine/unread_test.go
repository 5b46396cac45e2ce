package engine_test

import (
	"context"
	"encoding/json"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

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
}
