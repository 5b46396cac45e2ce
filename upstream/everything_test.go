package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

func TestServerEverything(t *testing.T) {
	packages := npm.Need(t)
	kinds := map[string]func(t *testing.T) upstream.Server{
		"stdio": func(*testing.T) upstream.Server {
			return upstream.Command("everything", upstream.CommandOptions{Command: packages.Node, Args: []string{packages.Everything(), "stdio"}})
		},
		"http": func(t *testing.T) upstream.Server {
			server, err := upstream.HTTP("everything", packages.StartEverything(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			return server
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := oneServer(t, kind(t))
			asked := &person{}
			tool, ok := s.Lookup("trigger-long-running-operation")
			if !ok || !tool.Policy.Retry || strings.Contains(string(tool.Definition), "execution") {
				t.Fatalf("got %+v of %s", tool, names(s.Tools()))
			}
			if _, ok := s.Lookup("trigger-elicitation-request"); !ok {
				t.Error("tools that need a capability are not listed")
			}
			var progress []task.Progress
			r := call(t, s, upstream.Call{
				Tool: "trigger-long-running-operation", Arguments: json.RawMessage(`{"duration":1,"steps":4}`),
				// It asks for the roots of a client that has any, 350 ms after the start.
				Capabilities: json.RawMessage(everything),
				Ask:          asked.answer,
				OnProgress:   func(p task.Progress, _ json.RawMessage) { progress = append(progress, p) },
			})
			if got := text(t, r); !strings.Contains(got, "completed") {
				t.Errorf("got %s", got)
			}
			if len(progress) != 4 || progress[3] != (task.Progress{Progress: 4, Total: 4}) {
				t.Errorf("progress %+v", progress)
			}
			if len(asked.take()) != 0 {
				t.Error("a tool that needs no input made the caller be asked")
			}
			for _, c := range []struct{ tool, arguments, method, want string }{
				{"trigger-elicitation-request", `{}`, task.MethodElicit, "Favorite Color: red"},
				{"trigger-url-elicitation", `{"url":"https://example.com/"}`, task.MethodElicit, "completed the URL elicitation"},
				{"trigger-sampling-request", `{"prompt":"two and two"}`, task.MethodSample, "it is four"},
				{"get-roots-list", `{}`, task.MethodRoots, "file:///home/somebody"},
			} {
				r := call(t, s, upstream.Call{
					Tool: c.tool, Arguments: json.RawMessage(c.arguments), Capabilities: json.RawMessage(everything), Ask: asked.answer,
				})
				if got := text(t, r) + string(r.Result); !strings.Contains(got, c.want) {
					t.Errorf("%s: got %s", c.tool, got)
				}
				if got := asked.take(); !slices.Equal(got, []string{c.method}) {
					t.Errorf("%s asked %q", c.tool, got)
				}
			}
			if name == "stdio" { // over HTTP it forgets with the session that it has asked
				c := upstream.Call{
					Tool: "trigger-url-elicitation", Arguments: json.RawMessage(`{"url":"https://example.com/","errorPath":true}`),
					Capabilities: json.RawMessage(everything), Ask: asked.answer,
				}
				r := call(t, s, c)
				if !r.NeedsInput || len(r.Inputs) != 1 || len(asked.take()) != 0 {
					t.Fatalf("got %+v", r)
				}
				c.RequestState, c.Answers = r.RequestState, map[string]json.RawMessage{r.Inputs[0].Key: json.RawMessage(`{"action":"accept"}`)}
				if got := text(t, call(t, s, c)); !strings.Contains(got, "completed the URL elicitation") {
					t.Errorf("got %s", got)
				}
				asked.take()
			}
			for _, ambiguous := range []bool{false, true} {
				var stages []string
				r := call(t, s, upstream.Call{
					Tool: "simulate-research-query", Arguments: json.RawMessage(fmt.Sprintf(`{"topic":"python","ambiguous":%t}`, ambiguous)),
					Capabilities: json.RawMessage(everything), Ask: asked.answer,
					OnProgress: func(p task.Progress, _ json.RawMessage) { stages = append(stages, p.Message) },
				})
				got := text(t, r)
				if !strings.Contains(got, "# Research Report: python") || strings.Contains(got, "python (snake)") != ambiguous {
					t.Errorf("got %s", got)
				}
				if asks := asked.take(); slices.Equal(asks, []string{task.MethodElicit}) != ambiguous {
					t.Errorf("asked %q", asks)
				}
				// It is polled as often as its stages change, so one may be missed.
				if len(stages) < 2 {
					t.Errorf("stages %q", stages)
				}
			}
			t.Run("a task of a session that is gone", func(t *testing.T) {
				ctx, leave := context.WithCancelCause(t.Context())
				c := upstream.Call{Tool: "simulate-research-query", Arguments: json.RawMessage(`{"topic":"python"}`)}
				c.OnTask = func(handle json.RawMessage) {
					c.Resume = handle
					leave(upstream.ErrLeave)
				}
				if _, err := s.Call(ctx, c); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				if r := call(t, s, c); !strings.Contains(r.Unknown, "no longer knows its task") {
					t.Errorf("got %+v", r)
				}
			})
			// Not offered to a client that cannot be asked: the server's own answer.
			r = call(t, s, upstream.Call{Tool: "trigger-elicitation-request", Ask: asked.answer})
			if r.Error == nil && !r.IsError {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// person answers whatever is asked, and remembers it.
type person struct {
	mu    sync.Mutex
	asked []string
}

func (p *person) answer(_ context.Context, in task.InputRequest) (json.RawMessage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, in.Method)
	switch {
	case in.Method == task.MethodSample:
		return json.RawMessage(`{"role":"assistant","model":"m","content":{"type":"text","text":"it is four"}}`), nil
	case in.Method == task.MethodRoots:
		return json.RawMessage(`{"roots":[{"uri":"file:///home/somebody","name":"home"}]}`), nil
	case strings.Contains(string(in.Params), `"mode":"url"`):
		return json.RawMessage(`{"action":"accept"}`), nil
	case strings.Contains(string(in.Params), `"interpretation"`):
		return json.RawMessage(`{"action":"accept","content":{"interpretation":"snake"}}`), nil
	default:
		return json.RawMessage(`{"action":"accept","content":{"name":"Somebody","color":"red"}}`), nil
	}
}

// take returns the methods asked since the last time.
func (p *person) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}
