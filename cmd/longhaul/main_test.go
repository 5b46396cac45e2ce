package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }

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
		p := programtest.Start(t, "dev", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
			"--temporal-addr", "127.0.0.1:0", "--ui-addr", "127.0.0.1:0")
		base := strings.TrimSuffix(p.URL(t, "MCP endpoint"), "/mcp")
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, body := get(t, base+path); code != http.StatusOK {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		if code, body := get(t, p.URL(t, "Temporal UI")); code != http.StatusOK || !strings.Contains(body, "<html") {
			t.Errorf("Temporal UI: %d %s", code, body)
		}
		if _, _, err := net.SplitHostPort(p.URL(t, "Temporal gRPC")); err != nil {
			t.Error(err)
		}
		if out, err := programtest.Command(t, "healthcheck", "--url", base+"/readyz").CombinedOutput(); err != nil {
			t.Errorf("healthcheck: %v\n%s", err, out)
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
		programtest.Start(t, programtest.DevArgs(dir)...)
		oneLine(t, programtest.Fails(t, programtest.DevArgs(dir)...), dir)
	})

	t.Run("a taken port is named, and the flag that changes it", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken := l.Addr().String()
		for _, flag := range []string{"--listen", "--temporal-addr", "--ui-addr"} {
			oneLine(t, programtest.Fails(t, programtest.DevArgs(t.TempDir(), flag, taken)...), taken, flag)
		}
	})

	t.Run("Temporal stays on loopback", func(t *testing.T) {
		oneLine(t, programtest.Fails(t, programtest.DevArgs(t.TempDir(), "--temporal-addr", "0.0.0.0:0")...), "0.0.0.0")
	})

	t.Run("a damaged database is left as it is", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "temporal.db")
		data := bytes.Repeat([]byte("damage"), 10_000)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		oneLine(t, programtest.Fails(t, programtest.DevArgs(dir)...), file)
		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after, data) {
			t.Error("the damaged database was changed")
		}
	})
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

func TestWrongUse(t *testing.T) {
	oneLine(t, programtest.Fails(t, "serve"), "longhaul: ", "serve")
	oneLine(t, programtest.Fails(t, "dev", "--prot", "1"), "longhaul: ", "--prot")
}

func TestVersion(t *testing.T) {
	out, err := programtest.Command(t, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "longhaul ") {
		t.Errorf("%q, %v", out, err)
	}
}
