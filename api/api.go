package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/longhaul-mcp/longhaul/task"
)

// Catalogue is what the front needs to know of tools. Definitions may be
// shared; nothing here changes them.
type Catalogue interface {
	// Tools lists the tools, in the order in which clients see them.
	Tools() []task.Tool
	// Lookup returns the tool exposed under name.
	Lookup(name string) (task.Tool, bool)
	// Subscribe calls changed after every change of the list, until cancel.
	// changed must not block.
	Subscribe(changed func()) (cancel func())
}

// Options configures the front. Tasks, Catalogue and Key are required.
type Options struct {
	// Tasks is the engine.
	Tasks task.Service
	// Catalogue is where tools come from.
	Catalogue Catalogue
	// Key is a secret of [KeySize] bytes from which the keys for session ids,
	// requestState and cursors are derived. Processes that serve the same
	// clients share it.
	Key []byte

	// Auth authenticates bearer tokens. Nil means one user and no
	// authentication: for loopback only.
	Auth Verifier
	// Replicated says that other processes serve the same clients. A session
	// cannot be deleted then (405), for only this process would know.
	Replicated bool
	// AllowedHosts are the names, without port, under which the server may be
	// addressed besides loopback ones. "*" allows all: for servers with Auth
	// behind a proxy.
	AllowedHosts []string
	// AllowedOrigins are the origins, like "https://app.example.com", from
	// which browsers may call besides loopback ones.
	AllowedOrigins []string

	// TTL is the time to live of a task that does not ask for one. Default 24 h.
	TTL time.Duration
	// MinTTL and MaxTTL bound what clients may ask for; what they ask beyond is
	// brought within. Defaults 1 s and 30 days.
	MinTTL, MaxTTL time.Duration
	// PollInterval is what clients are told to wait between polls. Default 1 s.
	PollInterval time.Duration
	// InlineWindow is how long a 2026 tools/call waits for a result before it
	// answers with a task. Default 100 ms.
	InlineWindow time.Duration
	// MaxBody bounds a request's body, in bytes. Default: [task.MaxBytes] and
	// 1 MiB for what is around the arguments.
	MaxBody int64

	// ServerName and ServerVersion identify the server. Defaults "longhaul"
	// and "dev".
	ServerName, ServerVersion string
	// Ready, if set, is what GET /readyz asks besides the engine.
	Ready func(context.Context) error
	// Logger receives one record per request at debug level, and errors.
	// Default [slog.Default].
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.TTL, 24*time.Hour)
	setDefault(&o.MinTTL, time.Second)
	setDefault(&o.MaxTTL, 30*24*time.Hour)
	setDefault(&o.PollInterval, time.Second)
	setDefault(&o.InlineWindow, 100*time.Millisecond)
	setDefault(&o.MaxBody, task.MaxBytes+1<<20)
	setDefault(&o.ServerName, "longhaul")
	setDefault(&o.ServerVersion, "dev")
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	switch {
	case o.Tasks == nil:
		return errors.New("api: Options.Tasks is required")
	case o.Catalogue == nil:
		return errors.New("api: Options.Catalogue is required")
	case o.MinTTL > o.TTL || o.TTL > o.MaxTTL:
		return fmt.Errorf("api: want MinTTL ≤ TTL ≤ MaxTTL, have %s, %s, %s", o.MinTTL, o.TTL, o.MaxTTL)
	case o.PollInterval < time.Millisecond || o.MinTTL < time.Millisecond:
		return errors.New("api: PollInterval and MinTTL must be at least a millisecond")
	}
	return nil
}

