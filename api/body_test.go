package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/task"
)

// pipes is a listener whose connections hold nothing: a write lasts until it is
// read, and time is that of the bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error { close(p.done); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// slow is a server with clients that take their time.
type slow struct {
	t      *testing.T
	tasks  *memory
	pipes  pipes
	closed chan struct{} // tells of each connection that the server closes
}

// inBubble runs do with a client of a server, whose every request has to have
// ended then.
func inBubble(t *testing.T, do func(*slow, *client)) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{t, &memory{}, pipes{make(chan net.Conn), make(chan struct{})}, make(chan struct{}, 10)}
		s.tasks.reset()
		a, err := api.New(api.Options{Tasks: s.tasks, Catalogue: memoryTools{}, Key: key, Logger: discard()})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: a.Handler(), ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				s.closed <- struct{}{}
			}
		}}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(s.pipes)
		}()
		defer func() {
			if err := a.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			_ = server.Close()
			<-served
		}()
		c := s.connect()
		defer c.Close()
		do(s, c)
	})
}

// client is one end of a connection.
type client struct {
	net.Conn
	t       *testing.T
	replies *bufio.Reader
}

func (s *slow) connect() *client {
	mine, theirs := net.Pipe()
	s.pipes.conns <- theirs
	return &client{mine, s.t, bufio.NewReader(mine)}
}

// begin sends the header of a request.
func (c *client) begin(more string) {
	fmt.Fprintf(c, "POST /mcp HTTP/1.1\r\nHost: localhost\r\n%s\r\n", more)
}

func (c *client) post(session, body string) {
	header := fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	if session != "" {
		header += "Mcp-Session-Id: " + session + "\r\n"
	}
	c.begin(header)
	fmt.Fprint(c, body)
}

func (c *client) response() *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.replies, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

func (c *client) text(res *http.Response) string {
	c.t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"1"}}}`

// A client that sends no more of its body holds nothing for long, whatever is to be
// done with it.
func TestBodyThatStops(t *testing.T) {
	const timeout = `{"jsonrpc":"2.0","error":{"code":-32600,"message":"Request timeout: no more of the body came for 30s"}}`
	for name, tt := range map[string]struct {
		header, half string
		status       int
		body         string
	}{
		"length":          {"Content-Type: application/json\r\nContent-Length: 100\r\n", `{"json`, 408, timeout},
		"length, nothing": {"Content-Type: application/json\r\nContent-Length: 100\r\n", "", 408, timeout},
		"large":           {"Content-Type: application/json\r\nContent-Length: 100000\r\n", `{"json`, 408, timeout},
		"chunks":          {"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", "6\r\n{\"json\r\n", 408, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *slow, c *client) {
				begun := time.Now()
				c.begin(tt.header)
				fmt.Fprint(c, tt.half)
				res := c.response()
				want(t, "status", res.StatusCode, tt.status)
				want(t, "body", c.text(res), tt.body)
				want(t, "after", time.Since(begun), 30*time.Second)
				<-s.closed
			})
		})
	}
	// What a handler does not want of a body, the HTTP server waits for.
	t.Run("refused", func(t *testing.T) {
		inBubble(t, func(s *slow, c *client) {
			begun := time.Now()
			c.begin("Content-Type: text/plain\r\nContent-Length: 100\r\n")
			<-s.closed
			want(t, "after", time.Since(begun), 30*time.Second)
		})
	})
}

// A body may take as long as it likes, if only it goes on; and the bound on it is
// none on what follows: a call that waits for an hour, and another request.
func TestBodyThatComesSlowly(t *testing.T) {
	inBubble(t, func(s *slow, c *client) {
		begun := time.Now()
		c.begin(fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(initialize)))
		for part := range strings.SplitSeq(strings.TrimSuffix(initialize, "}}}"), ",") {
			time.Sleep(20 * time.Second)
			fmt.Fprint(c, part)
			if part != `"version":"1"` {
				fmt.Fprint(c, ",")
			}
		}
		fmt.Fprint(c, "}}}")
		res := c.response()
		c.text(res)
		session := res.Header.Get("Mcp-Session-Id")
		if res.StatusCode != http.StatusOK || session == "" || time.Since(begun) < time.Minute {
			t.Fatalf("HTTP %d after %s", res.StatusCode, time.Since(begun))
		}

		time.Sleep(time.Minute)
		c.post(session, `{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{"taskId":"works"}}`)
		ended := make(chan string)
		go func() { ended <- c.text(c.response()) }()
		time.Sleep(time.Hour)
		if err := s.tasks.RequestCancel(context.Background(), task.Ref{ID: "works"}, ""); err != nil {
			t.Fatal(err)
		}
		if stream := <-ended; !strings.Contains(stream, "Task was cancelled") {
			t.Errorf("the stream is %s", stream)
		}
	})
}

// A client that does not read its reply holds nothing for long.
func TestReplyThatIsNotRead(t *testing.T) {
	for name, body := range map[string]string{
		"short": initialize,
		"long":  fmt.Sprintf(`{%[1]q:1,%[1]q:2}`, strings.Repeat("k", 300<<10)), // it is told which key
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *slow, c *client) {
				c.post("", body)
				begun := time.Now()
				<-s.closed
				want(t, "after", time.Since(begun), 30*time.Second)
			})
		})
	}
}

// A long reply may be read as slowly as one likes, if only it is read; and the
// bound on it is none on the next one.
func TestReplyThatIsReadSlowly(t *testing.T) {
	inBubble(t, func(s *slow, c *client) {
		long := strings.Repeat("k", 300<<10)
		c.post("", fmt.Sprintf(`{%[1]q:1,%[1]q:2}`, long))
		begun := time.Now()
		res := c.response()
		var body strings.Builder
		for {
			n, err := io.CopyN(&body, res.Body, 16<<10)
			if n == 0 && errors.Is(err, io.EOF) {
				break
			}
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if took := time.Since(begun); !strings.Contains(body.String(), long) || took < time.Minute {
			t.Errorf("%d bytes in %s", body.Len(), took)
		}
		time.Sleep(time.Minute)
		c.post("", initialize)
		want(t, "status", c.response().StatusCode, http.StatusOK)
	})
}
