package taskclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Stream is a stream of notifications. It is used by one goroutine.
type Stream struct {
	body   io.Closer
	events *events
}

// Notification is a message of a [Stream].
type Notification struct {
	Method string
	Params json.RawMessage
}

// Listen opens the session's stream for what belongs to none of its requests,
// such as notifications/tasks/status.
func (c *Client) Listen(ctx context.Context) (*Stream, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	c.identify(req)
	return open(c.http.Do(req))
}

// Subscribe opens a subscription of a client of 2026-07-28 to the statuses of
// tasks. What comes first on it is the acknowledgement, and then the current
// state of each.
func Subscribe(ctx context.Context, url string, taskIDs ...string) (*Stream, error) {
	const method = "subscriptions/listen"
	const protocol = "2026-07-28"
	type object = map[string]any
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": 1, "method": method, "params": object{
		"notifications": object{"taskIds": taskIDs},
		"_meta": object{
			"io.modelcontextprotocol/protocolVersion":    protocol,
			"io.modelcontextprotocol/clientInfo":         object{"name": "taskclient", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": object{"extensions": object{"io.modelcontextprotocol/tasks": object{}}},
		},
	}})
	if err != nil {
		return nil, err
	}
	return Patiently(ctx, func() (*Stream, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Mcp-Protocol-Version", protocol)
		req.Header.Set("Mcp-Method", method)
		return open(http.DefaultClient.Do(req))
	})
}

func open(resp *http.Response, err error) (*Stream, error) {
	if err != nil {
		return nil, err
	}
	if !isStream(resp) {
		defer resp.Body.Close()
		said, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("no stream: %s: %s", resp.Status, said)
	}
	return &Stream{resp.Body, newEvents(resp.Body)}, nil
}

// Next waits for a notification. The end of the stream is an error.
func (s *Stream) Next() (n Notification, err error) {
	if !s.events.next() {
		if err = s.events.err(); err == nil {
			err = io.EOF
		}
		return n, fmt.Errorf("no further notification: %w", err)
	}
	return n, json.Unmarshal(s.events.data, &n)
}

// Close ends the stream.
func (s *Stream) Close() { _ = s.body.Close() }

func isStream(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
}

// events are the messages of a body of server-sent events.
type events struct {
	lines *bufio.Scanner
	data  []byte // of the event; valid until the next one
}

func newEvents(body io.Reader) *events {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	return &events{lines: lines}
}

func (e *events) next() bool {
	for e.lines.Scan() {
		var ok bool
		if e.data, ok = bytes.CutPrefix(e.lines.Bytes(), []byte("data:")); ok {
			return true
		}
	}
	return false
}

func (e *events) err() error { return e.lines.Err() }