// API is the HTTP front. Create it with [New].
type API struct {
	tasks     task.Service
	catalogue Catalogue
	auth      Verifier
	ready     func(context.Context) error
	log       *slog.Logger
	opts      Options // the plain values
	maxWait   time.Duration

	sessions *sessions
	states   sealer // requestState
	cursors  sealer // tasks/list
	heldIDs  namer
	// elicitationIDs names visits to URLs that their tool has no name for.
	elicitationIDs namer

	schemas *schemas
	legacy  wire2025
	modern  wire2026
	sdk2025 http.Handler
	sdk2026 http.Handler

	waits waits // 2025 requests that notifications/cancelled may end
	asked asked // requests that are on a 2025 stream now
	gets  gets  // open GET streams
	// statuses are the states of tasks that streams of 2025 have sent.
	statuses statuses
	// tokens are the progress tokens of this process's newest 2025 tasks.
	tokens progressTokens

	echo    *echo.Echo
	closing chan struct{} // closed by Shutdown: streams end

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup
}

// New returns a front that serves o.Tasks.
func New(o Options) (*API, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	serverInfo, err := encode(map[string]string{"name": o.ServerName, "version": o.ServerVersion})
	if err != nil {
		return nil, err
	}
	a := &API{
		tasks: o.Tasks, catalogue: o.Catalogue, auth: o.Auth, ready: o.Ready, log: o.Logger, opts: o, maxWait: defaultMaxWait,
		schemas: newSchemas(),
		legacy:  wire2025{pollInterval: o.PollInterval},
		modern:  newWire2026(o.PollInterval, serverInfo),
		closing: make(chan struct{}),
	}
	if a.sessions, err = newSessions(o.Key); err != nil {
		return nil, err
	}
	if a.states, err = newSealer(o.Key, "requestState"); err != nil {
		return nil, err
	}
	if a.cursors, err = newSealer(o.Key, "cursor"); err != nil {
		return nil, err
	}
	if a.heldIDs, err = newNamer(o.Key, "held call"); err != nil {
		return nil, err
	}
	if a.elicitationIDs, err = newNamer(o.Key, "elicitation"); err != nil {
		return nil, err
	}
	a.sdk2025, a.sdk2026 = a.newSDKHandlers()
	a.echo = a.newEcho()
	return a, nil
}

func (a *API) newEcho() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	handle := compose(
		func(c echo.Context) error { return c.Handler()(c) }, // that of the route
		middleware.RequestID(),
		middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
			Skipper:   func(c echo.Context) bool { return !a.log.Enabled(c.Request().Context(), slog.LevelDebug) },
			LogMethod: true, LogStatus: true, LogLatency: true, LogURIPath: true, LogRequestID: true, HandleError: true,
			LogValuesFunc: func(c echo.Context, v middleware.RequestLoggerValues) error {
				a.log.LogAttrs(c.Request().Context(), slog.LevelDebug, "request",
					slog.String("request_id", v.RequestID), slog.String("method", v.Method), slog.String("path", v.URIPath),
					slog.Int("status", v.Status), slog.Duration("latency", v.Latency))
				return nil
			},
		}),
		middleware.RecoverWithConfig(middleware.RecoverConfig{
			LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
				a.log.Error("panic in a request handler", "error", err, "stack", string(stack),
					"request_id", c.Response().Header().Get(echo.HeaderXRequestID))
				return err
			},
		}),
		boundBody,
	)
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return handle })
	e.Any("/mcp", compose(a.serve, a.cors()))
	e.GET("/healthz", a.healthz)
	e.GET("/readyz", a.readyz)
	return e
}

// compose puts middleware around a handler, the first outermost. Echo itself
// would do so anew for each request.
func compose(handler echo.HandlerFunc, around ...echo.MiddlewareFunc) echo.HandlerFunc {
	for _, m := range slices.Backward(around) {
		handler = m(handler)
	}
	return handler
}

// Handler serves /mcp, /healthz and /readyz.
func (a *API) Handler() http.Handler { return a.echo }

// Shutdown ends what waits — streams get their last message, callers that can
// come back are told to — and returns when every request has been answered, or
// with ctx's error. Requests that arrive later get 503. It is called before
// the HTTP server is shut down, and may be called more than once.
func (a *API) Shutdown(ctx context.Context) error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.closing)
	}
	a.mu.Unlock()
	done := make(chan struct{})
	go func() {
		a.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin counts a request in, unless the server is shutting down.
func (a *API) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.handlers.Add(1)
	return true
}
