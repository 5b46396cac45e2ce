package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }

func connect(t *testing.T, p *programtest.Program) *taskclient.Client {
	t.Helper()
	c, err := taskclient.Connect(t.Context(), p.URL(t, "MCP endpoint"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGreetSurvivesTheEndOfTheProcess(t *testing.T) {
	dir := t.TempDir()
	p := programtest.Start(t, programtest.DevArgs(dir)...)
	id, err := connect(t, p).Create(t.Context(), "greet", input{Name: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()

	c := connect(t, programtest.Start(t, programtest.DevArgs(dir)...))
	var result struct{ StructuredContent output }
	if err := c.Result(t.Context(), id, &result); err != nil {
		t.Fatal(err)
	}
	if got := result.StructuredContent.Greeting; got != "Hello, Ada!" {
		t.Errorf("got %q", got)
	}
}

// Its tools are served beside those of a config, so their names must differ.
func TestServerOfTheSameName(t *testing.T) {
	config := filepath.Join(t.TempDir(), "mcp.json")
	if err := os.WriteFile(config, []byte(`{"mcpServers":{"hello":{"command":"hello"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	said := programtest.Fails(t, programtest.DevArgs(t.TempDir(), "--config", config, "--log-level", "error")...)
	if !strings.HasPrefix(said, "hello: ") || !strings.Contains(said, `two servers are named "hello"`) {
		t.Errorf("it said %q", said)
	}
}
