package conformance_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
)

// TestServerEverything: the tools of a server nobody here wrote are tasks, by
// a configuration file alone.
func TestServerEverything(t *testing.T) {
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

	for _, g := range generations {
		for _, transport := range []string{"stdio", "http"} {
			t.Run(g.name+" over "+transport, func(t *testing.T) {
				c := g.connect(t, s.url)
				id := c.create(transport+"__trigger-long-running-operation", object{"duration": 4, "steps": 4})
				await(t, c, id, "progress", func(s taskState) bool {
					return s.Status == "working" && strings.HasSuffix(s.StatusMessage, " of 4")
				})
				wantText(t, c, id, "Long running operation completed. Duration: 4 seconds, Steps: 4.")
			})
		}
	}
}
