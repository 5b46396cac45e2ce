// Package temporaltest gives tests a real Temporal server.
//
// It runs in a process of its own, so that test binaries neither link it nor
// compile it with the race detector, and so that a test can kill it.
package temporaltest

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"log/slog"
)

// Server is a running Temporal server.
type Server struct {
	// Addr is the host:port of the gRPC frontend.
	Addr string

	pid   int
	stdin io.Closer
	cmd   *exec.Cmd
}

// ProfileEnv names the file to which the server writes a CPU profile of its life.
const ProfileEnv = "LONGHAUL_TEMPORAL_PROFILE"

const program = "github.com/longhaul-mcp/longhaul/internal/temporaltest/server"

// Build writes the server's program to the file binary, for those who start it
// often.
func Build(ctx context.Context, binary string) error {
	// go run keeps the linked binary in the build cache; go build links it anew.
	out, err := exec.CommandContext(ctx, "go", "run", "-exec", "cp", program, binary).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the Temporal server for tests: %w\n%s", err, out)
	}
	return nil
}

// Start starts a server on the database in dir, on any free port.
func Start(dir string) (*Server, error) {
	return start(exec.Command("go", "run", program), dir, "127.0.0.1:0", os.Stderr)
}

// StartBinary is Start with what [Build] has built. Addr is where the server
// listens; "" is any free port. It logs to stderr, and has env besides this
// process's environment.
func StartBinary(binary, dir, addr string, stderr io.Writer, env ...string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), env...)
	return start(cmd, dir, addr, stderr)
}

func start(cmd *exec.Cmd, dir, addr string, stderr io.Writer) (*Server, error) {
	cmd.Args = append(cmd.Args, dir, addr)
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{stdin: stdin, cmd: cmd}
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if _, failed := fmt.Sscan(said, &s.Addr, &s.pid); failed != nil {
		_ = stdin.Close()
		return nil, fmt.Errorf("the Temporal server for tests did not start: %w: %s", errors.Join(err, cmd.Wait()), said)
	}
	return s, nil
}

// PID is the server's process.
func (s *Server) PID() int { return s.pid }

// Stop ends the server in an orderly way.
func (s *Server) Stop() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
}

// Pause stops the server where it is (SIGSTOP), until Resume.
func (s *Server) Pause() error { return syscall.Kill(s.pid, syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return syscall.Kill(s.pid, syscall.SIGCONT) }

// Main runs the tests of a package with one server between them: call it from
// TestMain, exit with what it returns.
func Main(m *testing.M, addr *string) int {
	if FuzzWorker() {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "longhaul-temporal-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	s, err := Start(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.Stop()
	*addr = s.Addr
	return m.Run()
}

// FuzzWorker reports whether this process is one of those that go test -fuzz
// hands inputs to. Fuzz targets are to need no server: each worker would start
// one of its own.
func FuzzWorker() bool {
	if !flag.Parsed() {
		flag.Parse()
	}
	worker := flag.Lookup("test.fuzzworker")
	return worker != nil && worker.Value.String() == "true"
}

// Dial connects to the server at addr until the test ends.
func Dial(t testing.TB, addr string) client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: addr,
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
