package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// exitTimeout is how long a process has to exit when its standard input is
	// closed, and again after SIGTERM (2025-11-25, lifecycle, "Shutdown").
	exitTimeout = 2 * time.Second
	// drainTimeout is how long the output of a process that has exited is read
	// while something else still holds it open.
	drainTimeout = time.Second
)

// command dials a server by starting a process.
type command struct{ CommandOptions }

func (c *command) dial(_ context.Context, t *tap) (link, error) {
	cmd := exec.Command(c.Command, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = inheritedEnv()
	for name, value := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	ownGroup(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &p.stderr
	// Bounds the wait for standard error when a grandchild keeps it open.
	cmd.WaitDelay = drainTimeout
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// A pipe of our own, because what a process printed before it exited must
	// still be read, and cmd.StdoutPipe is closed by then.
	stdout, childStdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = childStdout
	err = cmd.Start()
	childStdout.Close()
	if err != nil {
		stdout.Close()
		return nil, err
	}
	p.stdin, p.stdout = stdin, stdout
	p.conn = newLineConn(p, t)
	go func() { // until the process exits, for which close cares
		_ = cmd.Wait() // explain tells how it ended
		_ = stdout.SetReadDeadline(time.Now().Add(drainTimeout))
		close(p.exited)
	}()
	return p, nil
}

// inheritedEnv is this process's environment, as hosts of MCP servers pass it
// on and as npx, uvx or docker need it (PATH, HOME, proxies, certificates),
// but without what configures Longhaul and may hold credentials for Temporal.
func inheritedEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TEMPORAL_") && !strings.HasPrefix(v, "LONGHAUL_") {
			env = append(env, v)
		}
	}
	return env
}

// process is a server that runs as a process. It is the link to it, and the
// stream on which its messages travel.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *os.File
	stderr tail
	conn   *lineConn
	// exited is closed when the process has exited.
	exited chan struct{}
	ending sync.Once
}

func (p *process) Read(b []byte) (int, error)  { return p.stdout.Read(b) }
func (p *process) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// Close ends the stream. The process is to exit upon that.
func (p *process) Close() error { return errors.Join(p.stdin.Close(), p.stdout.Close()) }

func (p *process) transport() mcp.Transport { return connected{p.conn} }

func (p *process) lost() <-chan struct{} { return p.conn.broken }

func (p *process) explain() string {
	timer := time.NewTimer(2 * drainTimeout)
	defer timer.Stop()
	select {
	case <-p.conn.broken:
	case <-timer.C:
		return ""
	}
	var stray *strayError
	if errors.As(p.conn.failure, &stray) {
		return stray.Error()
	}
	what := "it closed its standard output"
	select {
	case <-p.exited:
		what = "its process ended (" + p.cmd.ProcessState.String() + ")"
	case <-timer.C:
	}
	if text := p.stderr.String(); text != "" {
		what += "; its standard error ends with: " + text
	}
	return what
}

// close makes the process exit, with all that it started.
func (p *process) close() {
	p.ending.Do(func() {
		_ = p.Close()
		for _, signal := range []func(*exec.Cmd){terminateGroup, killGroup} {
			if p.exitsWithin(exitTimeout) {
				break
			}
			signal(p.cmd)
		}
		<-p.exited
		// What a server leaves behind would run for ever.
		killGroup(p.cmd)
	})
}

func (p *process) exitsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const (
	tailBytes = 8 << 10
	tailLines = 20
)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - tailBytes; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

// String is the last lines, in one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.FieldsFunc(t.end, func(r rune) bool { return r == '\n' || r == '\r' })
	if over := len(lines) - tailLines; over > 0 {
		lines = lines[over:]
	}
	return strings.ToValidUTF8(string(bytes.Join(lines, []byte(" | "))), "?")
}
