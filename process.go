package longhaul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/enginereg"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/worker"
)

// shutdownTimeout bounds the time requests have to end when an endpoint stops.
const shutdownTimeout = 10 * time.Second

// Process is a running set of Longhaul's parts.
type Process struct {
	// MCPURL is the MCP endpoint, HealthURL where /healthz and /readyz are,
	// UIURL the Temporal Web UI and TemporalAddr Temporal's gRPC frontend. They
	// are empty where this process has no such part.
	MCPURL       string
	HealthURL    string
	UIURL        string
	TemporalAddr string

	logger    *slog.Logger
	namespace namespace    // of Temporal
	claims    claims.Store // nil if there is none
	stops     []func()     // in the order of the starts
	stop      sync.Once
	failed    chan error
}

// start runs the parts' starts and, if one fails, stops those before it.
func start(o Options, parts func(*Process) error) (*Process, error) {
	p := &Process{logger: o.Logger, failed: make(chan error, 1)}
	if err := parts(p); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// Failed delivers the error of a part that can no longer work.
func (p *Process) Failed() <-chan error { return p.failed }

// Stop ends all parts in an orderly way: no new requests, then no new rounds,
// then the rest. It may be called more than once.
func (p *Process) Stop() {
	p.stop.Do(func() {
		for _, stop := range slices.Backward(p.stops) {
			stop()
		}
	})
}

func (p *Process) onStop(f func()) { p.stops = append(p.stops, f) }

func (p *Process) fail(err error) {
	select {
	case p.failed <- err:
	default: // One failure is enough to stop for.
	}
}

func (p *Process) startEngine(ctx context.Context, o Options, e EngineOptions) error {
	if o.DataDir == "" {
		return errors.New("a data directory is needed")
	}
	eng, err := enginereg.Start(ctx, enginereg.Options{
		DataDir:          o.DataDir,
		TemporalAddr:     e.TemporalAddr,
		UIAddr:           e.UIAddr,
		UIColumns:        []string{"Status", task.SearchCall, task.SearchStatus, "Workflow ID", "Start", "End"},
		Retention:        o.retention(),
		SearchAttributes: engine.SearchAttributes(),
		Logger:           o.Logger,
	})
	if err != nil {
		return err
	}
	p.onStop(eng.Stop)
	p.TemporalAddr = eng.TemporalAddr()
	p.UIURL = eng.UIURL()
	return nil
}

// dial connects to Temporal, waiting for it as long as it takes, and makes the
// namespace ready for tasks.
func (p *Process) dial(ctx context.Context, o Options, t client.Options) (client.Client, error) {
	if t.Logger == nil {
		t.Logger = log.NewStructuredLogger(slog.New(demoted{o.Logger.Handler()}).With("component", "temporal-sdk"))
	}
	if t.Namespace == "" {
		t.Namespace = client.DefaultNamespace
	}
	if t.HostPort == "" {
		t.HostPort = client.DefaultHostPort
	}
	if host, _, err := net.SplitHostPort(t.HostPort); err == nil && isLoopback(host) && t.ConnectionOptions.GrpcCompression == nil {
		// There is no network to save, and either end spends a tenth of its time on
		// the SDK's default.
		t.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	}
	var c client.Client
	err := p.awaitTemporal(ctx, func() (err error) {
		if c, p.namespace, err = connect(ctx, t); err != nil {
			return fmt.Errorf("Temporal at %s, namespace %s: %w", t.HostPort, t.Namespace, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.onStop(c.Close)
	return c, nil
}

// awaitTemporal does what needs Temporal, again and again until it can be done
// or ctx ends.
func (p *Process) awaitTemporal(ctx context.Context, do func() error) error {
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		p.logger.Warn("waiting for Temporal", "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// connect does all that a process wants of Temporal before it starts.
func connect(ctx context.Context, t client.Options) (_ client.Client, n namespace, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, t)
	if err != nil {
		return nil, n, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err = engine.EnsureSearchAttributes(ctx, c, t.Namespace); err != nil {
		return nil, n, err
	}
	//failpoint:temporal-dialled
	n, err = describeNamespace(ctx, c, t.Namespace)
	return c, n, err
}

// namespace is one of Temporal's.
type namespace struct {
	name, id string
	// retention is how long it keeps ended workflows.
	retention time.Duration
}

func describeNamespace(ctx context.Context, c client.Client, name string) (namespace, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	if err != nil {
		return namespace{}, err
	}
	n := namespace{name, d.GetNamespaceInfo().GetId(), d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()}
	if n.id == "" {
		return namespace{}, errors.New("it has no ID")
	}
	return n, nil
}

// startUpstreams lists the tools. A server that is slow to answer does not
// hold up the others: its tools appear when it does.
func (p *Process) startUpstreams(ctx context.Context, o Options) (*upstream.Set, error) {
	set, err := upstream.New(upstream.Options{Servers: o.servers(), Tools: o.Tools, Version: o.Version, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	p.onStop(func() { _ = set.Close() })
	first, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := set.Start(first); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o.Logger.Warn("not every MCP server has listed its tools yet; going on without them")
	}
	return set, nil
}

func (p *Process) startWorker(ctx context.Context, o Options, c client.Client, set *upstream.Set, identity string) error {
	operator, err := engine.NewOperator(engine.OperatorOptions{Client: c, Namespace: p.namespace.name, TaskQueue: o.TaskQueue, Claims: p.claims, Logger: o.Logger})
	if err != nil {
		return err
	}
	options := worker.Options{
		Client:          c,
		Upstream:        set,
		Functions:       o.functions(),
		Register:        o.RegisterSteps,
		Claims:          p.claims,
		Sweep:           operator.Sweep,
		SweepInterval:   o.SweepInterval,
		Grace:           o.Grace,
		TaskQueue:       o.TaskQueue,
		BuildID:         o.buildID(),
		Identity:        identity,
		StopTimeout:     o.StopTimeout,
		MaxRounds:       o.MaxRounds,
		CachedWorkflows: o.CachedWorkflows,
		OnFatal:         func(err error) { p.fail(fmt.Errorf("worker: %w", err)) },
		Logger:          o.Logger,
	}
	return p.awaitTemporal(ctx, func() error {
		// One that could not start cannot be started again.
		w := worker.New(options)
		//failpoint:worker-starts
		if err := w.Start(); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		p.onStop(w.Stop)
		return nil
	})
}

// startDevWorker starts the worker of a process that has the engine to itself.
// A worker that was killed held its rounds until their heartbeat timed out, a
// minute later; but here nobody else can have been that worker, so its rounds
// are given up at once.
func (p *Process) startDevWorker(ctx context.Context, o Options, c client.Client, set *upstream.Set) error {
	const prefix = "longhaul-dev/"
	identity := prefix + uuid.NewString()
	n, err := worker.Reclaim(ctx, c, client.DefaultNamespace, func(other string) bool {
		return len(other) > len(prefix) && other[:len(prefix)] == prefix && other != identity
	})
	if err != nil {
		// They will time out instead.
		o.Logger.Warn("could not look for interrupted rounds", "error", err)
	} else if n > 0 {
		o.Logger.Info("found rounds interrupted by the end of the last process", "rounds", n)
	}
	return p.startWorker(ctx, o, c, set, identity)
}

// endpoint is what the MCP endpoint needs from outside, besides its address.
type endpoint struct {
	key  []byte
	auth api.Verifier
}

// prepareEndpoint checks it all, first thing: what is wrong here shall not cost
// the user the start of an engine.
func (p *Process) prepareEndpoint(o Options) (*endpoint, error) {
	e := &endpoint{}
	keyFile := o.KeyFile
	if keyFile == "" {
		if o.DataDir == "" {
			return nil, errors.New("a key file or a data directory is needed")
		}
		keyFile = defaultKeyFile(o.DataDir)
	}
	if err := checkListen(o); err != nil {
		return nil, err
	}
	if o.TokensFile != "" {
		tokens, err := api.LoadTokens(o.TokensFile)
		if err != nil {
			return nil, err
		}
		e.auth = tokens
	}
	// It is listened on for good when there is something to serve. Until then, which
	// may be as long as Temporal is away, whoever connects is better refused than
	// left waiting: a proxy tries another process then.
	l, err := p.listen(o.Listen)
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	if e.key, err = loadKey(keyFile, api.KeySize); err != nil {
		return nil, err
	}
	return e, nil
}

func (p *Process) listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &ListenError{Addr: addr, Err: err}
	}
	p.onStop(func() { _ = l.Close() })
	return l, nil
}

func (p *Process) startAPI(o Options, c client.Client, set *upstream.Set, e *endpoint, ready func(context.Context) error) error {
	tasks, err := engine.New(engine.Options{
		Client: c, Namespace: p.namespace.name, TaskQueue: o.TaskQueue, BuildID: o.buildID(), Key: engineKey(e.key), Claims: p.claims, Grace: o.Grace, Logger: o.Logger,
		HotReads: o.HotReads, MaxWatches: o.MaxWatches, OutcomeCache: o.OutcomeCache,
	})
	if err != nil {
		return err
	}
	p.onStop(tasks.Close)

	hosts := o.AllowedHosts
	if host, _, _ := net.SplitHostPort(o.Listen); host != "" && !net.ParseIP(host).IsUnspecified() {
		hosts = append(slices.Clone(hosts), host)
	}
	front, err := api.New(api.Options{
		Tasks:          tasks,
		Catalogue:      set,
		Key:            e.key,
		Auth:           e.auth,
		Replicated:     o.KeyFile != "",
		AllowedHosts:   hosts,
		AllowedOrigins: o.AllowedOrigins,
		TTL:            o.TTL,
		MinTTL:         o.MinTTL,
		MaxTTL:         o.MaxTTL,
		ServerName:     o.Name,
		ServerVersion:  o.Version,
		Ready:          ready,
		Logger:         o.Logger,
	})
	if err != nil {
		return err
	}
	l, err := p.listen(o.Listen)
	if err != nil {
		return err
	}
	p.serve(l, front.Handler(), front.Shutdown)
	base := "http://" + l.Addr().String()
	p.MCPURL, p.HealthURL = base+"/mcp", base
	return nil
}

// startHealth serves a worker's health, which has no endpoint of its own.
func (p *Process) startHealth(o Options, c client.Client) error {
	l, err := p.listen(o.Listen)
	if err != nil {
		return err
	}
	polls := workerPolls(c, o.TaskQueue)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := polls(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	p.serve(l, mux, func(context.Context) error { return nil })
	p.HealthURL = "http://" + l.Addr().String()
	return nil
}

// serve serves handler on l until the process stops; drain comes first then,
// to end what would keep requests open.
func (p *Process) serve(l net.Listener, handler http.Handler, drain func(context.Context) error) {
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(p.logger.Handler(), slog.LevelWarn),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.fail(fmt.Errorf("HTTP server: %w", err))
		}
	}()
	p.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if err := errors.Join(drain(ctx), s.Shutdown(ctx)); err != nil {
			p.logger.Warn("requests were cut off by the shutdown", "error", err)
			_ = s.Close()
		}
		<-done
	})
}

// awaitReady waits for a worker that was just started: Temporal knows of it
// with its first poll, which is on its way. It is not waited for long, for
// readiness is asked for again and again by whoever depends on it.
func awaitReady(ctx context.Context, ready func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ready(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// workerPolls reports whether some worker polls the task queue.
func workerPolls(c client.Client, queue string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		r, err := c.DescribeTaskQueue(ctx, queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		if err != nil {
			return fmt.Errorf("%w: %w", task.ErrUnavailable, err)
		}
		if len(r.GetPollers()) == 0 {
			return fmt.Errorf("no worker polls task queue %q", queue)
		}
		return nil
	}
}
