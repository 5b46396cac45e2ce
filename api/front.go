package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/longhaul-mcp/longhaul/task"
)

// method answers one JSON-RPC request with a result or an error. Through x it
// can send other messages first, which turns the reply into a stream.
type method func(ctx context.Context, x *exchange) (any, error)

// exchange is one JSON-RPC request being answered.
type exchange struct {
	msg   *message
	wire  wire
	owner task.Owner
	// version is the protocol version, capabilities what the client declares.
	version      string
	capabilities json.RawMessage
	session      *session // nil on 2026

	w      http.ResponseWriter
	r      *http.Request
	stream *stream // nil until the reply has become one
}

// declares reports whether the 2026 client declared an extension.
func (x *exchange) declares(extension string) bool {
	caps, _ := readObject(x.capabilities, false)
	extensions, _ := readObject(caps.get("extensions"), false)
	return extensions.get(extension) != nil
}

// open turns the reply into a stream, if it is none yet.
func (x *exchange) open() *stream {
	if x.stream == nil {
		x.stream = newStream(x.w)
	}
	return x.stream
}

// reply sends the response.
func (x *exchange) reply(result any, err error) {
	out := response{JSONRPC: "2.0", ID: x.msg.id, Result: result}
	status := http.StatusOK
	if err != nil {
		out.Result, out.Error = nil, rpcError(err)
		status = httpStatus(err, x.wire)
	}
	if x.stream != nil {
		_ = x.stream.send(out) // the client may be gone: nothing is left to do
		return
	}
	writeJSON(x.w, status, out)
}

// bodies are the buffers of responses, to be used again.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b := bodies.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= usualBody {
			b.Reset()
			bodies.Put(b)
		}
	}()
	body, err := encodeIn(b, v)
	if err != nil {
		http.Error(w, "cannot encode the response", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone, or not read. What is left of the deadline is for what
	// the HTTP server still holds, and it lifts it when the response is out.
	_ = writeParts(w, http.NewResponseController(w), body)
}

// writeError answers an HTTP request that gets no further.
func (a *API) writeError(w http.ResponseWriter, id json.RawMessage, err error) {
	a.logUntold(err)
	writeJSON(w, httpStatus(err, nil), response{JSONRPC: "2.0", ID: id, Error: rpcError(err)})
}

// serve is the MCP endpoint.
func (a *API) serve(c echo.Context) error {
	w, r := c.Response(), c.Request()
	if !a.begin() {
		w.Header().Set("Retry-After", "1")
		a.writeError(w, nil, refuse(http.StatusServiceUnavailable, codeInternal, "The server is shutting down: try again"))
		return nil
	}
	defer a.handlers.Done()

	if err := a.checkAddress(r); err != nil {
		a.writeError(w, nil, err)
		return nil
	}
	owner, err := a.authenticate(w, r)
	if err != nil {
		a.writeError(w, nil, err)
		return nil
	}
	switch r.Method {
	case http.MethodPost:
		a.servePost(w, r, owner)
	case http.MethodGet, http.MethodDelete:
		// 2026 has neither (streamable-http, "Earlier Streamable HTTP Revisions").
		if isModern(r.Header, nil) {
			a.notAllowed(w, "POST")
			return nil
		}
		sess, err := a.legacySession(r, owner)
		if err != nil {
			a.writeError(w, nil, err)
			return nil
		}
		if r.Method == http.MethodGet {
			a.serveGet(w, r, sess, owner)
			return nil
		}
		if a.opts.Replicated {
			a.notAllowed(w, "GET, POST")
			return nil
		}
		a.sessions.revoke(sess)
		a.gets.end(sess.ID)
		w.WriteHeader(http.StatusNoContent)
	default:
		a.notAllowed(w, "GET, POST, DELETE")
	}
	return nil
}

func (a *API) notAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	a.writeError(w, nil, refuse(http.StatusMethodNotAllowed, codeInvalidRequest, "Method not allowed"))
}

