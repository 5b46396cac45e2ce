package conformance_test

import (
	"bufio"
	"encoding/json"
	"net"
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
	script := packages.Path("@modelcontextprotocol", "server-everything", "dist", "index.js")
	longhaul := filepath.Join(t.TempDir(), "longhaul")
	if out, err := exec.Command("go", "build", "-o", longhaul, "../cmd/longhaul").CombinedOutput(); err != nil {
		t.Fatalf("building longhaul: %v\n%s", err, out)
	}

	config, err := json.Marshal(object{"mcpServers": object{
		"stdio": object{"command": packages.Node, "args": []string{script, "stdio"}},
		"http":  object{"url": startEverything(t, packages.Node, script)},
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

// startEverything runs server-everything over streamable HTTP until the test
// ends, and returns its address. It cannot choose a free port by itself.
func startEverything(t *testing.T, node, script string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(node, script, "streamableHttp")
	cmd.Env = append(os.Environ(), "PORT="+port)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	listening := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(stderr)
		for said := false; lines.Scan(); {
			if !said && strings.Contains(lines.Text(), "listening") {
				said = true
				close(listening)
			}
		}
	}()
	select {
	case <-listening:
	case <-drained:
		t.Fatal("server-everything did not start")
	}
	return "http://127.0.0.1:" + port + "/mcp"
}
