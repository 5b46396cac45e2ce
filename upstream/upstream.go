// Package upstream is where tools live: the MCP servers Longhaul stands in
// front of, in this process, behind a command's standard streams, or behind
// HTTP. It lists their tools and calls them, as an MCP client.
//
// A [Set] is the servers of one Longhaul process. Every server has one
// long-lived session that lists its tools and hears of changes; calls have
// sessions of their own, because what a caller can be asked (its client
// capabilities) is fixed for a session. Sessions with servers in this process
// and over HTTP are cheap and made for each call. A command is a process, so
// its sessions are pooled: each call has one for itself, a session whose call
// was cut short is thrown away, and the next call starts a new process.
//
// While a tool runs, its server may ask: see [Call.Ask]. And its call may become
// a task of the server's own, which is followed to its end: see [Call.OnTask].
//
// The protocol is spoken by the go-sdk client, but what is stored and passed
// on has to be what the server sent, byte for byte, and not what some version
// of Go structs made of it. So the messages are also read off the connection
// as they pass, by the [tap].
package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/longhaul-mcp/longhaul/task"
)

// maxErrorBytes bounds a JSON-RPC error. A larger one is replaced, because the
// engine could not store it; results are bounded by [task.MaxBytes].
const maxErrorBytes = 1 << 20

// maxMessageBytes bounds one JSON-RPC message of a server, which is a result
// and a little more.
const maxMessageBytes = task.MaxBytes + 1<<20

// Errors of [Set.Call].
var (
	// ErrUnknownTool: no server has a tool that is exposed under this name.
	ErrUnknownTool = errors.New("unknown tool")
	// ErrClosed: the Set was closed.
	ErrClosed = errors.New("the upstreams are closed")
)

var errNotListed = errors.New("its tools could not be listed yet")

// LostError says that a server could not be reached, or that its connection
// was lost before the call was answered. Its text contains no credentials.
type LostError struct {
	// Server is the name of the server.
	Server string
	// Sent reports whether the call may have reached the tool. If not, nothing
	// has happened and any call may be repeated.
	Sent bool
	// Err is the error of the connection.
	Err error
	// Detail, if not empty, says what went wrong on the server's side: the last
	// lines of a process's standard error, the HTTP status, and the like; and
	// when a command is started again whose processes keep failing.
	Detail string
}

func (e *LostError) Error() string {
	if e.Sent {
		return fmt.Sprintf("the connection to server %q was lost during the call: %s", e.Server, e.what())
	}
	if errors.Is(e.Err, ErrUnknownTool) {
		return fmt.Sprintf("server %q does not list it: %s", e.Server, e.what())
	}
	return fmt.Sprintf("server %q cannot be reached: %s", e.Server, e.what())
}

func (e *LostError) what() string {
	if e.Detail != "" {
		return e.Detail
	}
	return e.Err.Error()
}

func (e *LostError) Unwrap() error { return e.Err }

// Options configure a [Set].
type Options struct {
	// Servers in the order in which their tools are listed.
	Servers []Server
	// Tools says how single tools are run, by exposed name.
	Tools map[string]ToolOptions
	// StdioPoolSize bounds the processes that run for the calls of one command.
	// One more lists its tools. Default 4.
	StdioPoolSize int
	// Version is what servers are told of this client. Default "dev".
	Version string
	Logger  *slog.Logger
}

// Set is a number of MCP servers and the catalogue of their tools.
type Set struct {
	options Options
	logger  *slog.Logger
	servers []*server

	// ctx ends with Close; jobs are the calls and everything in the background.
	ctx  context.Context
	stop context.CancelFunc
	jobs sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	catalogue catalogue
	warned    map[string]bool
	subs      map[int]func()
	nextSub   int
	// telling serialises the calls of subscribers.
	telling sync.Mutex
}

