// Package cluster runs a whole deployment of Longhaul on loopback, of real
// processes that can be killed at any moment and links that can be cut:
//
//	           Front                 Link                 Link
//	clients ──► proxy ──► api-1 ──► proxy ──► temporal ◄── proxy ◄── worker-1
//	        ──► proxy ──► api-2 ──► proxy ──►          ◄── proxy ◄── worker-2
//
// Temporal is the embedded one, with its database on a file. The api and worker
// processes are [Build] of ./program: the product with tools that leave effects
// behind, and with failpoints where the sources of the product are marked
// (package failpoint). Whoever restarts a process finds it under the address it
// had, which is that of a proxy (package tcpproxy).
//
// A cluster is for tests ([Test]) and for programs ([Start]). Its processes end
// with the process that started it, however that ends.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"log/slog"

	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/internal/failpoint"
	"github.com/longhaul-mcp/longhaul/internal/overlay"
	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
)

// Binaries are the programs of a cluster. Several clusters may share them.
type Binaries struct {
	Temporal string
	Longhaul string
	// Failpoints are the names there are.
	Failpoints []string
}

// Build builds the programs into dir; patches break the product on purpose.
func Build(ctx context.Context, dir string, patches ...overlay.Patch) (Binaries, error) {
	b := Binaries{Temporal: filepath.Join(dir, "temporal"), Longhaul: filepath.Join(dir, "longhaul")}
	var err error
	if b.Failpoints, err = overlay.Failpoints(ctx); err != nil {
		return b, err
	}
	if err := overlay.Build(ctx, "./internal/cluster/program", b.Longhaul, patches...); err != nil {
		return b, err
	}
	return b, temporaltest.Build(ctx, b.Temporal)
}

// Options describe a cluster. Binaries and Dir are required.
type Options struct {
	Binaries Binaries
	// Dir is for databases, logs and effects. It is made if missing and stays.
	Dir string
	// APIs and Workers are how many processes there are. Default 2; -1 is none.
	APIs, Workers int
	// Tokens are the bearer tokens of the owners, by their names. Default: one
	// user, no authentication.
	Tokens map[string]string
	// APIArgs and WorkerArgs are more arguments of these processes.
	APIArgs, WorkerArgs []string
}

// Cluster is a running deployment.
type Cluster struct {
	// Temporal listens on one address for as long as the cluster lives.
	Temporal *Temporal
	APIs     []*Process
	Workers  []*Process
	// Effects is what the tools have left behind.
	Effects effects.Log

	o       Options
	sockets string // a directory of a short name

	mu    sync.Mutex
	armed []*failpoint.Point
}

// Start starts a cluster; all its processes are ready when it returns.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{o: o, Effects: effects.In(filepath.Join(o.Dir, "effects"))}
	if err := c.start(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(c.o.Dir, "effects"), 0o700); err != nil {
		return err
	}
	var err error
	if c.sockets, err = os.MkdirTemp("", "longhaul-*"); err != nil {
		return err
	}
	c.Temporal = &Temporal{binary: c.o.Binaries.Temporal, dir: filepath.Join(c.o.Dir, "temporal")}
	if err := c.Temporal.Start(ctx); err != nil {
		return err
	}
	endpoint := []string{"api", "--listen", "127.0.0.1:0", "--data-dir", c.o.Dir, "--key-file", filepath.Join(c.o.Dir, "longhaul.key")}
	if c.o.Tokens != nil {
		file := filepath.Join(c.o.Dir, "tokens")
		var lines []byte
		for name, token := range c.o.Tokens {
			lines = fmt.Appendf(lines, "%s: %s\n", name, token)
		}
		if err := os.WriteFile(file, lines, 0o600); err != nil {
			return err
		}
		endpoint = append(endpoint, "--tokens-file", file)
	}
	for i := range count(c.o.APIs) {
		p, err := c.newProcess(fmt.Sprintf("api-%d", i+1), append(slices.Clone(endpoint), c.o.APIArgs...))
		if err != nil {
			return err
		}
		c.APIs = append(c.APIs, p)
		if p.Front, err = tcpproxy.Listen(""); err != nil {
			return err
		}
	}
	for i := range count(c.o.Workers) {
		p, err := c.newProcess(fmt.Sprintf("worker-%d", i+1), append([]string{"worker", "--data-dir", c.o.Dir}, c.o.WorkerArgs...))
		if err != nil {
			return err
		}
		c.Workers = append(c.Workers, p)
	}
	return all(c.Processes(), func(p *Process) error { return p.Start(ctx) })
}

