package upstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// The protocol versions a [Server] can be held to.
const (
	Protocol2026 = "2026-07-28"
	Protocol2025 = "2025-11-25"
)

func checkProtocol(p string) error {
	if p != "" && p != Protocol2026 && p != Protocol2025 {
		return fmt.Errorf("unknown protocol %q: it is %q or %q", p, Protocol2026, Protocol2025)
	}
	return nil
}

// Server is one MCP server, made by [InProcess], [Command] or [HTTP].
type Server struct {
	// Name begins the exposed names of its tools if there are several servers.
	Name string
	// Protocol is the version offered to the server. By default, and with
	// [Protocol2026], that is the newest, and the server may choose an older
	// one. With [Protocol2025] it is that one.
	Protocol string

	// Workflows are those of its tools that are workflow functions, by their
	// names there, with the time each has to compensate once its task is over, 0
	// for the default. The server only lists them; their calls never reach it.
	Workflows map[string]time.Duration

	dialer dialer
	// secrets are the credentials it was configured with, to be kept out of
	// error texts.
	secrets []string
}

// dialer makes connections to one server.
type dialer interface {
	dial(ctx context.Context, t *tap) (link, error)
}

// link is one connection to a server.
type link interface {
	// transport is what the client connects to, once.
	transport() mcp.Transport
	// lost is closed when the connection is known to be broken.
	lost() <-chan struct{}
	// explain says, after an error, what happened on the server's side; empty
	// if the error itself is all there is. It may wait a moment for a process
	// to end.
	explain() string
	// close ends the connection and whatever there is behind it. It may take
	// some seconds, but nothing waits on the connection from its beginning on.
	close()
}

// InProcess is an MCP server in this process. Panics of its handlers, and
// handlers that return nothing, become JSON-RPC errors.
func InProcess(name string, s *mcp.Server) Server {
	return Server{Name: name, dialer: &inProcess{server: s}}
}

// CommandOptions describe a server that is started as a process and speaks
// MCP on its standard streams.
type CommandOptions struct {
	Command string
	Args    []string
	// Env is added to the environment the process inherits: that of this
	// process, without the variables that begin with TEMPORAL_ or LONGHAUL_.
	Env map[string]string
	// Dir is the working directory; empty means that of this process.
	Dir string
}

// Command is an MCP server behind the standard streams of a process.
func Command(name string, o CommandOptions) Server {
	s := Server{Name: name, dialer: &command{o}}
	for _, v := range o.Env {
		s.secrets = append(s.secrets, v)
	}
	return s
}

// HTTP is an MCP server behind streamable HTTP. The headers are sent with
// every request to the URL's own origin.
func HTTP(name, rawURL string, headers map[string]string) (Server, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		// The text of a URL may hold credentials, and so may the parser's error.
		return Server{}, fmt.Errorf("server %q: its url is not an absolute http or https URL", name)
	}
	s := Server{Name: name, dialer: newRemote(u, headers)}
	for _, v := range headers {
		s.secrets = append(s.secrets, v)
		if _, credentials, ok := strings.Cut(v, " "); ok {
			s.secrets = append(s.secrets, credentials)
		}
	}
	if password, ok := u.User.Password(); ok {
		s.secrets = append(s.secrets, password)
	}
	s.secrets = append(s.secrets, u.RawQuery)
	return s, nil
}

// maxIdleInProcess bounds the idle sessions of a server in this process, and
// idleInProcess how long each is kept. To make one costs as much as a call.
const (
	maxIdleInProcess = 64
	idleInProcess    = 10 * time.Second
)

// server is a Server at work.
type server struct {
	Server
	set    *Set
	redact *strings.Replacer
	// pool is nil if sessions are not kept: those over HTTP hold a connection that
	// the HTTP client keeps anyway.
	pool *pool
	// starts is nil if it is no command.
	starts *starts
	habit  *habit

	// stale has an entry if the tools are to be listed again.
	stale chan struct{}

	mu    sync.Mutex
	known bool // tools are those of a listing
	tools []listedTool
	// trouble is why they could not be listed the last time.
	trouble string
}

func newServer(set *Set, s Server, poolSize int) *server {
	// What is shorter is hardly a secret, and neither is a path; to leave them
	// out would mutilate texts.
	const shortest = 6
	var pairs []string
	secrets := slices.Clone(s.secrets)
	// Longer ones first, or one that contains another would be left in part.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, v := range secrets {
		if len(v) >= shortest && !strings.HasPrefix(v, "/") {
			pairs = append(pairs, v, "***")
		}
	}
	srv := &server{Server: s, set: set, redact: strings.NewReplacer(pairs...), habit: newHabit(), stale: make(chan struct{}, 1)}
	switch s.dialer.(type) {
	case *command:
		srv.pool, srv.starts = newPool(poolSize, poolSize), newStarts()
	case *inProcess:
		srv.pool = newPool(math.MaxInt32, maxIdleInProcess)
		srv.pool.expire(idleInProcess, func(sess *session) bool { return set.goJob(sess.close) })
	}
	return srv
}

func (s *server) listed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// unlisted reports whether the tools were never listed, and why not.
func (s *server) unlisted() (why string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why = errNotListed.Error(); s.trouble != "" {
		why += ": " + s.trouble
	}
	return why, !s.known
}

