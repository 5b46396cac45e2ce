package upstream_test

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// everything is Node and the script of @modelcontextprotocol/server-everything.
func everything(t *testing.T) (node, script string) {
	t.Helper()
	p := npm.Need(t)
	return p.Node, p.Path("@modelcontextprotocol", "server-everything", "dist", "index.js")
}

func TestServerEverything(t *testing.T) {
	node, script := everything(t)
	kinds := map[string]func(t *testing.T) upstream.Server{
		"stdio": func(*testing.T) upstream.Server {
			return upstream.Command("everything", upstream.CommandOptions{Command: node, Args: []string{script, "stdio"}})
		},
		"http": func(t *testing.T) upstream.Server {
			server, err := upstream.HTTP("everything", startEverything(t, node, script), nil)
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

// startEverything runs the server over streamable HTTP until the test ends.
func startEverything(t *testing.T, node, script string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(node, script, "streamableHttp")
	cmd.Env = append(os.Environ(), "PORT="+port)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "listening") {
			go func() { // until the process ends
				for lines.Scan() {
				}
			}()
			return "http://127.0.0.1:" + port + "/mcp"
		}
	}
	t.Fatal("server-everything did not start")
	return ""
}
