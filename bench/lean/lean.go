// Package lean is a client of MCP 2025-11-25 that costs next to nothing, so
// that a benchmark measures the server and not its own load. It knows as much
// of HTTP as MCP servers make use of, and nothing of JSON but where to look.
package lean

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// Session is a session of an MCP endpoint, which any number of connections may
// share.
type Session struct {
	addr   string
	header []byte // of each request, up to the length of its body
	lastID atomic.Int64
}

// Connect opens a session at the endpoint. It declares no capabilities, so
// nothing can be asked for.
func Connect(endpoint string) (*Session, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	// From here on all IDs have as many digits, and one is never found in another.
	s := &Session{addr: u.Host}
	s.lastID.Store(1e11)
	s.header = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n", u.RequestURI(), u.Host)
	c, err := s.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	const params = `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"lean","version":"1"}}`
	if _, err := c.Do("initialize", []byte(params)); err != nil {
		return nil, err
	}
	if c.session != "" {
		s.header = fmt.Appendf(s.header, "Mcp-Session-Id: %s\r\n", c.session)
	}
	s.header = append(s.header, "Mcp-Protocol-Version: 2025-11-25\r\n"...)
	return s, c.notify("notifications/initialized")
}

// Dial opens a connection, which is kept alive.
func (s *Session) Dial() (*Conn, error) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return &Conn{of: s, conn: conn, in: bufio.NewReader(conn)}, nil
}

// Conn is a connection of a session. It carries one request at a time.
type Conn struct {
	of   *Session
	conn net.Conn
	in   *bufio.Reader
	out  []byte // the request, body the response: both reused
	body []byte
	id   []byte
	// session is the ID that the last response named.
	session string
}

// Close closes the connection. A request that waits on it fails.
func (c *Conn) Close() { _ = c.conn.Close() }

// Do sends a request and returns the message that answers it, which stands
// until the next request. An error response is an error, unless it says that the
// request may be made again and it then succeeds.
func (c *Conn) Do(method string, params []byte) ([]byte, error) {
	return taskclient.Patiently(context.Background(), func() ([]byte, error) { return c.attempt(method, params) })
}

func (c *Conn) attempt(method string, params []byte) ([]byte, error) {
	c.id = strconv.AppendInt(c.id[:0], c.of.lastID.Add(1), 10)
	stream, err := c.post(method, c.id, params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	message := c.body
	if stream {
		message = c.answer()
	}
	if !bytes.Contains(message, c.id) || !bytes.Contains(message, []byte(`"result":`)) {
		return nil, fmt.Errorf("%s: no result in %q", method, c.body)
	}
	return message, nil
}

func (c *Conn) notify(method string) error {
	_, err := c.post(method, nil, []byte("{}"))
	return err
}

// answer is the message on the stream that has the request's ID. Others may
// come before.
func (c *Conn) answer() []byte {
	for line := range bytes.Lines(c.body) {
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && bytes.Contains(data, c.id) {
			return data
		}
	}
	return nil
}

// post sends a message, a notification if it has no ID, and reads the whole
// response, which is a stream of events or a message.
func (c *Conn) post(method string, id, params []byte) (stream bool, err error) {
	// What is in a body besides the method, the ID and the parameters.
	const around = len(`{"jsonrpc":"2.0","method":"","params":}`)
	length := around + len(method) + len(params)
	if id != nil {
		length += len(`,"id":`) + len(id)
	}
	c.out = append(append(c.out[:0], c.of.header...), "Content-Length: "...)
	c.out = append(strconv.AppendInt(c.out, int64(length), 10), "\r\n\r\n"...)
	c.out = append(append(append(c.out, `{"jsonrpc":"2.0","method":"`...), method...), `","params":`...)
	c.out = append(c.out, params...)
	if id != nil {
		c.out = append(append(c.out, `,"id":`...), id...)
	}
	c.out = append(c.out, '}')
	if _, err := c.conn.Write(c.out); err != nil {
		return false, err
	}
	return c.read()
}

// read reads a response, the body into c.body.
func (c *Conn) read() (stream bool, err error) {
	line, err := c.line()
	if err != nil {
		return false, err
	}
	var failed error
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 2")) {
		failed = errors.New(string(line))
	}
	length, chunked := int64(0), false
	for {
		if line, err = c.line(); err != nil {
			return false, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case is(name, "Content-Length"):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return false, err
			}
		case is(name, "Transfer-Encoding"):
			chunked = true
		case is(name, "Content-Type"):
			stream = bytes.HasPrefix(value, []byte("text/event-stream"))
		case is(name, "Mcp-Session-Id"):
			c.session = string(value)
		}
	}
	c.body = c.body[:0]
	if chunked {
		err = c.takeChunks()
	} else {
		err = c.take(length)
	}
	if err == nil && failed != nil {
		err = fmt.Errorf("%w: %s", failed, c.body)
	}
	return stream, err
}

func is(name []byte, header string) bool {
	return len(name) == len(header) && bytes.EqualFold(name, []byte(header))
}

func (c *Conn) takeChunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(line), 16, 64)
		if err != nil {
			return err
		}
		if err := c.take(size); err != nil {
			return err
		}
		if _, err := c.line(); err != nil || size == 0 {
			return err
		}
	}
}

// take moves n bytes to the body.
func (c *Conn) take(n int64) error {
	from := len(c.body)
	c.body = slices.Grow(c.body, int(n))[:from+int(n)]
	_, err := io.ReadFull(c.in, c.body[from:])
	return err
}

func (c *Conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}
