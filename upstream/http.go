package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// remote dials a server behind streamable HTTP.
type remote struct {
	url     *url.URL
	headers map[string]string
	// base is shared by all sessions, and so are its connections.
	base *http.Transport
}

func newRemote(u *url.URL, headers map[string]string) *remote {
	base := http.DefaultTransport.(*http.Transport).Clone()
	// Many calls run at once, each on a session of its own.
	base.MaxIdleConnsPerHost = 64
	return &remote{url: u, headers: headers, base: base}
}

func (r *remote) dial(_ context.Context, t *tap) (link, error) {
	l := &httpLink{remote: r, tap: t}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// httpLink is what all requests of one session go through. The connection the
// SDK makes over HTTP cannot be wrapped (it has methods only the SDK knows),
// so the tap is put to the bodies of requests and responses instead.
type httpLink struct {
	remote *remote
	tap    *tap
	// ctx ends all requests of the session.
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	trouble string
}

func (l *httpLink) transport() mcp.Transport {
	return &mcp.StreamableClientTransport{
		Endpoint:     l.remote.url.String(),
		HTTPClient:   &http.Client{Transport: l},
		MaxEventSize: -1, // the tap has a limit of its own
	}
}

func (l *httpLink) lost() <-chan struct{} { return l.ctx.Done() }

func (l *httpLink) explain() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

func (l *httpLink) close() { l.cancel() }

// RoundTrip implements [http.RoundTripper].
func (l *httpLink) RoundTrip(req *http.Request) (*http.Response, error) {
	msg, err := sentMessage(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(l.ctx, cancel)
	release := func() { stop(); cancel() }
	if msg != nil {
		l.tap.sending(msg)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			// From here on the server may act upon the request.
			WroteHeaders: func() { l.tap.sent(msg) },
		})
	}
	req = req.Clone(ctx)
	if req.URL.Scheme == l.remote.url.Scheme && req.URL.Host == l.remote.url.Host {
		// Credentials do not follow a redirect to somewhere else.
		for name, value := range l.remote.headers {
			req.Header.Set(name, value)
		}
	}
	if id := taskOf(msg); id != "" && req.Header.Get("Mcp-Method") != "" {
		req.Header.Set("Mcp-Name", headerValue(id))
	}
	resp, err := l.remote.base.RoundTrip(req)
	if err != nil {
		release()
		l.note(req, err.Error())
		return nil, err
	}
	if resp.StatusCode >= 300 {
		l.note(req, "it answered HTTP "+resp.Status)
		if msg != nil && turnedAway(resp.StatusCode) {
			l.tap.refused(msg)
		}
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	body := &tappedBody{ReadCloser: resp.Body, tap: l.tap, release: release}
	switch mediaType {
	case "application/json":
		body.feed, body.end = body.feedJSON, body.endJSON
	case "text/event-stream":
		body.feed, body.end = body.feedEvents, body.endEvents
	}
	resp.Body = body
	return resp, nil
}

// note keeps what went wrong with a posted message, to explain an error by. A
// session's other requests may fail without harm.
func (l *httpLink) note(req *http.Request, trouble string) {
	if req.Method != http.MethodPost || req.Context().Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = trouble
}

// turnedAway reports whether a status says that the request took no effect.
func turnedAway(status int) bool {
	return status >= 400 && status < 500 || status == http.StatusServiceUnavailable
}

// sentMessage is the message a request posts, nil if it posts none.
func sentMessage(req *http.Request) (jsonrpc.Message, error) {
	if req.GetBody == nil {
		return nil, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	return jsonrpc.DecodeMessage(data)
}

// taskOf is the id of the task a request is about, "" for any other. It goes
// into a header (ext-tasks, "Streamable HTTP: Routing Headers": the client MUST
// set Mcp-Name), which the SDK sets only for methods it knows.
func taskOf(msg jsonrpc.Message) string {
	req, ok := msg.(*jsonrpc.Request)
	if !ok || !strings.HasPrefix(req.Method, "tasks/") {
		return ""
	}
	var p struct {
		ID string `json:"taskId"`
	}
	_ = json.Unmarshal(req.Params, &p) // they were marshalled here
	return p.ID
}

// headerValue writes a string as a header can hold it (2026-07-28, transports,
// streamable HTTP, "Value Encoding").
func headerValue(s string) string {
	const prefix, suffix = "=?base64?", "?="
	plain := strings.TrimSpace(s) == s && !strings.HasPrefix(s, prefix) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	if plain {
		return s
	}
	return prefix + base64.StdEncoding.EncodeToString([]byte(s)) + suffix
}

// tappedBody reports the messages in a response body to the tap, and hands on
// what the tap made of them.
type tappedBody struct {
	io.ReadCloser
	tap     *tap
	release func()
	// feed takes in what is read, end the end of it; nil if it holds no
	// messages. They leave in out what is to be handed on.
	feed func([]byte)
	end  func()
	out  []byte
	// in is what out is made from; err ended it.
	in  []byte
	err error

	// buf is the body (JSON), or the current line (events).
	buf []byte
	// event and data are the current event's fields, and raw its lines; rest
	// are those that are not data.
	event     string
	data      []byte
	raw, rest []byte
}

func (b *tappedBody) Read(p []byte) (int, error) {
	if b.feed == nil {
		return b.ReadCloser.Read(p)
	}
	if b.in == nil {
		b.in = make([]byte, 32<<10)
	}
	for len(b.out) == 0 && b.err == nil {
		var n int
		n, b.err = b.ReadCloser.Read(b.in)
		b.feed(b.in[:n])
		if len(b.buf)+len(b.raw) > maxMessageBytes {
			b.tap.abort(errTooLarge)
			b.out, b.err = nil, errTooLarge
		}
		if errors.Is(b.err, io.EOF) {
			b.end()
		}
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	if len(b.out) > 0 {
		return n, nil
	}
	return n, b.err
}

func (b *tappedBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

func (b *tappedBody) feedJSON(p []byte) { b.buf = append(b.buf, p...) }

func (b *tappedBody) endJSON() {
	b.out = b.buf
	if changed, ok := b.report(b.buf); ok {
		b.out = changed
	}
}

// feedEvents reads server-sent events, as the SDK does.
func (b *tappedBody) feedEvents(p []byte) {
	for {
		line, rest, complete := bytes.Cut(p, []byte("\n"))
		b.buf = append(b.buf, line...)
		if !complete {
			return
		}
		b.buf = append(b.buf, '\n')
		b.line(b.buf)
		b.buf, p = b.buf[:0], rest
	}
}

func (b *tappedBody) line(line []byte) {
	b.raw = append(b.raw, line...)
	text := bytes.TrimRight(line, "\r\n")
	field, value, _ := bytes.Cut(text, []byte(":"))
	switch string(field) {
	case "data":
		if len(b.data) > 0 {
			b.data = append(b.data, '\n')
		}
		b.data = append(b.data, bytes.TrimSpace(value)...)
		return
	case "event":
		b.event = strings.TrimSpace(string(value))
	case "":
		if len(text) == 0 {
			b.dispatch()
			return
		}
		// A comment, which keeps the connection alive.
	}
	b.rest = append(b.rest, line...)
}

// endEvents takes the end of the stream for that of the last event.
func (b *tappedBody) endEvents() {
	if len(b.buf) > 0 {
		b.line(append(b.buf, '\n'))
	}
	b.dispatch()
}

// dispatch reports the message in the event that is complete.
func (b *tappedBody) dispatch() {
	changed, isChanged := []byte(nil), false
	if len(b.data) > 0 && (b.event == "" || b.event == "message") {
		changed, isChanged = b.report(b.data)
	}
	if isChanged {
		b.out = append(b.out, b.rest...)
		b.out = append(b.out, "data: "...)
		b.out = append(b.out, changed...)
		b.out = append(b.out, "\n\n"...)
	} else {
		b.out = append(b.out, b.raw...)
	}
	b.event, b.data, b.raw, b.rest = "", b.data[:0], b.raw[:0], b.rest[:0]
}

// report reports a message to the tap and returns what the tap changed it to.
func (b *tappedBody) report(data []byte) (changed []byte, ok bool) {
	msg, err := jsonrpc.DecodeMessage(data)
	if err != nil || !b.tap.received(msg) {
		return nil, false // what is no message the SDK will complain about
	}
	changed, err = jsonrpc.EncodeMessage(msg)
	return changed, err == nil
}
