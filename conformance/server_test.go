// Package conformance checks Longhaul from outside: by the official suite, by
// the official clients of both generations, and by killing it.
//
// Most of it runs against the command in ./server, as a process of its own that
// can be killed.
package conformance_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
)

// binary is the server, built by TestMain.
var binary string

func TestMain(m *testing.M) {
	if dir := os.Getenv(recordsEnv); dir != "" {
		os.Exit(recorder(dir))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "longhaul-conformance-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "server")
	// Never with the race detector: a Temporal built with it is too slow.
	if out, err := exec.Command("go", "build", "-o", binary, "./server").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the server: %v\n%s", err, out)
		return 1
	}
	// A worker in this process keeps the coroutines of no more than a few of the
	// workflows it may hear of again, instead of 10,000. Others are replayed.
	worker.SetStickyWorkflowCacheSize(10)
	return m.Run()
}

// server is a running server. It is stopped when the test ends.
type server struct {
	t       *testing.T
	command []string // what is run, but for its address and data
	dataDir string
	// front is between clients and the server, which is found there again when it
	// was started anew: nobody keeps the port of a killed process free.
	front *tcpproxy.Proxy
	url   string

	cmd    *exec.Cmd
	stdout io.ReadCloser
	log    *syncBuffer
}

// startServer starts a server on a database of its own and any free port.
func startServer(t *testing.T) *server {
	t.Helper()
	return startCommand(t, binary)
}

// startCommand is startServer for another program.
func startCommand(t *testing.T, command ...string) *server {
	t.Helper()
	s := &server{t: t, command: command, dataDir: t.TempDir(), log: &syncBuffer{}}
	var err error
	if s.front, err = tcpproxy.Listen(""); err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + s.front.Addr() + "/mcp"
	t.Cleanup(s.front.Close)
	s.start()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log)
		}
	})
	return s
}

// start returns when the server is ready.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.command[0], append(s.command[1:len(s.command):len(s.command)], "--listen", "127.0.0.1:0", "--data-dir", s.dataDir)...)
	s.cmd.Stderr = s.log
	var err error
	if s.stdout, err = s.cmd.StdoutPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(s.stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return
		}
		if i := strings.Index(lines.Text(), "http://"); i >= 0 && strings.HasSuffix(lines.Text(), "/mcp") {
			s.front.SetTarget(strings.TrimSuffix(lines.Text()[i+len("http://"):], "/mcp"))
		}
	}
	err = s.cmd.Wait()
	s.cmd = nil
	s.t.Fatalf("the server did not start: %v\n%s", err, s.log)
}

// stop ends the server in an orderly way.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, s.stdout)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the server did not stop well: %v", err)
	}
	s.cmd = nil
}

// crash kills the server without warning and starts it again, on the same
// data.
func (s *server) crash() {
	s.t.Helper()
	s.kill()
	s.start()
}

func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.cmd.Wait()
	s.cmd = nil
}

// syncBuffer is a buffer that a process writes to while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
