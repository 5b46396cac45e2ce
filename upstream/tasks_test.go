package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// taskServer is an HTTP server by hand that makes a task of every call, in
// either generation of tasks. What happens to the task is up to the test.
type taskServer struct {
	t        *testing.T
	protocol string

	mu sync.Mutex
	// state is the task as tasks/get tells it, and result what tasks/result
	// answers with once it is not empty; changed wakes up who waits for that.
	state   string
	result  string
	changed chan struct{}
	// down makes it answer 503 that often.
	down int
	// seen are the methods that were called, updates the answers.
	seen    []string
	updates []string
	// on, if not nil, is called at each request about the task, before it is
	// answered.
	on func(method string)
}

// taskID has to be encoded to be a header.
const taskID = "tâsk-1"

func newTaskServer(t *testing.T, protocol string) (*taskServer, *upstream.Set) {
	t.Helper()
	s := &taskServer{t: t, protocol: protocol, changed: make(chan struct{})}
	s.become("working", "", "")
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	server, err := upstream.HTTP("remote", web.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	server.Protocol = protocol
	return s, oneServer(t, server)
}

// become changes the task. More are further members, and result is what
// tasks/result answers with.
func (s *taskServer) become(status, more, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if more != "" {
		more = "," + more
	}
	s.state = fmt.Sprintf(`"taskId":%q,"status":%q,"createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z",`+
		`"ttl":1000,"ttlMs":1000,"pollInterval":1,"pollIntervalMs":1,"statusMessage":"it is %s"%s`, taskID, status, status, more)
	s.result = result
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *taskServer) calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(s.seen), func(m string) bool { return m != method }))
}

func (s *taskServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			TaskID string
			Task   *struct{ TTL int64 }
			Meta   struct {
				Capabilities json.RawMessage `json:"io.modelcontextprotocol/clientCapabilities"`
			} `json:"_meta"`
			InputResponses json.RawMessage
		}
	}
	if req.Method != http.MethodPost || json.NewDecoder(req.Body).Decode(&m) != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	s.seen = append(s.seen, m.Method)
	down, on := s.down > 0 && strings.HasPrefix(m.Method, "tasks/"), s.on
	if down {
		s.down--
	}
	s.mu.Unlock()
	modern := s.protocol == upstream.Protocol2026
	reply := func(body string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID, body)
	}
	refuse := func(code int, message string) {
		reply(fmt.Sprintf(`"error":{"code":%d,"message":%q}`, code, message))
	}
	switch {
	case down:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case m.Method == "server/discover" && modern:
		reply(`"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}}`)
		return
	case m.Method == "initialize" && !modern:
		reply(`"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"x","version":"0"}}`)
		return
	case m.Method == "tools/list":
		reply(`"result":{"resultType":"complete","tools":[{"name":"work","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}},` +
			`{"name":"plain","inputSchema":{"type":"object"},"execution":{"taskSupport":"optional"}}]}`)
		return
	case m.Method == "tools/call":
		s.mu.Lock()
		state := s.state
		s.mu.Unlock()
		switch {
		case modern && strings.Contains(string(m.Params.Meta.Capabilities), `"io.modelcontextprotocol/tasks":{}`):
			reply(`"result":{"resultType":"task",` + state + `}`)
		case !modern && m.Params.Task != nil && m.Params.Task.TTL > 0:
			reply(`"result":{"task":{` + state + `}}`)
		default:
			reply(`"result":{"content":[{"type":"text","text":"plainly"}]}`)
		}
		return
	case !strings.HasPrefix(m.Method, "tasks/"):
		w.WriteHeader(http.StatusAccepted)
		return
	}
	// ext-tasks, "Streamable HTTP: Routing Headers".
	if name := req.Header.Get("Mcp-Name"); modern && name != "=?base64?dMOic2stMQ==?=" {
		s.t.Errorf("%s: Mcp-Name %q", m.Method, name)
	}
	if on != nil {
		on(m.Method)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Params.TaskID != taskID || s.state == "":
		refuse(-32602, "Failed to retrieve task: Task not found")
	case m.Method == "tasks/get":
		reply(`"result":{"resultType":"complete",` + s.state + `}`)
	case m.Method == "tasks/update" && modern:
		s.updates = append(s.updates, string(m.Params.InputResponses))
		reply(`"result":{"resultType":"complete"}`)
	case m.Method == "tasks/cancel":
		reply(`"result":{"resultType":"complete"}`)
	case m.Method == "tasks/result" && !modern:
		for s.result == "" {
			changed := s.changed
			s.mu.Unlock()
			select {
			case <-changed:
			case <-req.Context().Done():
			}
			s.mu.Lock()
			if req.Context().Err() != nil {
				return
			}
		}
		reply(s.result)
	default:
		refuse(-32601, "Method not found")
	}
}

