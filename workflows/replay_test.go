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
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

var record = flag.Bool("record", false, "write the histories of this code to testdata/unreleased")

// unreleased is where -record writes. See testdata/README.md.
const unreleased = "testdata/unreleased"

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// functions are the tools that are workflow functions, by their names in the
// histories.
var functions = map[string]workflows.Function{
	"process": workflowtool.New(&mcp.Tool{Name: "process"}, process).Function(),
}

type processInput struct {
	Second bool `json:"second,omitempty"`
}

// process does a bit of everything, in two runs.
func process(ctx workflow.Context, in processInput) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteActivity(ctx, "step").Get(ctx, nil); err != nil {
		return "", err
	}
	if err := workflowtool.Progress(ctx, 1, 2, "half of it"); err != nil {
		return "", err
	}
	if err := workflow.Sleep(ctx, 10*time.Millisecond); err != nil {
		return "", err
	}
	answer, err := workflowtool.Elicit[struct{}](ctx, "Sure?")
	switch {
	case err != nil:
		ctx, _ = workflow.NewDisconnectedContext(ctx)
		return "", errors.Join(err, workflow.ExecuteActivity(ctx, "step").Get(ctx, nil))
	case in.Second:
		return answer.Action, nil
	default:
		return "", workflowtool.ContinueAsNew(processInput{Second: true})
	}
}

// confirmHeld asks while its round runs.
func confirmHeld(ctx context.Context, c client.Client, in task.RoundInput) (task.RoundResult, error) {
	ask := task.AskInput{Round: in.Round, Request: task.InputRequest{
		Key: "r1-sure", Method: task.MethodElicit, Params: json.RawMessage(`{"message":"Sure?"}`),
	}}
	update, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: activity.GetInfo(ctx).WorkflowExecution.ID, UpdateID: ask.Request.Key, UpdateName: task.UpdateAsk,
		Args: []any{ask}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return task.RoundResult{}, err
	}
	var answer task.AskAnswer
	if err := update.Get(ctx, &answer); err != nil {
		return task.RoundResult{}, err
	}
	return task.RoundResult{Result: answer.Response}, nil
}

// TestReplay replays every history that a released version may have left
// behind. A failure means that running tasks would get stuck at the next
// deploy: put the change behind workflow.GetVersion.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories to replay: %v", err)
	}
	if stray, _ := filepath.Glob("testdata/*.json"); len(stray) > 0 {
		t.Errorf("%v belong to no version: move them to %s", stray, unreleased)
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			workflows.Register(r, functions)
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
	server, err := temporaltest.Start(t.TempDir())
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
	workflows.Register(w, functions)
	w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "step"})
	w.RegisterActivityWithOptions(func(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
		switch in.Tool {
		case "confirm":
			return confirm(ctx, in)
		case "held":
			return confirmHeld(ctx, c, in)
		case "claimed":
			return task.RoundResult{ResultClaim: in.ArgumentsClaim}, nil
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
	w.RegisterActivityWithOptions(func(context.Context, task.SweepRange) (task.SweepResult, error) {
		return task.SweepResult{Deleted: 3}, nil
	}, activity.RegisterOptions{Name: task.ActivitySweep})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	t.Run("sweep", func(t *testing.T) {
		run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "sweep", TaskQueue: task.DefaultTaskQueue},
			task.WorkflowSweep, task.SweepInput{GraceMillis: 1000})
		if err != nil {
			t.Fatal(err)
		}
		_ = run.Get(t.Context(), nil)
		writeHistory(t, c, "sweep", "", "sweep")
	})

	// asking returns the key of what the task asks once it does: before that,
	// answers are for nobody. A query waits for the workflow task under way.
	asking := func(id string) (key string) {
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
				return p.State.Inputs[0].Key
			}
		}
	}
	signal := func(id string, in task.InputSignal) { _ = c.SignalWorkflow(t.Context(), id, "", task.SignalInput, in) }
	answer := func(id string) (key string) {
		key = asking(id)
		signal(id, task.InputSignal{Responses: map[string]json.RawMessage{key: json.RawMessage(`{"action":"accept"}`)}})
		return key
	}
	refuse := func(id string) (key string) {
		key = asking(id)
		signal(id, task.InputSignal{
			Responses: map[string]json.RawMessage{key: json.RawMessage(`{"action":"maybe"}`)},
			Refused:   map[string]string{key: "that is no answer"},
		})
		return key
	}
	askingOther := func(id, key string) {
		for asking(id) == key {
		}
	}
	cancel := func(id string) {
		_ = c.SignalWorkflow(t.Context(), id, "", task.SignalCancel, task.CancelSignal{Reason: "recorded"})
	}
	process := func(in *task.StartInput) { in.Workflow = "process" }
	for name, s := range map[string]struct {
		tool string
		in   func(*task.StartInput)
		do   func(id string)
	}{
		"plain":   {tool: "plain"},
		"decided": {tool: "plain", in: func(in *task.StartInput) { in.Decided = task.ResultOutcome(json.RawMessage(`{"isError":true}`), true) }},
		"claimed": {tool: "claimed", in: func(in *task.StartInput) {
			in.ArgumentsClaim = &task.Claim{Size: 1 << 20, SHA256: strings.Repeat("0", 64)}
		}},
		"error":            {tool: "error"},
		"lost":             {tool: "lost"},
		"retried":          {tool: "flaky", in: func(in *task.StartInput) { in.Policy.Retry = true }},
		"called-again":     {tool: "again"},
		"answered":         {tool: "confirm", do: func(id string) { answer(id) }},
		"expired":          {tool: "confirm", in: func(in *task.StartInput) { in.Card.TTLMillis = 1000 }},
		"cancelled-asking": {tool: "confirm", do: func(id string) { asking(id); cancel(id) }},
		"cancelled-round":  {tool: "slow", do: func(id string) { <-running; cancel(id) }},
		"cancelled-run":    {tool: "slow", do: func(id string) { <-running; _ = c.CancelWorkflow(t.Context(), id, "") }},

		"held":           {tool: "held", do: func(id string) { answer(id) }},
		"held-refused":   {tool: "held", do: func(id string) { askingOther(id, refuse(id)); answer(id) }},
		"held-cancelled": {tool: "held", do: func(id string) { asking(id); cancel(id) }},

		"process":           {tool: "process", in: process, do: func(id string) { askingOther(id, answer(id)); answer(id) }},
		"process-refused":   {tool: "process", in: process, do: func(id string) { askingOther(id, refuse(id)); askingOther(id, answer(id)); answer(id) }},
		"process-cancelled": {tool: "process", in: process, do: func(id string) { asking(id); cancel(id) }},
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
			writeHistory(t, c, name, "", name)
			last, err := c.DescribeWorkflowExecution(t.Context(), name, "")
			if err != nil {
				t.Fatal(err)
			}
			if info := last.GetWorkflowExecutionInfo(); info.GetFirstRunId() != info.GetExecution().GetRunId() {
				writeHistory(t, c, name, info.GetFirstRunId(), name+"-first-run")
			}
		})
	}
}

func writeHistory(t *testing.T, c client.Client, id, runID, name string) {
	t.Helper()
	var h historypb.History
	events := c.GetWorkflowHistory(t.Context(), id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
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
	if err := os.WriteFile(filepath.Join(unreleased, name+".json"), append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