// call calls one of the server's tools on a session of its own, or on more than
// one if the call becomes a task of the server's.
func (s *server) call(ctx context.Context, tool exposedTool, caps []byte, c Call) (task.RoundResult, error) {
	a, err := newAttendance(c.Resume)
	if err != nil {
		return task.RoundResult{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	a.ctx = ctx
	defer a.asking.Wait()
	defer cancel()
	for rejoins := 0; ; rejoins++ {
		round, err := s.callOnce(ctx, tool, caps, c, a)
		var lost *LostError
		if a.handle == nil || !errors.As(err, &lost) {
			return round, err
		}
		lost.Sent = true
		if a.heard {
			rejoins, a.heard = 0, false
		}
		if rejoins == maxRejoins {
			return task.RoundResult{}, lost
		}
		select {
		case <-time.After(firstRetry << rejoins):
		case <-ctx.Done():
			return task.RoundResult{}, ctx.Err()
		}
	}
}

func (s *server) callOnce(ctx context.Context, tool exposedTool, caps []byte, c Call, a *attendance) (task.RoundResult, error) {
	sess, err := s.acquire(ctx, caps)
	if err != nil {
		return task.RoundResult{}, err
	}
	defer s.release(sess)
	return sess.call(ctx, tool, c, a)
}

// acquire returns a session that declares caps, for the caller alone.
func (s *server) acquire(ctx context.Context, caps []byte) (*session, error) {
	if s.pool == nil {
		return s.connect(ctx, sessionOptions{caps: caps})
	}
	sess, discarded, err := s.pool.get(ctx, caps)
	if err != nil {
		return nil, err
	}
	for _, old := range discarded {
		s.discard(old)
	}
	if sess != nil {
		return sess, nil
	}
	if sess, err = s.connect(ctx, sessionOptions{caps: caps}); err != nil {
		s.pool.put(nil)
		return nil, err
	}
	return sess, nil
}

func (s *server) release(sess *session) {
	switch {
	case s.pool == nil:
		s.discard(sess)
	case !sess.alive() || !s.keeps(sess):
		s.pool.put(nil)
		s.discard(sess)
	case !s.pool.put(sess):
		s.discard(sess)
	}
}

// keeps reports whether a session may serve another call. A server in this
// process may remember things by session, if its protocol has any: then each
// call gets its own.
func (s *server) keeps(sess *session) bool {
	_, ok := s.dialer.(*inProcess)
	return !ok || sess.isStateless()
}

// discard closes a session in the background.
func (s *server) discard(sess *session) { s.set.jobs.Go(sess.close) }

// close closes the idle sessions. No call may be running any more.
func (s *server) close() {
	if r, ok := s.dialer.(*remote); ok {
		r.base.CloseIdleConnections()
	}
	if s.pool == nil {
		return
	}
	for _, sess := range s.pool.drain() {
		s.discard(sess)
	}
}

// lostError is a LostError without the server's credentials.
func (s *server) lostError(sent bool, err error, detail string) *LostError {
	// A url.Error repeats the whole URL.
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	if text := err.Error(); s.redact.Replace(text) != text {
		err = errors.New(s.redact.Replace(text))
	}
	return &LostError{Server: s.Name, Sent: sent, Err: err, Detail: s.redact.Replace(detail)}
}

const (
	// relistRemote is how often the tools of a remote server are listed anew:
	// nothing tells when the stream on which it announces changes is gone.
	relistRemote = time.Minute
	firstRetry   = time.Second
	slowestRetry = time.Minute
)

// follow keeps the tool list current until ctx is done. It calls first when
// the server has answered, or failed to, for the first time.
func (s *server) follow(ctx context.Context, first func()) {
	defer first()
	wait := firstRetry
	for ctx.Err() == nil {
		ok, err := s.followOnce(ctx, first)
		if ok {
			wait = firstRetry
		}
		if err == nil {
			continue
		}
		wait = max(wait, s.starts.wait())
		if ctx.Err() == nil {
			s.set.logger.Warn("cannot list the tools of a server, trying again", "server", s.Name, "error", err, "in", wait)
			s.setTrouble(err)
		}
		first()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, slowestRetry)
	}
}

func (s *server) setTrouble(err error) {
	var lost *LostError
	if !errors.As(err, &lost) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = lost.what()
}

// listAgain has the tools listed again, soon.
func (s *server) listAgain() {
	select {
	case s.stale <- struct{}{}:
	default:
	}
}

// followOnce does so for as long as one session lasts. It reports whether the
// tools were listed at all.
func (s *server) followOnce(ctx context.Context, first func()) (ok bool, err error) {
	sess, err := s.connect(ctx, sessionOptions{caps: everyCapability, onListChanged: s.listAgain})
	if err != nil {
		return false, err
	}
	defer sess.close()
	defer time.AfterFunc(habitTime, func() { s.habit.learn(false) }).Stop()

	var refresh <-chan time.Time
	if _, remote := s.dialer.(*remote); remote {
		timer := time.NewTimer(relistRemote)
		defer timer.Stop()
		refresh = timer.C
	}
	for {
		tools, err := sess.list(ctx)
		if err != nil {
			return ok, err
		}
		ok = true
		s.setTools(tools)
		first()
		select {
		case <-s.stale:
		case <-refresh:
			return true, nil
		case <-sess.ended:
			return true, s.lostError(false, errEnded, sess.link.explain())
		case <-ctx.Done():
			return true, nil
		}
	}
}

var errEnded = errors.New("the server ended the session")