// end ends the task in the way of its generation.
func (s *taskServer) end(result string) {
	s.become("completed", `"result":`+result, `"result":`+result)
}

func (s *taskServer) fail(rpc string) {
	s.become("failed", `"error":`+rpc, `"error":`+rpc)
}

func eachGeneration(t *testing.T, test func(t *testing.T, server *taskServer, s *upstream.Set)) {
	t.Helper()
	for _, protocol := range []string{upstream.Protocol2025, upstream.Protocol2026} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			server, s := newTaskServer(t, protocol)
			test(t, server, s)
		})
	}
}

const taskResult = `{"content":[{"type":"text","text":"done"}],"big":12345678901234567890}`

func TestUpstreamTask(t *testing.T) {
	t.Run("is polled to its end", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			var messages []string
			c := upstream.Call{Tool: "work", OnProgress: func(p task.Progress, _ json.RawMessage) {
				messages = append(messages, p.Message)
				if int(p.Progress) != len(messages) {
					t.Errorf("progress %+v", p)
				}
			}}
			c.OnTask = func(json.RawMessage) {
				if n := server.calls("tasks/get"); n != 0 {
					t.Error("polled before it was handed on")
				}
			}
			polls := 0
			server.on = func(method string) {
				if method != "tasks/get" {
					return
				}
				switch polls++; polls {
				case 2:
					server.become("working", `"statusMessage":"halfway"`, "")
				case 3:
					server.end(taskResult)
				}
			}
			if r := call(t, s, c); string(r.Result) != taskResult {
				t.Errorf("got %+v", r)
			}
			if !slices.Equal(messages, []string{"it is working", "halfway"}) {
				t.Errorf("messages %q", messages)
			}
		})
	})
	t.Run("fails as the tool does", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			// -32602 is the tool's here, and not that of an unknown task.
			server.on = func(string) { server.fail(`{"code":-32602,"message":"no such thing","data":{"n":1.0}}`) }
			r := call(t, s, upstream.Call{Tool: "work"})
			if r.Error == nil || r.Error.Code != -32602 || r.Error.Message != "no such thing" || string(r.Error.Data) != `{"n":1.0}` {
				t.Errorf("got %+v", r)
			}
		})
	})
	t.Run("fails as the tool does, when input was required", func(t *testing.T) {
		server, s := newTaskServer(t, upstream.Protocol2025)
		server.become("input_required", "", "")
		server.on = func(method string) {
			if method == "tasks/result" {
				server.fail(`{"code":-32602,"message":"no such thing"}`)
			}
		}
		if r := call(t, s, upstream.Call{Tool: "work"}); r.Error == nil || r.Error.Message != "no such thing" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("is polled no faster where the result is refused while input is required", func(t *testing.T) {
		server, s := newTaskServer(t, upstream.Protocol2025)
		server.become("input_required", "", `"error":{"code":-32600,"message":"not yet"}`)
		var polls, results atomic.Int32
		server.on = func(method string) {
			switch {
			case method == "tasks/result":
				results.Add(1)
			case method == "tasks/get" && polls.Add(1) == 20:
				server.end(taskResult)
			}
		}
		if r := call(t, s, upstream.Call{Tool: "work"}); string(r.Result) != taskResult {
			t.Errorf("got %+v", r)
		}
		// It is asked for at every other poll, and in the end.
		if n := results.Load(); n > 12 {
			t.Errorf("%d times for 20 polls", n)
		}
	})
	t.Run("cancelled by the server is an error that says so", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			server.on = func(string) { server.become("cancelled", "", `"error":{"code":-32603,"message":"?"}`) }
			r := call(t, s, upstream.Call{Tool: "work"})
			if r.Error == nil || r.Error.Message != "the server cancelled its task: it is cancelled" {
				t.Errorf("got %+v", r)
			}
		})
	})
	t.Run("is cancelled with the call", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server.on = func(string) { cancel() }
			if _, err := s.Call(ctx, upstream.Call{Tool: "work"}); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if server.calls("tasks/cancel") != 1 {
				t.Errorf("called %q", server.seen)
			}
		})
	})
	t.Run("is resumed by another call", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			ctx, leave := context.WithCancelCause(t.Context())
			c := upstream.Call{Tool: "work"}
			c.OnTask = func(handle json.RawMessage) {
				c.Resume = handle
				leave(upstream.ErrLeave)
			}
			if _, err := s.Call(ctx, c); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			server.end(taskResult)
			if r := call(t, s, c); string(r.Result) != taskResult {
				t.Errorf("got %+v", r)
			}
			if server.calls("tasks/cancel") != 0 || server.calls("tools/call") != 1 {
				t.Errorf("called %q", server.seen)
			}
			server.mu.Lock()
			server.state = ""
			server.mu.Unlock()
			if r := call(t, s, c); !strings.Contains(r.Unknown, "Task not found") || server.calls("tools/call") != 1 {
				t.Errorf("got %+v", r)
			}
			c.Resume = json.RawMessage(`{}`)
			if _, err := s.Call(t.Context(), c); err == nil {
				t.Error("took a handle that nobody gave out")
			}
		})
	})
	t.Run("outlives the loss of the connection", func(t *testing.T) {
		eachGeneration(t, func(t *testing.T, server *taskServer, s *upstream.Set) {
			server.down = 2
			server.on = func(string) { server.end(taskResult) }
			if r := call(t, s, upstream.Call{Tool: "work"}); string(r.Result) != taskResult || server.calls("tools/call") != 1 {
				t.Errorf("got %+v", r)
			}
		})
	})
	t.Run("is not asked for where it is optional", func(t *testing.T) {
		server, s := newTaskServer(t, upstream.Protocol2025)
		if got := text(t, call(t, s, upstream.Call{Tool: "plain"})); got != "plainly" || server.calls("tasks/get") != 0 {
			t.Errorf("got %s", got)
		}
	})
}

