package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"

	"github.com/longhaul-mcp/longhaul/internal/failpoint"
	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
)

// Process is an api or a worker, running or not.
type Process struct {
	// Name is api-1 or worker-1 and so on: what failpoints call it.
	Name string
	// Link is between the process and Temporal, Front between clients and the
	// process; a worker has none.
	Link  *tcpproxy.Proxy
	Front *tcpproxy.Proxy
	// Log is the file of all it has written to standard error, in all its lives.
	Log string

	binary string
	args   []string
	env    []string
	debug  string

	mu     sync.Mutex
	life   *life
	paused bool
}

// life is one run of a process.
type life struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // closed when it says so
	ended chan struct{} // closed when it has, with err
	err   error
}

func (c *Cluster) newProcess(name string, args []string) (*Process, error) {
	link, err := tcpproxy.Listen(c.Temporal.Addr)
	if err != nil {
		return nil, err
	}
	p := &Process{
		Name: name, Link: link, Log: filepath.Join(c.o.Dir, name+".log"),
		binary: c.o.Binaries.Longhaul, args: args, debug: filepath.Join(c.sockets, name+".debug"),
	}
	p.env = append(os.Environ(),
		"TEMPORAL_ADDRESS="+link.Addr(),
		"LONGHAUL_EFFECTS="+filepath.Join(c.o.Dir, "effects"),
		"LONGHAUL_DEBUG="+p.debug,
		failpoint.DirEnv+"="+c.sockets,
		failpoint.ProcessEnv+"="+name,
	)
	return p, nil
}

// URL is the MCP endpoint of an api, through its proxy. It stays the same.
func (p *Process) URL() string { return "http://" + p.Front.Addr() + "/mcp" }

// Start starts the process, unless it runs, and returns when it is ready. That
// of an api takes a Temporal that can be reached.
func (p *Process) Start(ctx context.Context) error {
	p.mu.Lock()
	if p.life == nil {
		if err := p.launch(); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	l := p.life
	p.mu.Unlock()
	select {
	case <-l.ready:
		return nil
	case <-l.ended:
		return fmt.Errorf("%s ended before it was ready: %w; see %s", p.Name, l.err, p.Log)
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w; see %s", p.Name, ctx.Err(), p.Log)
	}
}

// launch begins a life.
func (p *Process) launch() error {
	log, err := os.OpenFile(p.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	l := &life{cmd: exec.Command(p.binary, p.args...), ready: make(chan struct{}), ended: make(chan struct{})}
	l.cmd.Env, l.cmd.Stderr = p.env, log
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := l.cmd.Start(); err != nil {
		return err
	}
	p.life = l
	go p.live(l, stdout)
	return nil
}

var endpoint = regexp.MustCompile(`^MCP endpoint +http://([^/]+)/mcp$`)

// live follows a life to its end.
func (p *Process) live(l *life, stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if m := endpoint.FindStringSubmatch(lines.Text()); m != nil {
			p.Front.SetTarget(m[1])
		}
		if lines.Text() == "ready" {
			close(l.ready)
		}
	}
	l.err = l.cmd.Wait()
	p.mu.Lock()
	if p.life == l {
		p.life, p.paused = nil, false
	}
	p.mu.Unlock()
	close(l.ended)
}

// Running reports whether the process runs, ready or not.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil
}

// signal sends a signal to the process, and returns its life, or nil.
func (p *Process) signal(s syscall.Signal) (*life, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return nil, nil
	}
	switch s {
	case syscall.SIGSTOP:
		p.paused = true
	case syscall.SIGCONT:
		p.paused = false
	}
	return p.life, p.life.cmd.Process.Signal(s)
}

// Kill ends the process as kill -9 does, if it runs.
func (p *Process) Kill() {
	if l, _ := p.signal(syscall.SIGKILL); l != nil {
		<-l.ended
	}
}

// Terminate ends the process in an orderly way (SIGTERM), if it runs, and
// returns when it has ended. The error is how it ended, if not well.
func (p *Process) Terminate(ctx context.Context) error {
	l, err := p.signal(syscall.SIGTERM)
	if l == nil || err != nil {
		return err
	}
	select {
	case <-l.ended:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, ctx.Err())
	}
}

// Pause stops the process where it is (SIGSTOP), if it runs, until Resume.
func (p *Process) Pause() error {
	_, err := p.signal(syscall.SIGSTOP)
	return err
}

// Resume lets a paused process go on.
func (p *Process) Resume() error {
	_, err := p.signal(syscall.SIGCONT)
	return err
}

// Descriptors is how many files and sockets the process has open.
func (p *Process) Descriptors() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return 0, fmt.Errorf("%s does not run", p.Name)
	}
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.life.cmd.Process.Pid), "fd"))
	return len(open), err
}

// Goroutines are those of the process: how many, and a profile that tells them
// apart.
func (p *Process) Goroutines(ctx context.Context) (n int, profile string, err error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.debug)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	u := url.URL{Scheme: "http", Host: p.Name, Path: "/debug/pprof/goroutine", RawQuery: "debug=1"}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	if _, err := fmt.Sscanf(string(body), "goroutine profile: total %d", &n); err != nil {
		return 0, "", fmt.Errorf("%s: the profile of goroutines: %w", p.Name, err)
	}
	return n, string(body), nil
}
