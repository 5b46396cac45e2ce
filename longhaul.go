// Package longhaul puts durable tasks behind any MCP server.
//
// A slow tool called through Longhaul becomes an MCP task: one Temporal
// workflow that survives the restart of every process, waits for a person as
// long as it takes, can be cancelled, and can be watched in the Temporal Web
// UI. One endpoint serves both generations of MCP tasks.
//
// This package puts the parts together. With [Run], a program that has an
// ordinary go-sdk server becomes one that has the commands of longhaul:
//
//	import (
//		"github.com/longhaul-mcp/longhaul"
//		_ "github.com/longhaul-mcp/longhaul/devserver" // the embedded Temporal, for dev
//	)
//
//	func main() {
//		server := mcp.NewServer(&mcp.Implementation{Name: "hello", Version: "1.0.0"}, nil)
//		mcp.AddTool(server, &mcp.Tool{Name: "greet"}, greet)
//		os.Exit(longhaul.Run(longhaul.Options{Name: "hello", Version: "1.0.0", Server: server}))
//	}
//
// Those who have a program already start the parts in it. [Dev] runs
// everything in one process; [API] and [Worker] are its two halves for a
// deployment in which Temporal runs elsewhere, and [Temporal] is the embedded
// engine alone:
//
//	clients ──► API ──► Temporal ◄── Worker ──► MCP servers
//
// The embedded engine is linked in by importing package devserver, as a
// database/sql driver is. A program that does not import it is a fraction of
// the size, and its dev and temporal say so.
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
	"runtime/debug"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/workflows"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// Options are what every Longhaul process may be told. The zero value serves
