package upstream

import (
	"bytes"
	"context"
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
		body.feed, body.end = body.feedEvents, body.endEvent
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

// tappedBody reports the messages in a response body to the tap before their
// last byte is handed on.
type tappedBody struct {
	io.ReadCloser
	tap     *tap
	release func()
	// feed and end take in what is read; nil if it holds no messages.
	feed func([]byte)
	end  func()

	// buf is the body (JSON), or the current line (events).
	buf []byte
	// event and data are the current event's fields.
	event string
	data  []byte
}

func (b *tappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.feed == nil {
		return n, err
	}
	b.feed(p[:n])
	if len(b.buf)+len(b.data) > maxMessageBytes {
		b.tap.abort(errTooLarge)
		b.feed = nil
		return 0, errTooLarge
	}
	if err == io.EOF {
		b.end()
	}
	return n, err
}

func (b *tappedBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

func (b *tappedBody) feedJSON(p []byte) { b.buf = append(b.buf, p...) }

func (b *tappedBody) endJSON() { b.report(b.buf) }

// feedEvents reads server-sent events, as the SDK does.
func (b *tappedBody) feedEvents(p []byte) {
	for {
		line, rest, complete := bytes.Cut(p, []byte("\n"))
		b.buf = append(b.buf, line...)
		if !complete {
			return
		}
		b.line(bytes.TrimSuffix(b.buf, []byte("\r")))
		b.buf, p = b.buf[:0], rest
	}
}

func (b *tappedBody) line(line []byte) {
	field, value, _ := bytes.Cut(line, []byte(":"))
	switch string(field) {
	case "":
		if len(line) == 0 {
			b.endEvent()
		}
	case "event":
		b.event = strings.TrimSpace(string(value))
	case "data":
		if len(b.data) > 0 {
			b.data = append(b.data, '\n')
		}
		b.data = append(b.data, bytes.TrimSpace(value)...)
	}
}

func (b *tappedBody) endEvent() {
	if len(b.data) > 0 && (b.event == "" || b.event == "message") {
		b.report(b.data)
	}
	b.event, b.data = "", nil
}

func (b *tappedBody) report(data []byte) {
	// What is no message the SDK will complain about.
	if msg, err := jsonrpc.DecodeMessage(data); err == nil {
		b.tap.received(msg)
	}
}
