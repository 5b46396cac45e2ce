package conformance_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
)

// TestServerEverything: the tools of a server nobody here wrote are tasks, and
// ask whoever calls them, by a configuration file alone.
func TestServerEverything(t *testing.T) {
	t.Parallel()
	packages := npm.Need(t)
	longhaul := filepath.Join(t.TempDir(), "longhaul")
	if out, err := exec.Command("go", "build", "-o", longhaul, "../cmd/longhaul").CombinedOutput(); err != nil {
		t.Fatalf("building longhaul: %v\n%s", err, out)
	}

	config, err := json.Marshal(object{"mcpServers": object{
		"stdio": object{"command": packages.Node, "args": []string{packages.Everything(), "stdio"}},
		"http":  object{"url": packages.StartEverything(t)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mcp.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startCommand(t, longhaul, "dev", "--config", file, "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off")

	for _, transport := range []string{"stdio", "http"} {
		for _, g := range generations {
			t.Run(transport+"/progress on "+g.name, func(t *testing.T) {
				t.Parallel()
				c := g.connect(t, s.url)
				id := c.create(transport+"__trigger-long-running-operation", object{"duration": 4, "steps": 4})
				await(t, c, id, "progress", func(s taskState) bool {
					return s.Status == "working" && strings.HasSuffix(s.StatusMessage, " of 4")
				})
				wantText(t, c, id, "Long running operation completed. Duration: 4 seconds, Steps: 4.")
			})
		}
		for _, kind := range callers {
			t.Run(transport+"/"+kind.name, func(t *testing.T) {
				t.Parallel()
				for _, tool := range everythingTools {
					t.Run(tool.name, func(t *testing.T) {
						var asked []string
						got, err := kind.connect(t, s.url).call(transport+"__"+tool.tool, tool.arguments, func(method string, _ json.RawMessage) object {
							asked = append(asked, method)
							return tool.answer
						})
						if kind.name == tool.not {
							if len(asked) > 0 || strings.Contains(got, tool.want) {
								t.Errorf("asked %q and got %q", asked, got)
							}
							return
						}
						if err != nil || !strings.Contains(got, tool.want) {
							t.Errorf("got %q and error %v, want %q", got, err, tool.want)
						}
						if !slices.Equal(asked, tool.asks) {
							t.Errorf("asked %q, want %q", asked, tool.asks)
						}
					})
				}
			})
		}
	}
}

// everythingTools are calls of server-everything.
var everythingTools = []struct {
	name      string
	tool      string
	arguments object
	asks      []string // methods
	answer    object
	want      string // is in the result
	not       string // the kind of caller that cannot be asked so
}{
	{
		name:      "long-running operation",
		tool:      "trigger-long-running-operation",
		arguments: object{"duration": 1, "steps": 4},
		want:      "Long running operation completed. Duration: 1 seconds, Steps: 4.",
	},
	{
		name:      "form",
		tool:      "trigger-elicitation-request",
		arguments: object{},
		asks:      []string{"elicitation/create"},
		answer:    object{"action": "accept", "content": object{"name": "Ada", "integer": 7}},
		want:      "- Name: Ada\n- Favorite Integer: 7",
	},
	{
		name:      "url",
		tool:      "trigger-url-elicitation",
		arguments: object{"url": "https://example.com/"},
		asks:      []string{"elicitation/create"},
		answer:    object{"action": "accept"},
		want:      "completed the URL elicitation",
		not:       "2025-06-18 call",
	},
	{
		name:      "sampling",
		tool:      "trigger-sampling-request",
		arguments: object{"prompt": "two and two"},
		asks:      []string{"sampling/createMessage"},
		answer:    object{"role": "assistant", "model": "m", "content": object{"type": "text", "text": "it is four"}},
		want:      "it is four",
	},
	{
		name:      "roots",
		tool:      "get-roots-list",
		arguments: object{},
		asks:      []string{"roots/list"},
		answer:    object{"roots": []object{{"uri": "file:///home/ada", "name": "home"}}},
		want:      "URI: file:///home/ada",
	},
	{
		name:      "research",
		tool:      "simulate-research-query",
		arguments: object{"topic": "python"},
		want:      "# Research Report: python\n",
	},
	{
		name:      "ambiguous research",
		tool:      "simulate-research-query",
		arguments: object{"topic": "python", "ambiguous": true},
		asks:      []string{"elicitation/create"},
		answer:    object{"action": "accept", "content": object{"interpretation": "snake"}},
		want:      "# Research Report: python (snake)",
	},
}