// no tools.
type Options struct {
	// Name is what MCP clients are told, and the program of [Run] calls itself:
	// one word of letters, digits, '.', '_' and '-'. Default "longhaul".
	Name string
	// Version is what MCP clients and servers are told. Default: that of the
	// program's main module.
	Version string

	// Server is a go-sdk server whose tools become tasks, exposed under Name.
	Server *mcp.Server
	// Protocol holds Server to a version of MCP, as in [upstream.Server]:
	// [upstream.Protocol2025] if its tools ask while they run, with
	// ServerSession.Elicit and the like. Default: the newest.
	Protocol string
	// WorkflowTools are tools that are workflow functions, listed with those of
	// Server, and RegisterSteps registers the activities and child workflows that
	// they run with a worker.
	WorkflowTools []workflowtool.Tool
	RegisterSteps func(worker.Registry)
	// Servers are more MCP servers whose tools become tasks. If there are
	// several in all, the exposed name of a tool begins with its server's.
	Servers []upstream.Server
	// Tools says how single tools are run, by exposed name: the one they have
	// without the servers of --config.
	Tools map[string]upstream.ToolOptions
	// Demo makes a server with tools to try, if the options of [Run] name no
	// server and its --config is not given. Root is what the flag --root says,
	// which only a program with a Demo has. No other function uses it.
	Demo func(root string, logger *slog.Logger) (*mcp.Server, error)

	// Listen is the address of the MCP endpoint; port 0 is any free one.
	// Default 127.0.0.1:8080. An address beyond loopback needs TokensFile.
	// For [Worker] it is where health is served, and empty by default: nowhere.
	// The worker command of [Run] takes that from its flag alone.
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
	// made if missing. Required but for [Worker]; the default of [Run] is a
	// directory called Name among the user's data.
	DataDir string
	// ClaimsDir is a directory for arguments and results that are too large for
	// Temporal, of up to 50 MiB. It is made if missing, and shared by all
	// processes with the same tasks. Default: claims in DataDir; if there is none
	// either, what is too large is refused.
	ClaimsDir string
	// ClaimsS3 is a bucket of S3-compatible storage that takes the place of
	// ClaimsDir: s3://bucket/prefix?endpoint=https://host&region=name, where the
	// default endpoint is Amazon's and the default region that of AWS_REGION.
	// Credentials are found as Amazon's own tools find them.
	ClaimsS3 string
	// AllowedHosts and AllowedOrigins are the host names under which the
	// endpoint may be addressed and the origins from which browsers may,
	// besides loopback ones.
	AllowedHosts   []string
	AllowedOrigins []string

	// TTL is the time to live of a task that does not ask for one. Default 24 h,
	// or MaxTTL if that is shorter.
	TTL time.Duration
	// MinTTL and MaxTTL bound the time to live a client can ask for; what it asks
	// beyond is brought within. Defaults 1 s and 30 days, or less if Temporal
	// keeps the namespace's ended workflows for less: a MaxTTL that it does not
	// keep them for is an error.
	MinTTL, MaxTTL time.Duration
	// Grace is how long an expired task can still be read, before it is deleted.
	// Default 5 minutes.
	Grace time.Duration
	// SweepInterval is how often a worker looks for tasks to delete, one for all
	// that share a task queue. Each time costs Temporal about as much as a task
	// does. Default 5 minutes.
	SweepInterval time.Duration

	// HotReads answers reads of a task that a caller of this process waits for from
	// memory. They are never older than what this process has shown or sent to
	// Temporal, but another one may have shown a later state: it is for where all
	// requests of a caller reach this process. [Dev] always has it.
	HotReads bool
	// MaxWatches bounds the tasks followed by long poll at the same time, of which
	// each of Temporal's frontends serves 1,200 for a namespace, for all API
	// processes together. Tasks beyond it are polled: once a second each, or a
	// hundred a second in all. Default 1,000.
	MaxWatches int
	// OutcomeCache bounds the memory for tasks that have ended and can be read
	// without Temporal, in bytes. One that was deleted elsewhere can be read for ten
	// more seconds. Default 64 MiB; negative: none.
	OutcomeCache int64

	// TaskQueue is the Temporal task queue of the tasks. Default "longhaul".
	TaskQueue string
	// StopTimeout is how long running rounds that may not be repeated have to
	// end when a worker stops. Default 30 s.
	StopTimeout time.Duration
	// MaxRounds bounds the calls of tools that a worker runs at once. Default 1000.
	MaxRounds int
	// CachedWorkflows bounds the open tasks whose workflows a worker keeps in
	// memory, those of which something was heard last: see
	// [worker.Options.CachedWorkflows]. Default 1000.
	CachedWorkflows int

	// Logger defaults to [slog.Default]. In a program of [Run] it takes the place
	// of the flags --log-level and --log-format.
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
		o.Version = mainVersion()
	}
	if o.TaskQueue == "" {
		o.TaskQueue = task.DefaultTaskQueue
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// buildID is what api and worker call this program in Temporal.
func (o Options) buildID() string { return o.Name + "@" + o.Version }

// mainVersion is the version of the program that the module system knows.
func mainVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// hasOwnServer reports whether there is a server exposed under Name.
func (o Options) hasOwnServer() bool { return o.Server != nil || len(o.WorkflowTools) > 0 }

// serverNames are the names of all servers, in their order.
func (o Options) serverNames() []string {
	var names []string
	if o.hasOwnServer() {
		names = append(names, o.Name)
	}
	for _, s := range o.Servers {
		names = append(names, s.Name)
	}
	return names
}

// servers are all the servers the options name.
func (o Options) servers() []upstream.Server {
	if !o.hasOwnServer() {
		return o.Servers
	}
	if o.Server == nil {
		o.Server = mcp.NewServer(&mcp.Implementation{Name: o.Name, Version: o.Version}, nil)
	}
	own := upstream.InProcess(o.Name, o.Server)
	own.Protocol = o.Protocol
	own.Workflows = make(map[string]time.Duration, len(o.WorkflowTools))
	for _, t := range o.WorkflowTools {
		t.List(o.Server)
		own.Workflows[t.Name()] = t.CleanupTimeout
	}
	return slices.Concat([]upstream.Server{own}, o.Servers)
}

func (o Options) functions() map[string]workflows.Function {
	functions := make(map[string]workflows.Function, len(o.WorkflowTools))
	for _, t := range o.WorkflowTools {
		functions[t.Name()] = t.Function()
	}
	return functions
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
		o, err := o.withLifetimes()
		if err != nil {
			return err
		}
		endpoint, err := p.prepareEndpoint(o)
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
		if p.claims, err = openClaims(ctx, o, p.namespace); err != nil {
			return err
		}
		set, err := p.startUpstreams(ctx, o)
		if err != nil {
			return err
		}
		if err := p.startDevWorker(ctx, o, c, set); err != nil {
			return err
		}
		polls := workerPolls(c, o.TaskQueue)
		o.HotReads = true // every request reaches the one process there is
		awaitReady(ctx, polls)
		return p.startAPI(o, c, set, endpoint, polls)
	})
}

// API runs the MCP endpoint against a Temporal that runs elsewhere. It waits
// for Temporal until ctx ends.
func API(ctx context.Context, o Options, t client.Options) (*Process, error) {
	o = o.withDefaults()
	return start(o, func(p *Process) error {
		if _, err := o.withLifetimes(); err != nil {
			return err
		}
		endpoint, err := p.prepareEndpoint(o)
		if err != nil {
			return err
		}
		c, err := p.dial(ctx, o, t)
		if err != nil {
			return err
		}
		o, err := p.fitRetention(o)
		if err != nil {
			return err
		}
		if p.claims, err = openClaims(ctx, o, p.namespace); err != nil {
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
		o, err := o.withLifetimes()
		if err != nil {
			return err
		}
		c, err := p.dial(ctx, o, t)
		if err != nil {
			return err
		}
		if p.claims, err = openClaims(ctx, o, p.namespace); err != nil {
			return err
		}
		set, err := p.startUpstreams(ctx, o)
		if err != nil {
			return err
		}
		if err := p.startWorker(ctx, o, c, set, ""); err != nil {
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
		o, err := o.withLifetimes()
		if err != nil {
			return err
		}
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
