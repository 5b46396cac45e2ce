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
// Each queue is worked off by 16 instead of 512 at a time. They all wait for the one database
// connection, and give up after three seconds. When the machine is short of CPU, 512 take longer
// than that for their turn; what gave up is tried again, and what was written for it in vain is
// written again: soon hardly anything else is done. 16 are as fast, and do not end up there.
//
// One partition per task queue instead of four. Partitions spread a queue over hosts; on one host
// they only make a poller and its task miss each other.
//
// Rate limits are raised until the machine is the limit. At the default of 10 visibility calls a
// second a user with the UI open keeps lists from being served. Nor are long polls limited to 1,200:
// each task that somebody waits for is one. And they last for 50 seconds instead of 20, as those of
// workers do: what follows a thousand tasks in which nothing happens asks 20 times a second, not 50.
//
// The transfer queue acknowledges every second instead of every 30. A workflow can only be deleted
// once its close is acknowledged; with the default a deleted task is there for another half minute.
//
// The cache of workflows holds 20,000 instead of 128,000. Each takes some 45 KB, and stays for an hour
// when it has ended, too: the default is up to 6 GB.
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

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
	"github.com/longhaul-mcp/longhaul/internal/temporalserver"
)

func init() {
	enginereg.Register(func(ctx context.Context, o enginereg.Options) (enginereg.Engine, error) {
		return Start(ctx, o)
	})
}

// Options are documented in package enginereg, so that a binary without this package can name them.
type Options = enginereg.Options

// Server is a running Temporal server, with its Web UI unless that is switched off.
type Server struct {
	log      *slog.Logger
	lock     *dirLock
	temporal *temporalserver.Server
	ui       *uiServer
	stop     sync.Once
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
	s := &Server{log: o.Logger}
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
	ports, err := temporalserver.ReservePorts(o.TemporalAddr)
	if err != nil {
		return err
	}
	defer ports.Release()
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
	if err := temporalserver.CreateNamespace(store, o); err != nil {
		return err
	}
	// One history shard, as all shards would share the one database connection.
	s.temporal, err = temporalserver.Start(ctx, temporalserver.Options{
		Ports: ports, Store: store, Visibility: store, Shards: 1, Namespace: o.Namespace, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	if err := temporalserver.RaiseRetention(ctx, s.temporal.Addr(), o); err != nil {
		return err
	}
	if ui != nil {
		if s.ui, err = serveUI(ui, s.temporal.Addr(), o.Namespace, o.UIColumns, s.log); err != nil {
			return fmt.Errorf("start the Web UI: %w", err)
		}
	}
	return nil
}

// TemporalAddr is the host:port of the gRPC frontend, with the real port.
func (s *Server) TemporalAddr() string { return s.temporal.Addr() }

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
		if s.ui != nil {
			s.ui.stop()
		}
		if s.temporal != nil && !s.temporal.Stop() {
			return // It may still write, so the lock stays until the process ends.
		}
		if s.lock != nil {
			s.lock.release()
		}
	})
}
