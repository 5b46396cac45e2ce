package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// asking is a server of the 2025 protocol with a tool that asks while it runs.
func asking(handler mcp.ToolHandler) upstream.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "asking", Version: "1"}, nil)
	addTool(s, "ask", handler)
	server := upstream.InProcess("asking", s)
	server.Protocol = upstream.Protocol2025
	return server
}

// askSure asks whether one is sure and returns the action.
func askSure(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	answer, err := req.Session.Elicit(ctx, &mcp.ElicitParams{
		Message: "Sure?",
		RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{
			"name": map[string]any{"type": "string"},
		}, "required": []string{"name"}},
	})
	if err != nil {
		return nil, err
	}
	return text(answer.Action), nil
}

func textOf(r *mcp.CallToolResult) string { return r.Content[0].(*mcp.TextContent).Text }

func none(*mcp.Server) {}

// startAsking calls the tool for a client that declares capabilities.
func (f *fixture) startAsking(t *testing.T, capabilities string, p task.Policy) client.WorkflowRun {
	t.Helper()
	run, err := f.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: uuid.NewString(), TaskQueue: f.queue},
		task.WorkflowTask, task.StartInput{
			Card:         task.Card{Tool: "asking__ask", CreatedAt: time.Now(), TTLMillis: time.Hour.Milliseconds()},
			Capabilities: json.RawMessage(capabilities),
			Policy:       p,
		})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// await asks for the state until ok: a query waits for the workflow task under way.
func (f *fixture) await(t *testing.T, run client.WorkflowRun, ok func(task.State) bool) task.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := f.query(ctx, run)
		if err != nil && ctx.Err() == nil && isTimeout(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var p task.Projection
		if err := v.Get(&p); err != nil {
			t.Fatal(err)
		}
		if ok(p.State) {
			return p.State
		}
		<-tick.C
	}
}

// query asks once. Temporal may hand a query to a poll of a worker that has just
// stopped, and it is not handed to another one then: it is lost.
func (f *fixture) query(ctx context.Context, run client.WorkflowRun) (converter.EncodedValue, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return f.client.QueryWorkflow(ctx, run.GetID(), "", task.QueryTask)
}

func isTimeout(err error) bool {
	_, ok := errors.AsType[*serviceerror.DeadlineExceeded](err)
	return ok || errors.Is(err, context.DeadlineExceeded)
}

func asked(s task.State) bool { return len(s.Inputs) > 0 }

func (f *fixture) answer(t *testing.T, run client.WorkflowRun, s task.InputSignal) {
	t.Helper()
	if err := f.client.SignalWorkflow(t.Context(), run.GetID(), "", task.SignalInput, s); err != nil {
		t.Fatal(err)
	}
}

func responses(key, response string) task.InputSignal {
	return task.InputSignal{Responses: map[string]json.RawMessage{key: json.RawMessage(response)}}
}