// checkAddress defends a server on somebody's machine against the pages they
// visit: the name it is addressed by and the page that asks must be known, for
// every HTTP method (basic/transports, "Security Warning").
func (a *API) checkAddress(r *http.Request) error {
	host := hostname(r.Host)
	if !isLoopback(host) && !slices.ContainsFunc(a.opts.AllowedHosts, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, host)
	}) {
		return refuse(http.StatusForbidden, codeInvalidRequest, "Forbidden: unknown Host")
	}
	for _, origin := range r.Header.Values("Origin") {
		if !a.allowsOrigin(origin) {
			return refuse(http.StatusForbidden, codeInvalidRequest, "Forbidden: unknown Origin")
		}
	}
	return nil
}

func (a *API) allowsOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err == nil && u.Host != "" && isLoopback(u.Hostname()) {
		return true
	}
	return slices.Contains(a.opts.AllowedOrigins, origin)
}

// cors lets pages of the origins that may call do so: without the browser's being
// told, none of them could send a request or read the reply. It comes before
// authentication, for a preflight carries no token. Who may not call, and who is
// no page, is left to serve.
func (a *API) cors() echo.MiddlewareFunc {
	return middleware.CORSWithConfig(middleware.CORSConfig{
		Skipper: func(c echo.Context) bool {
			r := c.Request()
			return r.Header.Get(echo.HeaderOrigin) == "" || a.checkAddress(r) != nil
		},
		AllowOriginFunc: func(origin string) (bool, error) { return a.allowsOrigin(origin), nil },
		AllowMethods:    []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodOptions},
		// AllowHeaders is empty, which allows what is asked for: each tool may have
		// Mcp-Param-* headers of its own.
		ExposeHeaders: []string{headerSession, echo.HeaderWWWAuthenticate, echo.HeaderRetryAfter, echo.HeaderAllow, echo.HeaderXRequestID},
	})
}

func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return host
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// servePost answers a POST: one message, or a batch where the session's
// revision has them.
func (a *API) servePost(w http.ResponseWriter, r *http.Request, owner task.Owner) {
	body, err := a.readBody(w, r)
	if err != nil {
		a.writeError(w, nil, err)
		return
	}
	if bytes.HasPrefix(body, []byte("[")) {
		a.serveBatch(w, r, owner, body)
		return
	}
	m, err := parseMessage(body)
	if err != nil {
		a.writeError(w, m.id, err)
		return
	}
	if isModern(r.Header, m) {
		a.serveModern(w, r, owner, m)
		return
	}
	if m.method == "initialize" && m.isRequest() {
		x := &exchange{msg: m, wire: a.legacy, owner: owner, w: w, r: r}
		a.run(r.Context(), x, a.initialize)
		return
	}
	sess, err := a.legacySession(r, owner)
	if err != nil {
		a.writeError(w, m.id, err)
		return
	}
	a.serveLegacy(w, r, owner, sess, m)
}

// readBody reads a body that is JSON and not too large.
func (a *API) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, refuse(http.StatusUnsupportedMediaType, codeInvalidRequest, "Content-Type must be application/json")
	}
	if !accepts(r.Header, "application/json") || !accepts(r.Header, "text/event-stream") {
		return nil, refuse(http.StatusNotAcceptable, codeInvalidRequest, "Accept must list application/json and text/event-stream")
	}
	coming := pacedBody{r.Body, http.NewResponseController(w)}
	body, err := readAll(coming, r.ContentLength, a.opts.MaxBody+1)
	if err != nil {
		return nil, brokenOff(err)
	}
	if int64(len(body)) > a.opts.MaxBody {
		// Let the client finish, within reason: it reads no answer before.
		_, _ = io.Copy(io.Discard, io.LimitReader(coming, 4*a.opts.MaxBody))
		return nil, refuse(http.StatusRequestEntityTooLarge, codeInvalidRequest, "Request body exceeds %d bytes", a.opts.MaxBody)
	}
	body = bytes.TrimSpace(body)
	if !json.Valid(body) {
		return nil, refuse(http.StatusBadRequest, codeParse, "Parse error: the body is not JSON")
	}
	return body, nil
}