// TestUpstreamTaskInput: ext-tasks, "Task Update Requests".
func TestUpstreamTaskInput(t *testing.T) {
	const (
		elicit = `{"method":"elicitation/create","params":{"message":"?","new":1.0}}`
		sample = `{"method":"sampling/createMessage","params":{"messages":[]}}`
	)
	setup := func(t *testing.T, requests string) (*taskServer, *upstream.Set, upstream.Call) {
		t.Helper()
		server, s := newTaskServer(t, upstream.Protocol2026)
		server.become("input_required", `"inputRequests":{`+requests+`}`, "")
		return server, s, upstream.Call{Tool: "work", Capabilities: json.RawMessage(everything)}
	}
	t.Run("is asked for at once, and only once", func(t *testing.T) {
		server, s, c := setup(t, `"a":`+elicit+`,"b":`+sample+`,"c":{"method":"roots/list"}`)
		var all sync.WaitGroup
		all.Add(3)
		c.Ask = func(_ context.Context, in task.InputRequest) (json.RawMessage, error) {
			all.Done()
			all.Wait()
			if in.Method == task.MethodElicit && (string(in.Params) != `{"message":"?","new":1.0}` || in.Key != "a") {
				t.Errorf("asked %s under %q", in.Params, in.Key)
			}
			return json.RawMessage(`{"method":"` + in.Method + `"}`), nil
		}
		polls := 0
		server.on = func(method string) {
			server.mu.Lock()
			updates := strings.Join(server.updates, "")
			server.mu.Unlock()
			if method != "tasks/get" || strings.Count(updates, "method") < 3 {
				return
			}
			// The server may be slow to show that it has the answers.
			if polls++; polls == 3 {
				server.end(taskResult)
			}
		}
		if r := call(t, s, c); string(r.Result) != taskResult {
			t.Errorf("got %+v", r)
		}
		updates := strings.Join(server.updates, "")
		for key, method := range map[string]string{"a": task.MethodElicit, "b": task.MethodSample, "c": task.MethodRoots} {
			if strings.Count(updates, `"`+key+`":{"method":"`+method+`"}`) != 1 {
				t.Errorf("updates %s", updates)
			}
		}
	})
	t.Run("that was refused is cancelled", func(t *testing.T) {
		server, s, c := setup(t, `"a":`+elicit)
		c.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) {
			return nil, &task.RPCError{Code: -1, Message: "not now"}
		}
		server.on = func(method string) {
			if method == "tasks/update" {
				server.end(taskResult)
			}
		}
		if r := call(t, s, c); string(r.Result) != taskResult || !slices.Equal(server.updates, []string{`{"a":{"action":"cancel"}}`}) {
			t.Errorf("got %+v, updates %q", r, server.updates)
		}
	})
	refusal := errors.New("out of paper")
	for name, f := range map[string]struct {
		requests, capabilities string
		err                    error
		code                   int64
	}{
		"of a kind that is not declared":        {elicit, `{}`, nil, task.CodeMissingCapability},
		"that cannot be answered with an error": {sample, everything, &task.RPCError{Code: -1, Message: "not now"}, -1},
		"that fails":                            {sample, everything, refusal, 0},
	} {
		t.Run(name+" ends the task", func(t *testing.T) {
			server, s, c := setup(t, `"a":`+f.requests)
			c.Capabilities = json.RawMessage(f.capabilities)
			c.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) { return nil, f.err }
			r, err := s.Call(t.Context(), c)
			if f.code == 0 {
				if !errors.Is(err, refusal) {
					t.Errorf("error %v", err)
				}
			} else if err != nil || r.Error == nil || r.Error.Code != f.code {
				t.Errorf("got %+v, %v", r, err)
			}
			if server.calls("tasks/cancel") != 1 {
				t.Errorf("called %q", server.seen)
			}
		})
	}
}
