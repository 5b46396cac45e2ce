package activities_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// The test binary is a stdio server when this variable is set; its value says
// how it fails once the tool is called.
const asServer = "ACTIVITIES_TEST_SERVER"

// callsDir, set in its environment too, makes the server answer none of the
// calls of the first deploys workers, die at the next one, and answer those after
// it. The directory has a file for each call.
const callsDir = "ACTIVITIES_TEST_CALLS"

const deploys = 5

func recordCall(dir string) int {
	if _, err := os.CreateTemp(dir, "call"); err != nil {
		panic(err)
	}
	return countCalls(dir)
}

func countCalls(dir string) int {
	files, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	return len(files)
}

// failingServer speaks just enough MCP to be listed and called.
func failingServer(how string) {
	lines := bufio.NewScanner(os.Stdin)
	calls := 0
	for lines.Scan() {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(lines.Bytes(), &m)
		reply := func(result string) { fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, result) }
		switch m.Method {
		case "initialize":
			reply(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"failing","version":"1"}}`)
		case "tools/list":
			reply(`{"tools":[{"name":"` + how + `","inputSchema":{"type":"object"}}]}`)
		case "tools/call":
			if how == "prints-rubbish" {
				fmt.Println("Segmentation fault, or so")
				continue
			}
			if dir := os.Getenv(callsDir); dir != "" {
				calls = recordCall(dir)
			}
			if calls > deploys+1 {
				reply(`{"content":[{"type":"text","text":"back again"}]}`)
				continue
			}
			if 0 < calls && calls <= deploys {
				continue // and never answer
			}
			fmt.Fprintln(os.Stderr, "out of cheese")
			os.Exit(3)
		default:
			if m.ID != nil {
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`+"\n", m.ID)
			}
		}
	}
}

// TestFailingTools: whatever a tool does, its own task fails and says why, and
// the worker and every other task go on.
func TestFailingTools(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	running, end := make(chan struct{}), make(chan struct{})
	good := func(s *mcp.Server) {
		addTool(s, "good", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			close(running)
			<-end
			return text("unimpressed"), nil
		})
		addTool(s, "panics", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { panic("oh no") })
		addTool(s, "returns-nothing", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil })
	}
	servers := []upstream.Server{}
	for _, how := range []string{"dies", "prints-rubbish"} {
		servers = append(servers, upstream.Command("x"+how, upstream.CommandOptions{Command: self, Env: map[string]string{asServer: how}}))
	}
	f := setup(t, temporalAddr, good, servers...)
	other := f.start(t, "test__good", task.Policy{})
	<-running

	for _, c := range []struct {
		tool string
		kind task.OutcomeKind
		says string
	}{
		{"test__panics", task.OutcomeError, "oh no"},
		{"test__returns-nothing", task.OutcomeError, "returned neither a result nor an error"},
		{"xdies__dies", task.OutcomeUnknown, "out of cheese"},
		{"xprints-rubbish__prints-rubbish", task.OutcomeUnknown, "Segmentation fault, or so"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			o := f.failure(t, f.start(t, c.tool, task.Policy{}))
			if o.Kind != c.kind || !strings.Contains(o.Message, c.says) {
				t.Errorf("outcome %+v, want %s and a message with %q", o, c.kind, c.says)
			}
		})
	}

	t.Run("one that may be repeated is, and then given up", func(t *testing.T) {
		run := f.start(t, "xdies__dies", task.Policy{Retry: true})
		o := f.failure(t, run)
		if o.Kind != task.OutcomeError || !strings.Contains(o.Message, "5 attempts") || !strings.Contains(o.Message, "out of cheese") {
			t.Errorf("outcome %+v", o)
		}
	})

	close(end)
	if got := resultText(t, other); got != "unimpressed" {
		t.Errorf("the other task: %q", got)
	}
}

// The workers that were stopped under a round do not count as failures of its
// upstream, nor do they make its next start later.
func TestDeploysAreNoFailuresOfTheUpstream(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := setup(t, temporalAddr, func(*mcp.Server) {}, upstream.Command("x", upstream.CommandOptions{
		Command: self, Env: map[string]string{asServer: "dies", callsDir: dir},
	}))
	run := f.start(t, "x__dies", task.Policy{Retry: true})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range deploys {
		for countCalls(dir) <= n {
			<-tick.C
		}
		f.worker.Stop()
		d, err := f.client.DescribeWorkflowExecution(t.Context(), run.GetID(), "")
		if err != nil {
			t.Fatal(err)
		}
		round := d.GetPendingActivities()[0]
		if wait := round.GetCurrentRetryInterval().AsDuration().Round(time.Second); wait != time.Second {
			t.Errorf("attempt %d begins %s after the one before", round.GetAttempt(), wait)
		}
		f.startWorker(t)
	}
	if got := resultText(t, run); got != "back again" {
		t.Errorf("got %q", got)
	}
}