// usualBody bounds, in bytes, what is done for the sake of bodies of the usual
// length: a request's is given the room that its header asks for before any of it
// has come, a response's buffer is used again.
const usualBody = 64 << 10

// readAll reads a body of the given length, or a negative one if that is not known,
// and keeps at most limit bytes.
func readAll(r io.Reader, length, limit int64) ([]byte, error) {
	if length < 0 || length > min(limit, usualBody) {
		return io.ReadAll(io.LimitReader(r, limit))
	}
	body := make([]byte, length)
	n, err := io.ReadFull(r, body)
	return body[:n], err
}

func isJSON(contentType string) bool {
	const want = "application/json"
	if contentType == want { // mostly, and to parse it takes a while
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == want
}

// accepts reports whether the Accept header admits a media type. Without the
// header everything is admitted.
func accepts(h http.Header, mediaType string) bool {
	values := h.Values("Accept")
	major, _, _ := strings.Cut(mediaType, "/")
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			base, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(base)) {
			case "*/*", major + "/*", mediaType:
				return true
			}
		}
	}
	return len(values) == 0
}

// run answers the request with what do returns.
func (a *API) run(ctx context.Context, x *exchange, do method) {
	result, err := do(ctx, x)
	if errors.Is(err, errNoReply) {
		return
	}
	if err != nil {
		a.logUntold(err, "rpc_method", x.msg.method, "owner", string(x.owner))
	}
	x.reply(result, err)
}

