package upstream_test

import (
	"encoding/json"
	"strings"
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
			s := oneServer(t, kind(t))
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
				Capabilities: json.RawMessage(`{"roots":{},"elicitation":{}}`),
				OnProgress:   func(p task.Progress, _ json.RawMessage) { progress = append(progress, p) },
			})
			if got := text(t, r); !strings.Contains(got, "completed") {
				t.Errorf("got %s", got)
			}
			if len(progress) != 4 || progress[3] != (task.Progress{Progress: 4, Total: 4}) {
				t.Errorf("progress %+v", progress)
			}
			r = call(t, s, upstream.Call{Tool: "trigger-elicitation-request", Capabilities: json.RawMessage(`{"elicitation":{}}`)})
			if r.Error == nil || !strings.Contains(r.Error.Message, "asked for input (elicitation/create)") {
				t.Errorf("got %+v", r)
			}
			// Not offered to a client that cannot be asked: the server's own answer.
			r = call(t, s, upstream.Call{Tool: "trigger-elicitation-request"})
			if r.Error == nil && !r.IsError {
				t.Errorf("got %+v", r)
			}
		})
	}
}
