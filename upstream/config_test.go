package upstream_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

func TestParseConfig(t *testing.T) {
	t.Run("reads what hosts write", func(t *testing.T) {
		c, err := upstream.ParseConfig(strings.NewReader(`{
			"$schema": "https://example.com/schema",
			"mcpServers": {
				"zeta": {"type": "stdio", "command": "npx", "args": ["-y", "x"], "env": {"A": "b"}, "cwd": "/tmp", "alwaysAllow": ["t"], "timeout": 60},
				"alpha": {"type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer x"}},
				"beta": {"type": "streamable-http", "url": "https://example.com/mcp"},
				"off": {"command": "x", "args": ["${NOT_SET_ANYWHERE}"], "disabled": true}
			},
			"longhaul": {
				"servers": {"zeta": {"protocol": "2025-11-25"}},
				"tools": {"zeta__t": {"taskSupport": "required", "timeout": "1m30s", "retry": "never", "input": "before-task"}, "x": {}}
			}
		}`))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range c.Servers {
			got = append(got, s.Name+" "+s.Protocol)
		}
		if want := []string{"zeta 2025-11-25", "alpha ", "beta "}; !reflect.DeepEqual(got, want) {
			t.Errorf("servers %q", got)
		}
		want := map[string]upstream.ToolOptions{
			"zeta__t": {Support: task.SupportRequired, Timeout: 90 * time.Second, Retry: upstream.RetryNever, Input: task.InputBeforeTask},
			"x":       {},
		}
		if !reflect.DeepEqual(c.Tools, want) {
			t.Errorf("tools %+v", c.Tools)
		}
	})
	t.Run("expands the environment", func(t *testing.T) {
		t.Setenv("UPSTREAM_TEST_ARG", "from env")
		t.Setenv("UPSTREAM_TEST_EMPTY", "")
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("UPSTREAM_TEST_EXE", exe)
		path := filepath.Join(t.TempDir(), "mcp.json")
		config := `{"mcpServers": {"x": {"command": "${UPSTREAM_TEST_EXE}", "args": ["-test.run=${UPSTREAM_TEST_UNSET:-^$}"], "env": {
			"` + serveVar + `": "${UPSTREAM_TEST_EMPTY:-sdk}", "LANG": "${env:UPSTREAM_TEST_ARG}${UPSTREAM_TEST_EMPTY}"}}}}`
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := upstream.LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		s := oneServer(t, c.Servers[0])
		if o := seen(t, s, upstream.Call{Tool: "seen"}); o.Env["LANG"] != "from env" {
			t.Errorf("got %v", o.Env)
		}
	})
	for name, test := range map[string]struct{ config, want string }{
		"not JSON":               {`{"mcpServers": }`, "it is not valid JSON: invalid character '}' looking for beginning of value"},
		"not an object":          {`[]`, "must be an object"},
		"unknown member":         {`{"mcpServer": {}}`, "mcpServer: there is no such setting"},
		"unknown server member":  {`{"mcpServers": {"x": {"command": "y", "foo": 1}}}`, "mcpServers.x.foo: there is no such setting"},
		"case differs":           {`{"mcpServers": {"x": {"Command": "y"}}}`, "mcpServers.x.Command: there is no such setting"},
		"twice":                  {`{"mcpServers": {"x": {"command": "y"}, "x": {"command": "z"}}}`, "mcpServers.x: is there twice"},
		"command and url":        {`{"mcpServers": {"x": {"command": "y", "url": "http://z"}}}`, "mcpServers.x: it has both a command and a url"},
		"neither":                {`{"mcpServers": {"x": {"type": "stdio"}}}`, "mcpServers.x: it has neither a command nor a url"},
		"sse":                    {`{"mcpServers": {"x": {"type": "sse", "url": "http://z"}}}`, `mcpServers.x: the "sse" transport is not supported`},
		"unknown type":           {`{"mcpServers": {"x": {"type": "ws", "url": "http://z"}}}`, `mcpServers.x: its type must be "stdio" or "http"`},
		"type of the other kind": {`{"mcpServers": {"x": {"type": "http", "command": "y"}}}`, `mcpServers.x: it has a command, but its type is "http"`},
		"headers of a command":   {`{"mcpServers": {"x": {"command": "y", "headers": {}}}}`, "mcpServers.x: headers are for a url"},
		"wrong type":             {`{"mcpServers": {"x": {"command": "y", "args": "secret"}}}`, "mcpServers.x.args: must be a list of strings, not string"},
		"bad url":                {`{"mcpServers": {"x": {"url": "secret"}}}`, `server "x": its url is not an absolute http or https URL`},
		"variable missing":       {`{"mcpServers": {"x": {"command": "y", "args": ["a", "${NOT_SET_ANYWHERE}"]}}}`, "mcpServers.x.args[1]: the environment variable NOT_SET_ANYWHERE is not set"},
		"variable of a host":     {`{"mcpServers": {"x": {"url": "http://z", "headers": {"A": "${input:token}"}}}}`, "mcpServers.x.headers.A: ${input:token} is not an environment variable"},
		"unknown tool setting":   {`{"longhaul": {"tools": {"t": {"retries": "1"}}}}`, "longhaul.tools.t.retries: there is no such setting"},
		"bad support":            {`{"longhaul": {"tools": {"t": {"taskSupport": "maybe"}}}}`, `longhaul.tools.t.taskSupport: must be one of ["optional" "required" "forbidden"]`},
		"bad timeout":            {`{"longhaul": {"tools": {"t": {"timeout": "10"}}}}`, "longhaul.tools.t.timeout: must be a duration"},
		"bad protocol":           {`{"mcpServers": {"x": {"command": "y"}}, "longhaul": {"servers": {"x": {"protocol": "2024-11-05"}}}}`, "longhaul.servers.x.protocol: unknown protocol"},
		"protocol of nobody":     {`{"longhaul": {"servers": {"x": {"protocol": "2025-11-25"}}}}`, "longhaul.servers.x: there is no such server"},
	} {
		t.Run("refuses: "+name, func(t *testing.T) {
			_, err := upstream.ParseConfig(strings.NewReader(test.config))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("a value in %v", err)
			}
		})
	}
}

func TestNew(t *testing.T) {
	command := func(name string) upstream.Server {
		return upstream.Command(name, upstream.CommandOptions{Command: "x"})
	}
	old := command("a")
	old.Protocol = "2024-11-05"
	for name, servers := range map[string][]upstream.Server{
		"two servers of one name":    {command("a"), command("a")},
		"a server without a name":    {command("a"), command("")},
		"a server that is nothing":   {{Name: "a"}},
		"a protocol without meaning": {old},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			if _, err := upstream.New(upstream.Options{Servers: servers}); err == nil {
				t.Error("no error")
			}
		})
	}
}