// serveModern answers a message on the 2026 wire.
func (a *API) serveModern(w http.ResponseWriter, r *http.Request, owner task.Owner, m *message) {
	switch {
	case m.isResponse(): // "The client MUST NOT send JSON-RPC responses"
		a.writeError(w, m.id, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: responses are not accepted"))
		return
	case m.isNotification():
		w.WriteHeader(http.StatusAccepted)
		return
	}
	x := &exchange{msg: m, wire: a.modern, owner: owner, version: version20260728, w: w, r: r}
	a.run(r.Context(), x, func(ctx context.Context, x *exchange) (any, error) {
		var err error
		if x.capabilities, err = checkMetadata(r.Header, m); err != nil {
			return nil, err
		}
		do := a.modernMethod(m.method)
		if do == nil {
			return nil, methodNotFound(m.method)
		}
		return do(ctx, x)
	})
}

func (a *API) modernMethod(name string) method {
	switch name {
	case "tools/call":
		return a.callModern
	case "tasks/get":
		return needsTasks(a.tasksGet)
	case "tasks/update":
		return needsTasks(a.tasksUpdate)
	case "tasks/cancel":
		return needsTasks(a.tasksCancelModern)
	case "subscriptions/listen":
		return a.listen
	case "server/discover", "tools/list":
		return a.viaSDK
	default:
		return nil
	}
}

// needsTasks refuses clients that did not declare the tasks extension
// (ext-tasks, "Protocol Errors").
func needsTasks(do method) method {
	return func(ctx context.Context, x *exchange) (any, error) {
		if !x.declares(tasksExtension) {
			return nil, missingTasksExtension()
		}
		return do(ctx, x)
	}
}

func methodNotFound(name string) error {
	return rpcErrorf(codeMethodNotFound, "Method not found: %s", name)
}

// legacySession is the session of a 2025 request, and its version header.
func (a *API) legacySession(r *http.Request, owner task.Owner) (*session, error) {
	sess, err := a.sessions.lookup(r.Header.Get(headerSession), owner)
	if err != nil {
		return nil, err
	}
	// "If the server receives a request with an invalid or unsupported
	// MCP-Protocol-Version, it MUST respond with 400 Bad Request"
	if v := r.Header.Get(headerVersion); v != "" && v != sess.Version {
		return nil, refuse(http.StatusBadRequest, codeInvalidRequest,
			"%s header value '%s' does not match the session's '%s'", headerVersion, v, sess.Version)
	}
	return sess, nil
}

// serveLegacy answers a message on the 2025 wire.
func (a *API) serveLegacy(w http.ResponseWriter, r *http.Request, owner task.Owner, sess *session, m *message) {
	a.gets.active(sess.ID)
	if !m.isRequest() {
		if err := a.takeLegacy(r.Context(), owner, sess, m); err != nil {
			a.writeError(w, m.id, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	a.run(r.Context(), a.legacyExchange(w, r, owner, sess, m), a.legacyMethod)
}

func (a *API) legacyExchange(w http.ResponseWriter, r *http.Request, owner task.Owner, sess *session, m *message) *exchange {
	return &exchange{
		msg: m, wire: a.legacy, owner: owner, version: sess.Version,
		capabilities: sess.Capabilities, session: sess, w: w, r: r,
	}
}

func (a *API) legacyMethod(ctx context.Context, x *exchange) (any, error) {
	switch x.msg.method {
	case "ping", "tools/list":
		return a.viaSDK(ctx, x)
	case "tools/call":
		return a.callLegacy(ctx, x)
	}
	if x.version == version20251125 {
		switch x.msg.method {
		case "tasks/get":
			return a.tasksGet(ctx, x)
		case "tasks/result":
			return a.tasksResult(ctx, x)
		case "tasks/list":
			return a.tasksList(ctx, x)
		case "tasks/cancel":
			return a.tasksCancelLegacy(ctx, x)
		}
	}
	return nil, methodNotFound(x.msg.method)
}

// takeLegacy takes in a notification or a response.
func (a *API) takeLegacy(ctx context.Context, owner task.Owner, sess *session, m *message) error {
	if m.isResponse() {
		return a.takeResponse(ctx, owner, m)
	}
	if m.method == "notifications/cancelled" {
		return a.takeCancelled(ctx, owner, sess, m)
	}
	return nil // notifications/initialized and the like change nothing here
}

// maxBatch bounds the messages of one batch.
const maxBatch = 100

// serveBatch answers a batch, which 2025-03-26 alone has: one message after
// the other, the responses on one stream (2025-03-26, basic/transports).
func (a *API) serveBatch(w http.ResponseWriter, r *http.Request, owner task.Owner, body []byte) {
	noBatch := refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: batches are not supported")
	if isModern(r.Header, nil) {
		a.writeError(w, nil, noBatch)
		return
	}
	sess, err := a.legacySession(r, owner)
	if err != nil && r.Header.Get(headerSession) != "" {
		a.writeError(w, nil, err)
		return
	}
	if sess == nil || sess.Version != version20250326 {
		a.writeError(w, nil, noBatch)
		return
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(body, &raws); err != nil || len(raws) == 0 || len(raws) > maxBatch {
		a.writeError(w, nil, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: a batch has 1 to %d messages", maxBatch))
		return
	}
	messages := make([]*message, len(raws))
	requests := 0
	for i, raw := range raws {
		m, err := parseMessage(raw)
		if err == nil && m.method == "initialize" {
			err = refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: initialize in a batch")
		}
		if err != nil {
			a.writeError(w, m.id, err)
			return
		}
		if m.isRequest() {
			requests++
		}
		messages[i] = m
	}
	var out *stream
	if requests > 0 {
		out = newStream(w)
		if out.flush() != nil {
			return // the connection is gone
		}
	}
	for _, m := range messages {
		if !m.isRequest() {
			if err := a.takeLegacy(r.Context(), owner, sess, m); err != nil && requests == 0 {
				a.writeError(w, m.id, err)
				return
			}
			continue
		}
		x := a.legacyExchange(w, r, owner, sess, m)
		x.stream = out
		a.run(r.Context(), x, a.legacyMethod)
	}
	if requests == 0 {
		w.WriteHeader(http.StatusAccepted)
	}
}
