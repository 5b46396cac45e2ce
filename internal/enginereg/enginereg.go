// Package enginereg is where an embedded Temporal engine announces itself, so that code which can
// start one does not have to link one.
//
// It works as database/sql does with its drivers: package devserver registers itself when it is
// imported, and a binary that does not import it (build tag noembed) is a seventh of the size and
// gets a clear error from [Start].
package enginereg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
)

// UIOff as [Options.UIAddr] leaves the Web UI out; an empty address does the same.
const UIOff = "off"

// Options say how to start an embedded engine.
type Options struct {
	// DataDir holds the database and the lock that keeps a second process out. Required; created
	// with mode 0700 if missing.
	DataDir string
	// TemporalAddr is the host:port of Temporal's gRPC frontend. The host must be a loopback
	// address, the port may be 0 for any free one. Default 127.0.0.1:7233.
	TemporalAddr string
	// UIAddr is the host:port of the Web UI, under the same rules. Empty or "off": no UI.
	UIAddr string
	// UIColumns are the columns of the UI's list of workflows, in a browser that has not chosen its
	// own: the UI's names, or search attributes. Default: the UI's own.
	UIColumns []string
	// Namespace exists when the engine is up. Default "default".
	Namespace string
	// Retention is how long a closed workflow is kept, at least: a namespace that keeps them for
	// longer is left as it is. Default 7 days.
	Retention time.Duration
	// SearchAttributes are registered together with the namespace when it is created.
	SearchAttributes map[string]enumspb.IndexedValueType
	// Logger gets Temporal's warnings and errors at their own level, the rest at debug. Default:
	// nothing is logged.
	Logger *slog.Logger
}

// Engine is a running embedded Temporal.
type Engine interface {
	// TemporalAddr is the real host:port of the gRPC frontend.
	TemporalAddr() string
	// UIURL is the address of the Web UI, or "" if there is none.
	UIURL() string
	// Stop ends the engine within a bounded time. It may be called more than once.
	Stop()
}

// StartFunc starts an engine and returns once workflows can be started on it.
type StartFunc func(context.Context, Options) (Engine, error)

// Listener names one of the addresses an engine listens on.
type Listener string

// The listeners of an engine, by the option that sets their address.
const (
	ListenerTemporal Listener = "Temporal" // Options.TemporalAddr
	ListenerUI       Listener = "Web UI"   // Options.UIAddr
)

// AddrError says that an address of the engine could not be listened on. Listener lets a command
// name the flag that changes it.
type AddrError struct {
	Listener Listener
	Addr     string
	Err      error
}

func (e *AddrError) Error() string {
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		return fmt.Sprintf("%s address %s is already in use", e.Listener, e.Addr)
	}
	return fmt.Sprintf("%s cannot listen on %s: %v", e.Listener, e.Addr, e.Err)
}

func (e *AddrError) Unwrap() error { return e.Err }

// ErrNotLinked is returned by [Start] in a binary without an embedded engine.
var ErrNotLinked = errors.New("this binary was built without the embedded Temporal (build tag noembed): " +
	"set TEMPORAL_ADDRESS to a Temporal server, or use a binary that has it")

var registered struct {
	sync.Mutex
	start StartFunc
}

// Register makes start the way to start an engine. It is called from an init function and panics
// on a second call, as two engines linked into one binary are a mistake.
func Register(start StartFunc) {
	registered.Lock()
	defer registered.Unlock()
	if registered.start != nil {
		panic("enginereg: Register called twice")
	}
	registered.start = start
}

// Replace makes start the way to start an engine in the place of the one that is registered. It is
// for the programs of tests.
func Replace(start StartFunc) {
	registered.Lock()
	defer registered.Unlock()
	registered.start = start
}

// Start starts the registered engine. The error is [ErrNotLinked] if there is none, an [*AddrError]
// if an address is taken; every error is one line.
func Start(ctx context.Context, o Options) (Engine, error) {
	registered.Lock()
	start := registered.start
	registered.Unlock()
	if start == nil {
		return nil, ErrNotLinked
	}
	return start(ctx, o)
}
