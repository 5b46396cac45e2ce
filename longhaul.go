// Package longhaul puts durable tasks behind any MCP server.
//
// A slow tool called through Longhaul becomes an MCP task: one Temporal
// workflow that survives the restart of every process, waits for a person as
// long as it takes, can be cancelled, and can be watched in the Temporal Web
// UI. One endpoint serves both generations of MCP tasks.
//
// This package puts the parts together. [Dev] runs everything in one process;
// [API] and [Worker] are its two halves for a deployment in which Temporal
// runs elsewhere, and [Temporal] is the embedded engine alone:
//
//	clients ──► API ──► Temporal ◄── Worker ──► MCP servers
//
// The embedded engine is linked in by importing package devserver, as a
// database/sql driver is.
//
// Tools report how far they have come with [Progress], and survive a crash in
// the middle with [SaveCheckpoint] and [LoadCheckpoint].
package longhaul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/upstream"
)

// Options are what every Longhaul process may be told. The zero value serves
// no tools.
type Options struct {
	// Servers are the MCP servers whose tools become tasks, and Tools says how
	// single ones are run, by exposed name.
	Servers []upstream.Server
	Tools   map[string]upstream.ToolOptions

	// Listen is the address of the MCP endpoint; port 0 is any free one.
	// Default 127.0.0.1:8080. An address beyond loopback needs TokensFile.
	// For [Worker] it is where health is served, and empty by default: nowhere.
	Listen string
	// TokensFile holds a "name: token" line for every caller. Without it there
	// is one user and no authentication.
	TokensFile string
	// KeyFile holds the secret behind session ids, request states and
	// idempotency keys; it is made if missing. API processes that serve the
	// same clients share it: a process with a key file of its own takes itself for
	// one of several, which cannot delete a session for the others and say so.
	// Default: longhaul.key in DataDir.
	KeyFile string
	// DataDir is where the key and the embedded engine keep their files. It is
	// made if missing. Required but for [Worker].
	DataDir string
	// AllowedHosts and AllowedOrigins are the host names under which the
	// endpoint may be addressed and the origins from which browsers may,
	// besides loopback ones.
	AllowedHosts   []string
	AllowedOrigins []string

	// TaskQueue is the Temporal task queue of the tasks. Default "longhaul".
	TaskQueue string
	// StopTimeout is how long running rounds that may not be repeated have to
	// end when a worker stops. Default 30 s.
	StopTimeout time.Duration

	// Name and Version are what MCP clients are told. Default "longhaul", "dev".
	Name    string
	Version string
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8080"
	}
	if o.Name == "" {
		o.Name = "longhaul"
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// EngineOptions configure the embedded Temporal.
type EngineOptions struct {
	// TemporalAddr is the loopback address of Temporal's gRPC frontend; port 0
	// is any free one. Default 127.0.0.1:7233.
	TemporalAddr string
	// UIAddr is the address of the Web UI; "off" means none. Default
	// 127.0.0.1:8233.
	UIAddr string
}

func (o EngineOptions) withDefaults() EngineOptions {
	if o.TemporalAddr == "" {
		o.TemporalAddr = "127.0.0.1:7233"
	}
	if o.UIAddr == "" {
		o.UIAddr = "127.0.0.1:8233"
	}
	return o
}

// Dev runs everything in one process: the embedded Temporal and its Web UI, a
// worker, and the MCP endpoint. It returns when clients can be served; the
// process runs until [Process.Stop].
func Dev(ctx context.Context, o Options, e EngineOptions) (*Process, error) {
	o = o.withDefaults()
	return start(o, func(p *Process) error {
		endpoint, err := p.openEndpoint(o)
		if err != nil {
			return err
		}
		if err := p.startEngine(ctx, o, e.withDefaults()); err != nil {
			return err
		}
		c, err := p.dial(ctx, o, client.Options{HostPort: p.TemporalAddr})
		if err != nil {
			return err
		}
		set, err := p.startUpstreams(ctx, o)
		if err != nil {
			return err
		}
		if err := p.startDevWorker(ctx, o, c, set); err != nil {
			return err
		}
		return p.startAPI(o, c, set, endpoint, workerPolls(c, o.TaskQueue))
	})
}

// API runs the MCP endpoint against a Temporal that runs elsewhere. It waits
// for Temporal until ctx ends.
func API(ctx context.Context, o Options, t client.Options) (*Process, error) {
	o = o.withDefaults()
	return start(o, func(p *Process) error {
		endpoint, err := p.openEndpoint(o)
		if err != nil {
			return err
		}
		c, err := p.dial(ctx, o, t)
		if err != nil {
			return err
		}
		set, err := p.startUpstreams(ctx, o)
		if err != nil {
			return err
		}
		return p.startAPI(o, c, set, endpoint, nil)
	})
}

// Worker runs tasks of a Temporal that runs elsewhere. It waits for Temporal
// until ctx ends.
func Worker(ctx context.Context, o Options, t client.Options) (*Process, error) {
	listen := o.Listen
	o = o.withDefaults()
	return start(o, func(p *Process) error {
		c, err := p.dial(ctx, o, t)
		if err != nil {
			return err
		}
		set, err := p.startUpstreams(ctx, o)
		if err != nil {
			return err
		}
		if err := p.startWorker(o, c, set, ""); err != nil {
			return err
		}
		if listen == "" {
			return nil
		}
		return p.startHealth(o, c)
	})
}

// Temporal runs the embedded engine and its Web UI alone.
func Temporal(ctx context.Context, o Options, e EngineOptions) (*Process, error) {
	o = o.withDefaults()
	return start(o, func(p *Process) error {
		return p.startEngine(ctx, o, e.withDefaults())
	})
}

// checkListen refuses to serve strangers without authentication.
func checkListen(o Options) error {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", o.Listen, err)
	}
	if o.TokensFile != "" || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("refusing to listen on %s without authentication: anybody who reaches it could call the tools and read the tasks; give a tokens file, or listen on a loopback address", o.Listen)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ListenError says that the MCP endpoint's address could not be listened on.
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %v", e.Addr, rootError(e.Err))
}

func (e *ListenError) Unwrap() error { return e.Err }

// rootError is the system's own word for what went wrong.
func rootError(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
