package longhaul

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/longhaul-mcp/longhaul/upstream"
)

// What these tests run ends before it needs an engine: none is linked here.
// Package cmd/longhaul tests what runs.

func newServer() *mcp.Server {
	return mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
}

// hello is a program with a server of its own.
func hello() Options { return Options{Name: "hello", Version: "1.2.3", Server: newServer()} }

// withDemo is a program that has only tools to try.
func withDemo() Options {
	return Options{Demo: func(string, *slog.Logger) (*mcp.Server, error) { return newServer(), nil }}
}

// output runs a program to its end.
func output(t *testing.T, o Options, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	code = run(t.Context(), o, args, &out, &err)
	return code, out.String(), err.String()
}

// fails runs a program, which has to say why it fails, in one line.
func fails(t *testing.T, o Options, args ...string) string {
	t.Helper()
	code, stdout, stderr := output(t, o, args...)
	if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	return stderr
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in: %s", part, text)
		}
	}
}

func devArgs(dataDir string, more ...string) []string {
	return append([]string{"dev", "--data-dir", dataDir, "--listen", "127.0.0.1:0"}, more...)
}

func writeFile(t *testing.T, name, content string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRunHasTheAuthorsName(t *testing.T) {
	t.Run("in the help", func(t *testing.T) {
		_, help, _ := output(t, hello(), "--help")
		contains(t, help, "hello [command]", `"hello dev"`, "dev", "temporal", "api", "worker", "healthcheck", "version")
		_, help, _ = output(t, hello(), "dev", "--help")
		contains(t, help, "hello dev --config mcp.json", `/hello")`)
	})
	t.Run("in errors", func(t *testing.T) {
		contains(t, fails(t, hello(), "serve"), "hello: ", "serve")
	})
	t.Run("in the version", func(t *testing.T) {
		_, version, _ := output(t, hello(), "version")
		if want := "hello 1.2.3 (" + runtime.Version(); !strings.HasPrefix(version, want) {
			t.Errorf("got %q, want %q", version, want)
		}
	})
	t.Run("or Longhaul's", func(t *testing.T) {
		_, version, _ := output(t, Options{}, "version")
		contains(t, version, "longhaul ")
	})
}

func TestRunRefusesBadSettings(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"an unknown command":                    {[]string{"serve"}, []string{"serve"}},
		"an unknown flag":                       {[]string{"dev", "--prot", "1"}, []string{"--prot"}},
		"an open address without tokens":        {devArgs(dir, "--listen", "0.0.0.0:0"), []string{"0.0.0.0:0", "tokens"}},
		"every interface without tokens":        {devArgs(dir, "--listen", ":0"), []string{"tokens"}},
		"an address that is none":               {devArgs(dir, "--listen", "8080"), []string{"8080"}},
		"an unknown key in the config":          {devArgs(dir, "--config", writeFile(t, "a.json", `{"mcpServers":{"x":{"comand":"y"}}}`)), []string{"mcpServers.x.comand"}},
		"an unknown key beside mcpServers":      {devArgs(dir, "--config", writeFile(t, "b.json", `{"mcpServers":{},"longhaul":{"tool":{}}}`)), []string{"longhaul.tool"}},
		"a config that is not there":            {devArgs(dir, "--config", filepath.Join(dir, "none.json")), []string{"none.json"}},
		"a bad token line, without telling":     {devArgs(dir, "--tokens-file", writeFile(t, "tokens", "ann: 0123456789abcdef0123456789abcdef\nhunter2hunter2hunter2\n")), []string{"2"}},
		"an unknown log format":                 {devArgs(dir, "--log-format", "xml"), []string{"xml"}},
		"a default lifetime above the longest":  {devArgs(dir, "--ttl", "48h", "--ttl-max", "24h"), []string{"48h", "24h", "lower --ttl or raise --ttl-max"}},
		"a default lifetime below the shortest": {devArgs(dir, "--ttl", "1s", "--ttl-min", "1m"), []string{"raise --ttl or lower --ttl-min"}},
		"a lifetime without a unit":             {devArgs(dir, "--ttl", "60"), []string{"--ttl"}},
		"dev without an engine":                 {devArgs(dir), []string{"TEMPORAL_ADDRESS", "longhaul/devserver"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []Options{hello(), withDemo()} {
				said := fails(t, o, c.args...)
				contains(t, said, c.says...)
				if strings.Contains(said, "hunter2") {
					t.Errorf("a secret was printed: %s", said)
				}
			}
		})
	}
}

