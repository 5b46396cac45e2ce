// Package temporalserver runs Temporal's four services in this process, on loopback ports and on a
// database that others have made. How it is set up, and why, is told by package devserver.
package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	// stopTimeout bounds the wait for Temporal's own shutdown. That takes a second as a rule, because
	// it gives the long polls of its own system workers that long to end.
	stopTimeout = 15 * time.Second
	// readyPoll is the pause between two questions whether the server is ready.
	readyPoll = 10 * time.Millisecond
	// maxStarts is how often Temporal is started if somebody takes a port of its own.
	maxStarts = 5
)

// Options say what a server runs on. All are required.
type Options struct {
	// Ports are the addresses; Start releases them.
	Ports *Ports
	// Store and Visibility are the databases, with their schema. They may be one.
	Store, Visibility *config.SQL
	// Shards is the number of history shards. It never changes for a database.
	Shards int32
	// Namespace is in the database; the server is ready when it serves it.
	Namespace string
	// Logger gets Temporal's warnings and errors at their own level, the rest at debug.
	Logger *slog.Logger
}

// Server is a running Temporal.
type Server struct {
	logger *slog.Logger
	log    *serverLog
	addr   string
	server temporal.Server
}

// Start starts Temporal and returns when workflows can be started in the namespace. ctx bounds the
// wait for that, not the life of the server. A server that fails to start is stopped.
func Start(ctx context.Context, o Options) (*Server, error) {
	for n := 1; ; n++ {
		s, err := start(ctx, o)
		// All that is known of a fatal line is its text.
		if err == nil || n == maxStarts || !strings.Contains(err.Error(), "address already in use") {
			return s, err
		}
		o.Logger.Warn("a port was taken while it was handed to Temporal; starting it again with others", "error", err)
		if err := o.Ports.reserve(); err != nil {
			return nil, err
		}
	}
}

func start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{logger: o.Logger, log: newServerLog(o.Logger), addr: o.Ports.Frontend()}
	o.Ports.Release()
	if err := s.launch(o.Ports.hosts, o); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start Temporal: %w", err)
	}
	if err := waitReady(ctx, s.addr, o.Namespace); err != nil {
		s.Stop()
		return nil, fmt.Errorf("wait for Temporal at %s: %w", s.addr, err)
	}
	s.log.setPhase(running)
	return s, nil
}

// Addr is the host:port of the gRPC frontend.
func (s *Server) Addr() string { return s.addr }

// launch does not take a context: Temporal's start bounds itself, and interrupted half way it could
// not be stopped again.
func (s *Server) launch(hosts map[primitives.ServiceName]string, o Options) (err error) {
	defer func() {
		// A fatal line tells more than what became of the start because of it; see serverLog.
		fatal := s.log.fatalError()
		if r := recover(); r != nil && r != any(fatal) {
			panic(r)
		}
		if fatal != nil {
			err = fatal
		}
	}()
	server, err := newTemporal(hosts, o, s.log)
	if err != nil {
		return err
	}
	s.server = server
	s.log.setPhase(starting)
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

// Stop ends Temporal and reports whether it did end: within 15 s, or it may still write to the
// database. Open requests are cut off. It is called once.
func (s *Server) Stop() bool {
	if s.server == nil {
		return true
	}
	s.log.setPhase(stopping)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.server.Stop(); err != nil {
			s.logger.Warn("stopping Temporal", "error", err)
		}
	}()
	select {
	case <-done:
		return true
	case <-time.After(stopTimeout):
		s.logger.Warn("Temporal did not stop in time", "timeout", stopTimeout)
		return false
	}
}
