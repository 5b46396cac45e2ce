// Package taskclient is a small client of MCP 2025-11-25 with tasks, for tests
// and benchmarks. The go-sdk client has no tasks. Of 2026-07-28 it has the
// subscription to a task.
package taskclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const protocol = "2025-11-25"

// How often a request is made at most whose answer says that it may be made
// again, and how long the client waits before that.
const (
	maxAttempts = 10
	attemptRest = 100 * time.Millisecond
)

// Client is a session. It may be used by several goroutines at once.
type Client struct {
	url     string
	session string
	answers map[string]Answer
	lastID  atomic.Int64
	http    *http.Client
}

// Answer answers a request of the server with a result. It is called on the
// goroutine of the call on whose stream the request came. An error ends that
// call, and the request stays unanswered.
type Answer func(ctx context.Context, params json.RawMessage) (result any, err error)

// Connect opens a session at the endpoint url. It declares no capabilities, so
// the client cannot be asked for anything.
func Connect(ctx context.Context, url string) (*Client, error) {
	return ConnectAnswering(ctx, url, nil)
}

// ConnectAnswering opens a session of a client that declares those capabilities
// whose requests it can answer, by their methods.
func ConnectAnswering(ctx context.Context, url string, answers map[string]Answer) (*Client, error) {
	c := &Client{url: url, answers: answers, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	capabilities := map[string]any{}
	for method := range answers {
		capability, _, _ := strings.Cut(method, "/")
		capabilities[capability] = map[string]any{}
	}
	header, err := c.do(ctx, "initialize", map[string]any{
		"protocolVersion": protocol,
		"capabilities":    capabilities,
		"clientInfo":      map[string]any{"name": "taskclient", "version": "1"},
	}, nil)
	if err != nil {
		return nil, err
	}
	c.session = header.Get("Mcp-Session-Id")
	return c, nil
}

// Close closes the client's idle connections. A session has no end of its own.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Create calls a tool as a task and returns the task's ID.
func (c *Client) Create(ctx context.Context, tool string, arguments any) (id string, err error) {
	var created struct{ Task struct{ TaskID string } }
	err = c.Do(ctx, "tools/call", map[string]any{"name": tool, "arguments": arguments, "task": map[string]any{}}, &created)
	return created.Task.TaskID, err
}

// Task is what tasks/get and tasks/cancel tell of a task.
type Task struct {
	Status        string
	StatusMessage string
}

// Get returns the state of a task.
func (c *Client) Get(ctx context.Context, id string) (t Task, err error) {
	err = c.Do(ctx, "tasks/get", map[string]any{"taskId": id}, &t)
	return t, err
}

// Cancel cancels a task and returns its state.
func (c *Client) Cancel(ctx context.Context, id string) (t Task, err error) {
	err = c.Do(ctx, "tasks/cancel", map[string]any{"taskId": id}, &t)
	return t, err
}

// Result waits until a task has ended, and decodes the tool's result, unless
// result is nil. Meanwhile it answers what the task asks for.
func (c *Client) Result(ctx context.Context, id string, result any) error {
	return c.Do(ctx, "tasks/result", map[string]any{"taskId": id}, result)
}

// Do sends a request and decodes the result of its response, unless result is
// nil. An error response is an error, unless it says that the request may be
// made again and it then succeeds.
func (c *Client) Do(ctx context.Context, method string, params, result any) error {
	_, err := c.do(ctx, method, params, result)
	return err
}

func (c *Client) do(ctx context.Context, method string, params, result any) (http.Header, error) {
	return Patiently(ctx, func() (http.Header, error) { return c.attempt(ctx, method, params, result) })
}

// IsPassing reports whether Longhaul says that the same request may be made again:
// on a busy machine the engine may take longer than a request waits for it.
func IsPassing(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Nothing is lost: try again")
}

// Patiently makes a request again while its error is a passing one, ten times at
// most.
func Patiently[T any](ctx context.Context, request func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := request()
		if !IsPassing(err) || n == maxAttempts {
			return v, err
		}
		select {
		case <-time.After(attemptRest):
		case <-ctx.Done():
			return v, err
		}
	}
}

func (c *Client) attempt(ctx context.Context, method string, params, result any) (http.Header, error) {
	resp, err := c.post(ctx, map[string]any{"jsonrpc": "2.0", "id": c.lastID.Add(1), "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := c.response(ctx, resp)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	var m struct{ Result, Error json.RawMessage }
	if err := json.Unmarshal(data, &m); err != nil || m.Error != nil {
		return nil, fmt.Errorf("%s: %s: %s", method, resp.Status, data)
	}
	if result == nil {
		return resp.Header, nil
	}
	if err := json.Unmarshal(m.Result, result); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return resp.Header, nil
}

func (c *Client) post(ctx context.Context, message any) (*http.Response, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	c.identify(req)
	return c.http.Do(req)
}

// identify names the session, if there is one yet.
func (c *Client) identify(req *http.Request) {
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", protocol)
	}
}

// response is the body or the end of a stream, on which requests may come
// before.
func (c *Client) response(ctx context.Context, resp *http.Response) ([]byte, error) {
	if !isStream(resp) {
		return io.ReadAll(resp.Body)
	}
	var last []byte
	events := newEvents(resp.Body)
	for events.next() {
		last = bytes.Clone(events.data)
		var m struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal(last, &m); err != nil || m.ID == nil || m.Method == "" {
			continue
		}
		if err := c.answer(ctx, m.ID, m.Method, m.Params); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Method, err)
		}
	}
	return last, events.err()
}

func (c *Client) answer(ctx context.Context, id json.RawMessage, method string, params json.RawMessage) error {
	answer := c.answers[method]
	if answer == nil {
		return errors.New("the client has not declared that it can be asked for this")
	}
	result, err := answer(ctx, params)
	if err != nil {
		return err
	}
	resp, err := c.post(ctx, map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		said, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("the answer was not accepted: %s: %s", resp.Status, said)
	}
	return nil
}