func TestRunTakesFlagsFromTheEnvironment(t *testing.T) {
	t.Setenv("LONGHAUL_LISTEN", "0.0.0.0:0")
	t.Setenv("LONGHAUL_DATA_DIR", t.TempDir())
	contains(t, fails(t, hello(), "dev"), "0.0.0.0:0")
	contains(t, fails(t, hello(), "dev", "--listen", "0.0.0.0:1"), "0.0.0.0:1")
}

func TestOptionsAreTheDefaultsOfFlags(t *testing.T) {
	o := hello()
	o.Listen = "127.0.0.1:9000"
	o.KeyFile = "the.key"
	o.DataDir = "the-data"
	o.AllowedHosts = []string{"tools.example.com"}
	o.TaskQueue = "the-queue"

	t.Run("as the help says", func(t *testing.T) {
		_, help, _ := output(t, o, "dev", "--help")
		contains(t, help, o.Listen, o.KeyFile, o.DataDir, o.AllowedHosts[0], o.TaskQueue)
		_, help, _ = output(t, o, "healthcheck", "--help")
		contains(t, help, "http://127.0.0.1:9000/readyz")
	})
	t.Run("over the environment, over the options", func(t *testing.T) {
		t.Setenv("LONGHAUL_DATA_DIR", "env-data")
		t.Setenv("LONGHAUL_TASK_QUEUE", "env-queue")
		got := parse(t, o, "dev", "--task-queue", "flag-queue", "--allowed-host", "other.example.com")
		want := map[string]string{
			"listen": o.Listen, "key-file": o.KeyFile, "data-dir": "env-data",
			"task-queue": "flag-queue", "allowed-host": "[other.example.com]",
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("--%s is %q, want %q", name, got[name], value)
			}
		}
	})
	t.Run("but the endpoint's address is not the worker's", func(t *testing.T) {
		if got := parse(t, o, "worker"); got["listen"] != "" {
			t.Errorf("a worker serves its health on %s", got["listen"])
		}
	})
}

// parse returns the values of a command's flags, by name.
func parse(t *testing.T, o Options, command string, args ...string) map[string]string {
	t.Helper()
	root := newRoot(o)
	cmd, _, err := root.Find([]string{command})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { got[f.Name] = f.Value.String() })
		return nil
	}
	root.SetArgs(append([]string{command}, args...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFlagsThatDependOnTheProgram(t *testing.T) {
	own, demo, logs := hello(), withDemo(), hello()
	own.Demo = demo.Demo
	logs.Logger = slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		options Options
		flag    string
		want    bool
	}{
		"a demo can be confined":                     {demo, "root", true},
		"a program with a server shows no demo":      {own, "root", false},
		"what is logged can be chosen":               {own, "log-level", true},
		"unless the program has a logger of its own": {logs, "log-level", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := parse(t, c.options, "dev")[c.flag]; got != c.want {
				t.Errorf("--%s: %v, want %v", c.flag, got, c.want)
			}
		})
	}
}

func TestServers(t *testing.T) {
	config := &upstream.Config{
		Servers: []upstream.Server{upstream.InProcess("files", newServer())},
		Tools:   map[string]upstream.ToolOptions{"hello__greet": {Timeout: 2}, "files__read": {Timeout: 3}},
	}
	names := func(o Options) (names []string) {
		for _, s := range o.servers() {
			names = append(names, s.Name)
		}
		return names
	}
	t.Run("the program's own is called like the program", func(t *testing.T) {
		o := hello()
		o.Protocol = upstream.Protocol2025
		if got := o.servers(); len(got) != 1 || got[0].Name != "hello" || got[0].Protocol != upstream.Protocol2025 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("those of a config come beside it", func(t *testing.T) {
		if got, want := names(hello().with(config)), []string{"hello", "files"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("a config has the last word on tools, under the names they have then", func(t *testing.T) {
		o := hello()
		o.Tools = map[string]upstream.ToolOptions{"greet": {Timeout: 1}, "part": {Timeout: 1}}
		want := map[string]upstream.ToolOptions{"hello__greet": {Timeout: 2}, "hello__part": {Timeout: 1}, "files__read": {Timeout: 3}}
		if got := o.with(config).Tools; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("a config without servers renames nothing", func(t *testing.T) {
		o := hello()
		o.Tools = map[string]upstream.ToolOptions{"greet": {Timeout: 1}}
		if got := o.with(&upstream.Config{}).Tools; !maps.Equal(got, o.Tools) {
			t.Errorf("got %v", got)
		}
	})
}

func TestReadyURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080/readyz",
		"localhost:80":   "http://localhost:80/readyz",
		"[::1]:8080":     "http://[::1]:8080/readyz",
		"0.0.0.0:8080":   "http://127.0.0.1:8080/readyz",
		":8080":          "http://127.0.0.1:8080/readyz",
	} {
		if got := readyURL(addr); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}