// New returns a Set of servers. It connects to none of them before
// [Set.Start], but middleware that contains panics is added to those in this
// process.
func New(o Options) (*Set, error) {
	if o.StdioPoolSize <= 0 {
		o.StdioPoolSize = 4
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Set{options: o, logger: o.Logger, warned: map[string]bool{}, subs: map[int]func(){}}
	names := map[string]bool{}
	for _, server := range o.Servers {
		switch {
		case server.dialer == nil:
			return nil, fmt.Errorf("server %q is neither in process nor a command nor a URL", server.Name)
		case server.Name == "" && len(o.Servers) > 1:
			return nil, errors.New("every one of several servers needs a name")
		case names[server.Name]:
			return nil, fmt.Errorf("two servers are named %q", server.Name)
		}
		if err := checkProtocol(server.Protocol); err != nil {
			return nil, fmt.Errorf("server %q: %w", server.Name, err)
		}
		names[server.Name] = true
		if local, ok := server.dialer.(*inProcess); ok {
			local.server.AddReceivingMiddleware(containPanics(o.Logger))
		}
		s.servers = append(s.servers, newServer(s, server, o.StdioPoolSize))
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Start lists the tools of all servers and returns when each has answered or
// failed to. A server that failed is tried again in the background; its tools
// appear when it answers. The error is that of ctx, or [ErrClosed].
func (s *Set) Start(ctx context.Context) error {
	var first sync.WaitGroup
	for _, server := range s.servers {
		first.Add(1)
		if !s.goJob(func() { server.follow(s.ctx, sync.OnceFunc(first.Done)) }) {
			return ErrClosed
		}
	}
	done := make(chan struct{})
	go func() { first.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends all sessions and processes and waits for them. Calls that are
// still running are cancelled and end with a [*LostError].
func (s *Set) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.jobs.Wait()
	for _, server := range s.servers {
		server.close()
	}
	s.jobs.Wait()
	return nil
}

// goJob runs f in the background until Close. It reports false when the Set
// is closed.
func (s *Set) goJob(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.jobs.Go(f)
	return true
}

// Call describes one call of a tool.
type Call struct {
	// Tool is the exposed name.
	Tool string
	// Arguments is a JSON object; nil means an empty one.
	Arguments json.RawMessage
	// Capabilities are the client capabilities of whoever can be asked for
	// input; nil means none. They are declared to the server, except those that
	// are about tasks: a task of the server's is Longhaul's own affair.
	Capabilities json.RawMessage
	// Answers are responses to the input requests of the round before, by the
	// tool's own keys, and RequestState is what it wants back with them.
	Answers      map[string]json.RawMessage
	RequestState string
	// IdempotencyKey, if not empty, is sent as [task.MetaIdempotencyKey] and
	// Checkpoint, if not nil, as [task.MetaCheckpoint].
	IdempotencyKey string
	Checkpoint     json.RawMessage
	// OnProgress, if not nil, is called for each progress notification, in
	// order, with the checkpoint it carries, if any, and never after Call has
	// returned. Progress grows from call to call, except that one which only
	// brings a checkpoint repeats the last. It must not block: the connection
	// is not read meanwhile.
	OnProgress func(p task.Progress, checkpoint json.RawMessage)
	// Ask, if not nil, answers the requests elicitation/create,
	// sampling/createMessage and roots/list that the server makes while the tool
	// runs, on a protocol before 2026-07-28, if the capabilities declare them;
	// it may take as long as a person does. It may be called concurrently, and
	// Call does not return before it has. Params are those the server sent,
	// verbatim, but for what is only about its session with Longhaul: the
	// progress token, the related task, and the wish for a task. The answer, a
	// JSON object, is sent as it is. An error that is a [*task.RPCError] is sent
	// to the server; any other ends the call, which returns it. Its ctx ends
	// with the call, and when the server cancels its request.
	//
	// The same goes for what the server's task asks, of any protocol (see
	// OnTask). On 2026-07-28 such a request cannot be answered with an error:
	// an elicitation is answered with "cancel" instead, and any other request
	// ends the call, and the server's task, with the error.
	//
	// If nil, elicitation and sampling end the call with an error, and roots are
	// refused.
	//
	// The request's key is the server's own where it gives one: to what its task
	// asks on 2026-07-28.
	Ask func(ctx context.Context, in task.InputRequest) (json.RawMessage, error)
	// OnElicitationComplete, if not nil, is called when the server reports,
	// while the tool runs, that what a person did at a URL is complete
	// (2025-11-25, elicitation, "Completion Notifications for URL Mode
	// Elicitation"). The id may be one nobody was asked under. Like OnProgress
	// it must not block.
	OnElicitationComplete func(elicitationID string)
	// OnTask, if not nil, is called when the call has become a task of the
	// server's own, which Call then polls until it ends. Its status messages are
	// reported as progress, where the server reports none. The handle, at most
	// a few hundred bytes, is what Resume takes.
	OnTask func(handle json.RawMessage)
	// Resume, if not nil, is the handle of the server's task that an earlier
	// Call for the same work has become: that task is gone on with, and the tool
	// is not called again. If the server does not know it any more, the
	// RoundResult is Unknown. Whether to call again without Resume then is for
	// the caller to decide.
	Resume json.RawMessage
}

// Call calls a tool once. What the server answered, even an error, is in the
// RoundResult, verbatim; but a URL elicitation required error (-32042) of the
// 2025 protocol is a round that needs input, if the capabilities declare
// elicitation.url. The error is a [*LostError], [ErrUnknownTool], which may be in one,
// that of Call.Ask, or that of ctx, whose end cancels the call on the server, and
// the task it has become, unless its cause is [ErrLeave].
func (s *Set) Call(ctx context.Context, c Call) (task.RoundResult, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return task.RoundResult{}, ErrClosed
	}
	s.jobs.Add(1)
	defer s.jobs.Done()
	tool, ok := s.catalogue.byName[c.Tool]
	s.mu.Unlock()
	if !ok {
		return task.RoundResult{}, s.unknown(c.Tool)
	}
	caps, err := declaredCapabilities(c.Capabilities)
	if err != nil {
		return task.RoundResult{}, err
	}

	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	result, err := tool.server.call(callCtx, tool, caps, c)
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		return task.RoundResult{}, ctx.Err()
	case s.ctx.Err() != nil:
		return task.RoundResult{}, &LostError{Server: tool.server.Name, Sent: true, Err: ErrClosed}
	default:
		return task.RoundResult{}, err
	}
}

// unknown is the error for a name that is not in the catalogue. The tool of a
// server that was not listed yet may exist, and one that is new may have been
// listed by another process before it was here: the server is listed again now.
func (s *Set) unknown(tool string) error {
	err := fmt.Errorf("%w: %q", ErrUnknownTool, tool)
	owners := s.owners(tool)
	for _, server := range owners {
		if why, ok := server.unlisted(); ok {
			return &LostError{Server: server.Name, Err: errNotListed, Detail: why}
		}
	}
	for _, server := range owners {
		server.listAgain()
	}
	if len(owners) == 0 {
		return err
	}
	return &LostError{Server: owners[0].Name, Err: err}
}
