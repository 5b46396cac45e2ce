// Package devserver runs a Temporal server and its Web UI inside this process, on one SQLite file.
//
// Importing it, even for its side effect only, registers it as the embedded engine. It adds some
// 180 MB to a binary, which is why everything else reaches it through that registration.
//
// # How the server is set up
//
// Temporal is built to be a cluster behind a load balancer with a database server beneath it; most
// of its defaults protect such a cluster from its tenants. Here there is one process, one user and
// one file. What is set differently, and why:
//
// Four services, no ring. Frontend, history, matching and worker run on loopback ports. Their
// addresses are given as static hosts, so there is no gossip membership: nothing to join, nothing
// to wait for. One history shard, as all shards would share the one database connection.
//
// SQLite in WAL mode with synchronous=NORMAL. A commit is in the file system when it is
// acknowledged, so killing the process loses nothing; a power cut can lose the last commits but
// never the database. The default (rollback journal) is two to five times slower. The pool stays
// at one connection, because SQLite has one writer anyway and a second one meets SQLITE_BUSY.
//
// The queue processors may poll 2000 times a second instead of 20. With 20, each hop of a workflow
// (start to first task, task to activity, activity to next task) can wait 50 ms for its turn, and
// these waits are nearly all of a short task's time.
//
// One partition per task queue instead of four. Partitions spread a queue over hosts; on one host
// they only make a poller and its task miss each other.
//
// Rate limits are raised until the machine is the limit. At the default of 10 visibility calls a
// second a user with the UI open keeps lists from being served.
//
// The transfer queue acknowledges every second instead of every 30. A workflow can only be deleted
// once its close is acknowledged; with the default a deleted task is there for another half minute.
//
// Activity cancellation is pushed to the workers. By default an activity learns of it in the reply
// to its next heartbeat.
//
// Nothing calls home: the server's and the UI's version checks are off, as is the UI's news feed.
//
// # What happens to the data
//
// A database is created under another name and renamed when it is complete, so that a crash leaves
// either none or a whole one. One that exists is first checked read-only; if it is damaged or not
// ours, Start says so and has changed neither the file nor its write-ahead log. A write-ahead log
// that was left by a crash is not damage: the check reads through it, as recovery will.
//
// An advisory lock on a file in the data directory keeps a second process out. The kernel drops it
// when the process ends, however it ends.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

func init() {
	enginereg.Register(func(ctx context.Context, o enginereg.Options) (enginereg.Engine, error) {
		return Start(ctx, o)
	})
}

const (
	// stopTimeout bounds the wait for Temporal's own shutdown. That takes a second as a rule, because
	// it gives the long polls of its own system workers that long to end.
	stopTimeout = 15 * time.Second
	// readyPoll is the pause between two questions whether the server is ready.
	readyPoll = 10 * time.Millisecond
)

// Options are documented in package enginereg, so that a binary without this package can name them.
type Options = enginereg.Options

// Server is a running Temporal server, with its Web UI unless that is switched off.
type Server struct {
	log          *slog.Logger
	temporalLog  *serverLog
	lock         *dirLock
	server       temporal.Server
	temporalAddr string
	ui           *uiServer
	stop         sync.Once
}

// Start brings up Temporal and its UI on the data directory and returns when workflows can be
// started in the namespace. ctx bounds the start, not the life of the server.
//
// An error is one line and fit for a user: an [*enginereg.AddrError] for an address that is taken,
// or one that names the data directory that another process holds or the database that is damaged.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := withDefaults(o)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Logger, temporalLog: newServerLog(o.Logger)}
	if err := s.start(ctx, o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func withDefaults(o Options) (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("no data directory given for the embedded Temporal")
	}
	var err error
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return o, err
	}
	if o.TemporalAddr == "" {
		o.TemporalAddr = "127.0.0.1:7233"
	}
	if o.TemporalAddr, err = loopback(enginereg.ListenerTemporal, o.TemporalAddr); err != nil {
		return o, err
	}
	if o.UIAddr == enginereg.UIOff {
		o.UIAddr = ""
	}
	if o.UIAddr != "" {
		if o.UIAddr, err = loopback(enginereg.ListenerUI, o.UIAddr); err != nil {
			return o, err
		}
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.Retention == 0 {
		o.Retention = 7 * 24 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// loopback returns addr with a numeric host. Neither Temporal nor its UI asks anybody who they
// are, so an address that others can reach is refused.
func loopback(l enginereg.Listener, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", &enginereg.AddrError{Listener: l, Addr: addr, Err: err}
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return "", &enginereg.AddrError{Listener: l, Addr: addr,
			Err: errors.New("the embedded Temporal has no authentication and listens on loopback addresses only")}
	}
	return net.JoinHostPort(host, port), nil
}

func listen(l enginereg.Listener, addr string) (net.Listener, error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &enginereg.AddrError{Listener: l, Addr: addr, Err: err}
	}
	return lis, nil
}

