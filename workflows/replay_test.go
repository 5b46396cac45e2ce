package workflows_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

var record = flag.Bool("record", false, "write the histories of this version to testdata, next to those of older ones")

// version names the histories that -record writes. Histories of released
// versions are never written again.
const version = "v0.1"

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// TestReplay replays every history that a released version may have left
// behind. A failure means that running tasks would get stuck at the next
// deploy: put the change behind workflow.GetVersion.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories to replay: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			workflows.Register(r, nil)
			if err := r.ReplayWorkflowHistoryFromJSONFile(quiet, file); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRecord writes the histories, from a real server.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("histories are only recorded with -record")
	}
	server, err := temporaltest.Start(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	c, err := client.Dial(client.Options{HostPort: server.Addr, Identity: "recorder", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)

	running := make(chan struct{}, 1)
	w := worker.New(c, task.DefaultTaskQueue, worker.Options{DisableEagerActivities: true})
	workflows.Register(w, nil)
	w.RegisterActivityWithOptions(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
		switch in.Tool {
		case "confirm":
			return confirm(ctx, in)
		case "error":
			return task.RoundResult{Error: &task.RPCError{Code: -32000, Message: "no"}}, nil
		case "lost":
			return task.RoundResult{}, errors.New("lost")
		case "again":
			if in.RequestState == "" {
				return task.RoundResult{NeedsInput: true, RequestState: "again"}, nil
			}
		case "flaky":
			if activity.GetInfo(ctx).Attempt == 1 {
				return task.RoundResult{}, errors.New("lost")
			}
		case "slow":
			running <- struct{}{}
			for ctx.Err() == nil {
				activity.RecordHeartbeat(ctx)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
			return task.RoundResult{}, ctx.Err()
		}
		return done(ctx, in)
	}, activity.RegisterOptions{Name: task.ActivityRound})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	// asking returns once the task waits for input: before that, answers are
	// for nobody. A query waits for the workflow task under way.
	asking := func(id string) {
		for {
			var p task.Projection
			v, err := c.QueryWorkflow(t.Context(), id, "", task.QueryTask)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Get(&p); err != nil {
				t.Fatal(err)
			}
			if p.State.Status == task.StatusInputRequired {
				return
			}
		}
	}
	answer := func(id string) {
		asking(id)
		_ = c.SignalWorkflow(t.Context(), id, "", task.SignalInput, task.InputSignal{
			Responses: map[string]json.RawMessage{"sure": json.RawMessage(`{"action":"accept"}`)},
		})
	}
	cancel := func(id string) {
		_ = c.SignalWorkflow(t.Context(), id, "", task.SignalCancel, task.CancelSignal{Reason: "recorded"})
	}
	for name, s := range map[string]struct {
		tool string
		in   func(*task.StartInput)
		do   func(id string)
	}{
		"plain":            {tool: "plain"},
		"decided":          {tool: "plain", in: func(in *task.StartInput) { in.Decided = task.ResultOutcome(json.RawMessage(`{"isError":true}`), true) }},
		"error":            {tool: "error"},
		"lost":             {tool: "lost"},
		"retried":          {tool: "flaky", in: func(in *task.StartInput) { in.Policy.Retry = true }},
		"called-again":     {tool: "again"},
		"answered":         {tool: "confirm", do: answer},
		"expired":          {tool: "confirm", in: func(in *task.StartInput) { in.Card.TTLMillis = 1000 }},
		"cancelled-asking": {tool: "confirm", do: func(id string) { asking(id); cancel(id) }},
		"cancelled-round":  {tool: "slow", do: func(id string) { <-running; cancel(id) }},
		"cancelled-run":    {tool: "slow", do: func(id string) { <-running; _ = c.CancelWorkflow(t.Context(), id, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now().UTC()
			in := task.StartInput{
				Card:         task.Card{Tool: s.tool, CreatedAt: now, TTLMillis: time.Hour.Milliseconds()},
				Capabilities: json.RawMessage(`{"elicitation":{}}`),
			}
			if s.in != nil {
				s.in(&in)
			}
			run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
				ID: name, TaskQueue: task.DefaultTaskQueue,
				Memo: map[string]any{task.MemoTask: in.Card, task.MemoState: task.InitialState(now)},
			}, task.WorkflowTask, in)
			if err != nil {
				t.Fatal(err)
			}
			if s.do != nil {
				s.do(name)
			}
			// However it ends: the history is what counts.
			_ = run.Get(t.Context(), nil)
			writeHistory(t, c, name)
		})
	}
}

func writeHistory(t *testing.T, c client.Client, id string) {
	t.Helper()
	var h historypb.History
	events := c.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	data, err := protojson.MarshalOptions{Multiline: true}.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	// The SDK names its sticky queues after the machine.
	host, _ := os.Hostname()
	data = bytes.ReplaceAll(data, []byte(host+":"), []byte("recorder:"))
	if err := os.WriteFile(filepath.Join("testdata", version+"-"+id+".json"), append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