// count is the number that an option stands for.
func count(n int) int {
	if n == 0 {
		return 2
	}
	return max(n, 0)
}

// Processes are all api and worker processes, whether or not they run.
func (c *Cluster) Processes() []*Process { return slices.Concat(c.APIs, c.Workers) }

// Process is the one of that name, or nil.
func (c *Cluster) Process(name string) *Process {
	for _, p := range c.Processes() {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Arm makes the processes wait at a failpoint from now on.
func (c *Cluster) Arm(name string) (*failpoint.Point, error) {
	if !slices.Contains(c.o.Binaries.Failpoints, name) {
		return nil, fmt.Errorf("there is no failpoint %s in the sources", name)
	}
	p, err := failpoint.Arm(c.sockets, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = append(c.armed, p)
	return p, nil
}

// Dial connects to Temporal itself, not through a proxy.
func (c *Cluster) Dial(ctx context.Context) (client.Client, error) {
	return client.DialContext(ctx, client.Options{
		HostPort: c.Temporal.Addr,
		Logger:   log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
}

// Heal makes all links whole, and lets go on whoever waits at a failpoint or
// is paused. Processes that were killed stay so.
func (c *Cluster) Heal() error {
	c.mu.Lock()
	armed := c.armed
	c.armed = nil
	c.mu.Unlock()
	for _, p := range armed {
		p.Disarm()
	}
	err := c.Temporal.Resume()
	for _, p := range c.Processes() {
		p.Link.Heal()
		if p.Front != nil {
			p.Front.Heal()
		}
		err = errors.Join(err, p.Resume())
	}
	return err
}

// Close kills everything. The directory of the options stays.
func (c *Cluster) Close() {
	c.mu.Lock()
	for _, p := range c.armed {
		p.Disarm()
	}
	c.mu.Unlock()
	for _, p := range c.Processes() {
		p.Kill()
		p.Link.Close()
		if p.Front != nil {
			p.Front.Close()
		}
	}
	if c.Temporal != nil {
		c.Temporal.Kill()
	}
	if c.sockets != "" {
		_ = os.RemoveAll(c.sockets)
	}
}

// all does something to several processes at once.
func all(processes []*Process, do func(*Process) error) error {
	errs := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() { errs[i] = do(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Temporal is the Temporal of a cluster. It keeps its address and its database.
type Temporal struct {
	// Addr is the address of its gRPC frontend.
	Addr string

	binary, dir string

	mu     sync.Mutex
	server *temporaltest.Server // nil if it does not run
	log    *os.File
	paused bool
}

// Start starts it, unless it runs, and returns when it serves.
func (t *Temporal) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server != nil {
		return nil
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	if t.log == nil {
		var err error
		if t.log, err = os.OpenFile(t.dir+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	// Its port may be a moment in coming free, or have been lent to a connection.
	for {
		server, err := temporaltest.StartBinary(t.binary, t.dir, t.Addr, t.log)
		if err == nil {
			t.server, t.Addr = server, server.Addr
			return nil
		}
		if t.Addr == "" {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Kill ends it as kill -9 does, if it runs.
func (t *Temporal) Kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server != nil {
		t.server.Kill()
		t.server, t.paused = nil, false
	}
}

// Stop ends it in an orderly way, if it runs.
func (t *Temporal) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server != nil {
		if t.paused {
			_ = t.server.Resume()
		}
		t.server.Stop()
		t.server, t.paused = nil, false
	}
}

// Pause stops it where it is, if it runs.
func (t *Temporal) Pause() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server == nil {
		return nil
	}
	t.paused = true
	return t.server.Pause()
}

// Resume lets it go on.
func (t *Temporal) Resume() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server == nil || !t.paused {
		return nil
	}
	t.paused = false
	return t.server.Resume()
}