// start leaves what it got so far in s for Stop to release.
func (s *Server) start(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	var err error
	if s.lock, err = lockDir(o.DataDir); err != nil {
		return err
	}

	// All addresses are taken before the database is touched.
	ports, err := reservePorts(o.TemporalAddr)
	if err != nil {
		return err
	}
	defer ports.release()
	var ui net.Listener
	if o.UIAddr != "" {
		if ui, err = listen(enginereg.ListenerUI, o.UIAddr); err != nil {
			return err
		}
		defer func() {
			if s.ui == nil {
				ui.Close()
			}
		}()
	}

	database, err := prepareDatabase(ctx, o.DataDir)
	if err != nil {
		return err
	}
	store, err := sqlConfig(database)
	if err != nil {
		return err
	}
	if err := createNamespace(store, o); err != nil {
		return fmt.Errorf("create namespace %s: %w", o.Namespace, err)
	}
	hosts := ports.hosts()
	ports.release()
	if err := s.startTemporal(hosts, store); err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	s.temporalAddr = hosts[primitives.FrontendService]
	if err := waitReady(ctx, s.temporalAddr, o.Namespace); err != nil {
		return fmt.Errorf("wait for Temporal at %s: %w", s.temporalAddr, err)
	}
	if err := raiseRetention(ctx, s.temporalAddr, o); err != nil {
		return fmt.Errorf("set the retention of namespace %s: %w", o.Namespace, err)
	}
	s.temporalLog.setPhase(running)
	if ui != nil {
		if s.ui, err = serveUI(ui, s.temporalAddr, o.Namespace, o.UIColumns, s.log); err != nil {
			return fmt.Errorf("start the Web UI: %w", err)
		}
	}
	return nil
}

// startTemporal does not take a context: Temporal's start bounds itself, and interrupted half way
// it could not be stopped again.
func (s *Server) startTemporal(hosts hosts, store *config.SQL) (err error) {
	defer func() {
		// A fatal line tells more than what became of the start because of it; see serverLog.
		fatal := s.temporalLog.fatalError()
		if r := recover(); r != nil && r != any(fatal) {
			panic(r)
		}
		if fatal != nil {
			err = fatal
		}
	}()
	server, err := newTemporal(hosts, store, s.temporalLog)
	if err != nil {
		return err
	}
	s.server = server
	s.temporalLog.setPhase(starting)
	return server.Start()
}

// waitReady returns when the frontend reports that it serves, knows the namespace, and reaches the
// history service behind it.
func waitReady(ctx context.Context, addr, namespace string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := probe(ctx, conn, namespace)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// raiseRetention is for a namespace that was made with less.
func raiseRetention(ctx context.Context, addr string, o Options) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := workflowservice.NewWorkflowServiceClient(conn)
	n, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: o.Namespace})
	if err != nil || n.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() >= o.Retention {
		return err
	}
	_, err = service.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: o.Namespace,
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(o.Retention)},
	})
	return err
}

func probe(ctx context.Context, conn *grpc.ClientConn, namespace string) error {
	health, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{
		Service: workflowservice.WorkflowService_ServiceDesc.ServiceName,
	})
	if err != nil {
		return err
	}
	if health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("the frontend is %s", health.GetStatus())
	}
	_, err = workflowservice.NewWorkflowServiceClient(conn).DescribeWorkflowExecution(ctx,
		&workflowservice.DescribeWorkflowExecutionRequest{
			Namespace: namespace,
			Execution: &commonpb.WorkflowExecution{WorkflowId: "readiness-probe"},
		})
	var notFound *serviceerror.NotFound
	if err = serviceerror.FromStatus(status.Convert(err)); errors.As(err, &notFound) {
		return nil // there is no such workflow, says the history service: it is up
	}
	return err
}

// TemporalAddr is the host:port of the gRPC frontend, with the real port.
func (s *Server) TemporalAddr() string { return s.temporalAddr }

// UIURL is the address of the Web UI, or "" if there is none.
func (s *Server) UIURL() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Stop ends the UI and the server and gives up the data directory. It takes a second as a
// rule and 16 s at most; open requests are cut off. Calling it again waits for the first call.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.temporalLog.setPhase(stopping)
		if s.ui != nil {
			s.ui.stop()
		}
		if !s.stopTemporal() {
			// It may still write, so the lock stays until the process ends.
			s.log.Warn("Temporal did not stop in time", "timeout", stopTimeout)
			return
		}
		if s.lock != nil {
			s.lock.release()
		}
	})
}

func (s *Server) stopTemporal() bool {
	if s.server == nil {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.server.Stop(); err != nil {
			s.log.Warn("stopping Temporal", "error", err)
		}
	}()
	select {
	case <-done:
		return true
	case <-time.After(stopTimeout):
		return false
	}
}
