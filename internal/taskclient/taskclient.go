// Package taskclient is a small client of MCP 2025-11-25 with tasks, for tests
// and benchmarks. The go-sdk client has no tasks.
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
	"sync/atomic"
)

const protocol = "2025-11-25"

// Client is a session. It may be used by several goroutines at once.
type Client struct {
	url     string
	session string
	lastID  atomic.Int64
	http    *http.Client
}

// Connect opens a session at the endpoint url. It declares no capabilities, so
// the client cannot be asked for anything.
func Connect(ctx context.Context, url string) (*Client, error) {
	c := &Client{url: url, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	header, err := c.do(ctx, "initialize", map[string]any{
		"protocolVersion": protocol,
		"capabilities":    map[string]any{},
		"clientInfo":      map[string]any{"name": "taskclient", "version": "1"},
	}, nil)
	if err != nil {
		return nil, err
	}
	c.session = header.Get("Mcp-Session-Id")
	return c, nil
}

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

// Result waits until a task has ended, and decodes the tool's result, unless
// result is nil.
func (c *Client) Result(ctx context.Context, id string, result any) error {
	return c.Do(ctx, "tasks/result", map[string]any{"taskId": id}, result)
}

// Do sends a request and decodes the result of its response, unless result is
// nil. An error response is an error.
func (c *Client) Do(ctx context.Context, method string, params, result any) error {
	_, err := c.do(ctx, method, params, result)
	return err
}

func (c *Client) do(ctx context.Context, method string, params, result any) (http.Header, error) {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.lastID.Add(1), "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", protocol)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := lastMessage(resp)
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

// lastMessage is the response, be it the body or the end of its stream.
func lastMessage(resp *http.Response) ([]byte, error) {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return io.ReadAll(resp.Body)
	}
	var last []byte
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			last = bytes.Clone(data)
		}
	}
	return last, lines.Err()
}
