package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program when this variable is set, so that tests see
// what a user sees: flags, output, signals and exit codes.
const asProgram = "LONGHAUL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// fails runs the program, which has to exit with 1, and returns what it said.
func fails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := program(t, args...)
	// One that starts after all would run for ever.
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("longhaul %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// devArgs start dev on free ports.
func devArgs(dataDir string, more ...string) []string {
	return append([]string{
		"dev", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off",
		"--root", dataDir,
	}, more...)
}

// running is a started program that has said that it is ready.
type running struct {
	*exec.Cmd
	announced string
}

func startProgram(t *testing.T, args ...string) *running {
	t.Helper()
	p := &running{Cmd: program(t, args...)}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	p.Stderr = &stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return p
		}
		p.announced += lines.Text() + "\n"
	}
	_ = p.Wait()
	t.Fatalf("longhaul %s ended before it was ready:\n%s%s", strings.Join(args, " "), p.announced, stderr.String())
	return nil
}

// url is the address announced under a name.
func (p *running) url(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` +(\S+)$`).FindStringSubmatch(p.announced)
	if m == nil {
		t.Fatalf("no %q in\n%s", name, p.announced)
	}
	return m[1]
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestDev(t *testing.T) {
	t.Run("says where it is, serves, and stops on SIGTERM", func(t *testing.T) {
		p := startProgram(t, "dev", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
			"--temporal-addr", "127.0.0.1:0", "--ui-addr", "127.0.0.1:0")
		base := strings.TrimSuffix(p.url(t, "MCP endpoint"), "/mcp")
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, body := get(t, base+path); code != http.StatusOK {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		if code, body := get(t, p.url(t, "Temporal UI")); code != http.StatusOK || !strings.Contains(body, "<html") {
			t.Errorf("Temporal UI: %d %s", code, body)
		}
		if _, _, err := net.SplitHostPort(p.url(t, "Temporal gRPC")); err != nil {
			t.Error(err)
		}
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	})

	t.Run("a second process on the same data is turned away", func(t *testing.T) {
		dir := t.TempDir()
		startProgram(t, devArgs(dir)...)
		oneLine(t, fails(t, devArgs(dir)...), dir)
	})

	t.Run("a taken port is named, and the flag that changes it", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken := l.Addr().String()
		for _, flag := range []string{"--listen", "--temporal-addr", "--ui-addr"} {
			oneLine(t, fails(t, devArgs(t.TempDir(), flag, taken)...), taken, flag)
		}
	})

	t.Run("a damaged database is left as it is", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "temporal.db")
		data := bytes.Repeat([]byte("damage"), 10_000)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		oneLine(t, fails(t, devArgs(dir)...), file)
		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after, data) {
			t.Error("the damaged database was changed")
		}
	})
}

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"an unknown command":                {[]string{"serve"}, []string{"serve"}},
		"an unknown flag":                   {[]string{"dev", "--prot", "1"}, []string{"--prot"}},
		"an open address without tokens":    {devArgs(dir, "--listen", "0.0.0.0:0"), []string{"0.0.0.0:0", "tokens"}},
		"every interface without tokens":    {devArgs(dir, "--listen", ":0"), []string{"tokens"}},
		"an address that is none":           {devArgs(dir, "--listen", "8080"), []string{"8080"}},
		"a Temporal beyond loopback":        {devArgs(dir, "--temporal-addr", "0.0.0.0:0"), []string{"0.0.0.0"}},
		"an unknown key in the config":      {devArgs(dir, "--config", write("a.json", `{"mcpServers":{"x":{"comand":"y"}}}`)), []string{"mcpServers.x.comand"}},
		"an unknown key beside mcpServers":  {devArgs(dir, "--config", write("b.json", `{"mcpServers":{},"longhaul":{"tool":{}}}`)), []string{"longhaul.tool"}},
		"a config that is not there":        {devArgs(dir, "--config", filepath.Join(dir, "none.json")), []string{"none.json"}},
		"a bad token line, without telling": {devArgs(dir, "--tokens-file", write("tokens", "ann: 0123456789abcdef0123456789abcdef\nhunter2hunter2hunter2\n")), []string{"2"}},
		"an unknown log format":             {devArgs(dir, "--log-format", "xml"), []string{"xml"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := fails(t, c.args...)
			oneLine(t, said, c.says...)
			if strings.Contains(said, "hunter2") {
				t.Errorf("a secret was printed: %s", said)
			}
		})
	}
}

// oneLine checks that the program said one line, with all of these in it.
func oneLine(t *testing.T, said string, parts ...string) {
	t.Helper()
	if lines := strings.Split(strings.TrimRight(said, "\n"), "\n"); len(lines) != 1 {
		t.Errorf("want one line, got\n%s", said)
	}
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in: %s", part, said)
		}
	}
}

func TestFlagsFromTheEnvironment(t *testing.T) {
	cmd := program(t, "dev")
	cmd.Env = append(cmd.Env, "LONGHAUL_LISTEN=0.0.0.0:0", "LONGHAUL_DATA_DIR="+t.TempDir())
	out, _ := cmd.CombinedOutput()
	oneLine(t, string(out), "0.0.0.0:0")
}

func TestVersion(t *testing.T) {
	out, err := program(t, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "longhaul ") {
		t.Errorf("%q, %v", out, err)
	}
}