// The requests of a running round become requests of its task.
func TestAsk(t *testing.T) {
	t.Parallel()
	const elicitation = `{"elicitation":{}}`

	t.Run("holds the round until the answer", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(askSure))
		run := f.startAsking(t, elicitation, task.Policy{})
		s := f.await(t, run, asked)
		if s.Status != task.StatusInputRequired || s.Inputs[0].Method != task.MethodElicit {
			t.Errorf("asks %+v", s)
		}
		f.answer(t, run, responses(s.Inputs[0].Key, `{"action":"decline"}`))
		if got := resultText(t, run); got != "decline" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("asks again what was not answered acceptably, and cancels at last", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(askSure))
		run := f.startAsking(t, elicitation, task.Policy{})
		seen := map[string]bool{}
		for i := range 3 {
			s := f.await(t, run, func(s task.State) bool { return asked(s) && !seen[s.Inputs[0].Key] })
			var p struct{ Message string }
			if err := json.Unmarshal(s.Inputs[0].Params, &p); err != nil {
				t.Fatal(err)
			}
			want := "Sure?"
			if i > 0 {
				want += "\n\nThe last answer could not be accepted: it lacks a name"
			}
			if p.Message != want {
				t.Errorf("asked %q, want %q", p.Message, want)
			}
			seen[s.Inputs[0].Key] = true
			bad := responses(s.Inputs[0].Key, `{"action":"accept"}`)
			bad.Refused = map[string]string{s.Inputs[0].Key: "it lacks a name"}
			f.answer(t, run, bad)
		}
		if got := resultText(t, run); got != "cancel" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("asks once, though the worker stops meanwhile", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(askSure))
		run := f.startAsking(t, elicitation, task.Policy{Retry: true})
		before := f.await(t, run, asked)
		f.worker.Stop()
		// The answer comes while no worker is there.
		f.answer(t, run, responses(before.Inputs[0].Key, `{"action":"decline"}`))
		f.startWorker(t)
		if got := resultText(t, run); got != "decline" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("asks anew, though in the same words, after a checkpoint", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			first, ok, err := longhaul.LoadCheckpoint[string](req)
			if err != nil {
				return nil, err
			}
			r, err := askSure(ctx, req)
			if err != nil {
				return nil, err
			}
			if ok {
				return text(first + " " + textOf(r)), nil
			}
			if err := longhaul.SaveCheckpoint(ctx, req, 1, 2, "", textOf(r)); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		saved := make(chan struct{})
		var once sync.Once
		f.report.onBeat = func(h task.Heartbeat, err error) {
			if err == nil && h.Checkpoint != nil {
				once.Do(func() { close(saved) })
			}
		}
		run := f.startAsking(t, elicitation, task.Policy{Retry: true})
		first := f.await(t, run, asked).Inputs[0].Key
		f.answer(t, run, responses(first, `{"action":"decline"}`))
		<-saved
		f.worker.Stop()
		f.startWorker(t)
		second := f.await(t, run, asked).Inputs[0].Key
		f.answer(t, run, responses(second, `{"action":"cancel"}`))
		if got := resultText(t, run); got != "decline cancel" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("what is too large for Temporal fails alone", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{
				Message:         strings.Repeat("?", 3<<20),
				RequestedSchema: map[string]any{"type": "object"},
			})
			return text(fmt.Sprint(err)), nil
		}))
		run := f.startAsking(t, elicitation, task.Policy{})
		if got := resultText(t, run); !strings.Contains(got, "at most 131072 can be kept") {
			t.Errorf("got %q", got)
		}
	})

	t.Run("what there was no room for may be asked again when there is", func(t *testing.T) {
		most := strings.Repeat("?", task.MaxInputsBytes*2/3)
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			type reply struct {
				question string
				err      error
			}
			replies := make(chan reply, 2)
			elicit := func(question string) {
				_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: question + most, RequestedSchema: map[string]any{"type": "object"}})
				replies <- reply{question, err}
			}
			go elicit("first")
			go elicit("second")
			refused := <-replies // the other one waits for its answer
			if answered := <-replies; refused.err == nil || answered.err != nil {
				return nil, fmt.Errorf("the one got %w, the other %w", refused.err, answered.err)
			}
			elicit(refused.question)
			return text(fmt.Sprint((<-replies).err)), nil
		}))
		run := f.startAsking(t, elicitation, task.Policy{})
		seen := map[string]bool{}
		for range 2 {
			in := f.await(t, run, func(s task.State) bool { return asked(s) && !seen[s.Inputs[0].Key] }).Inputs[0]
			seen[in.Key] = true
			f.answer(t, run, responses(in.Key, `{"action":"decline"}`))
		}
		if got := resultText(t, run); got != "<nil>" {
			t.Errorf("the second time: %s", got)
		}
	})

	t.Run("goes on under the same key after a stop", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(askSure))
		run := f.startAsking(t, elicitation, task.Policy{Retry: true})
		before := f.await(t, run, asked)
		f.worker.Stop()
		f.startWorker(t)
		after := f.await(t, run, asked)
		if before.Inputs[0].Key != after.Inputs[0].Key || len(after.Inputs) != 1 {
			t.Errorf("asked under %q, then %+v", before.Inputs[0].Key, after.Inputs)
		}
		f.answer(t, run, responses(after.Inputs[0].Key, `{"action":"decline"}`))
		if got := resultText(t, run); got != "decline" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("the tool's timeout does not run meanwhile", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			// A second round trip, so that the timeout has to run on as well.
			if _, err := askSure(ctx, req); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		const timeout = 300 * time.Millisecond
		run := f.startAsking(t, elicitation, task.Policy{TimeoutMillis: timeout.Milliseconds()})
		s := f.await(t, run, asked)
		// Beyond the timeout, it still waits.
		<-time.After(2 * timeout)
		if s := f.await(t, run, func(task.State) bool { return true }); !asked(s) {
			t.Fatalf("no longer asks: %+v", s)
		}
		f.answer(t, run, responses(s.Inputs[0].Key, `{"action":"decline"}`))
		err := run.Get(t.Context(), nil)
		if err == nil {
			t.Error("the timeout did not end the tool after the answer")
		}
	})

	t.Run("a cancel releases it", func(t *testing.T) {
		ended := make(chan error, 1)
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			r, err := askSure(ctx, req)
			ended <- err
			return r, err
		}))
		run := f.startAsking(t, elicitation, task.Policy{})
		f.await(t, run, asked)
		if err := f.client.SignalWorkflow(t.Context(), run.GetID(), "", task.SignalCancel, task.CancelSignal{}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil {
			t.Error("the tool got an answer")
		}
		if s := f.await(t, run, func(s task.State) bool { return s.Status.Terminal() }); s.Status != task.StatusCancelled {
			t.Errorf("ended %+v", s)
		}
	})

	t.Run("several at once are answered in any order", func(t *testing.T) {
		f := setup(t, temporalAddr, none, asking(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			type reply struct {
				action string
				err    error
			}
			replies := []chan reply{make(chan reply, 1), make(chan reply, 1)}
			for i, q := range []string{"first", "second"} {
				go func() {
					a, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: q, RequestedSchema: map[string]any{"type": "object"}})
					if err != nil {
						replies[i] <- reply{err: err}
						return
					}
					replies[i] <- reply{action: a.Action}
				}()
			}
			a, b := <-replies[0], <-replies[1]
			if err := errors.Join(a.err, b.err); err != nil {
				return nil, err
			}
			return text(a.action + " " + b.action), nil
		}))
		run := f.startAsking(t, elicitation, task.Policy{})
		s := f.await(t, run, func(s task.State) bool { return len(s.Inputs) == 2 })
		key := map[string]string{}
		for _, in := range s.Inputs {
			var p struct{ Message string }
			if err := json.Unmarshal(in.Params, &p); err != nil {
				t.Fatal(err)
			}
			key[p.Message] = in.Key
		}
		f.answer(t, run, responses(key["second"], `{"action":"cancel"}`))
		f.answer(t, run, responses(key["second"], `{"action":"decline"}`)) // too late
		f.answer(t, run, responses(key["first"], `{"action":"decline"}`))
		if got := resultText(t, run); got != "decline cancel" {
			t.Errorf("got %q", got)
		}
	})
}
