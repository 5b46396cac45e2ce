package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// everyKind runs a test over each transport and each protocol.
func everyKind(t *testing.T, test func(t *testing.T, s *upstream.Set, protocol string)) {
	t.Helper()
	kinds := map[string]func(t *testing.T) upstream.Server{
		"in process":    func(*testing.T) upstream.Server { return upstream.InProcess("local", newServer()) },
		"stdio":         func(t *testing.T) upstream.Server { return command(t, "process", "sdk", nil) },
		"http":          func(t *testing.T) upstream.Server { return overHTTP(t, newServer(), true, nil) },
		"http sessions": func(t *testing.T) upstream.Server { return overHTTP(t, newServer(), false, nil) },
	}
	for name, kind := range kinds {
		for _, protocol := range []string{upstream.Protocol2026, upstream.Protocol2025} {
			if strings.HasPrefix(name, "http") && (protocol == upstream.Protocol2026) != (name == "http") {
				continue // the SDK's handler serves 2026 only without sessions
			}
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				server := kind(t)
				if protocol == upstream.Protocol2025 {
					server.Protocol = protocol
				}
				test(t, oneServer(t, server), protocol)
			})
		}
	}
}

func overHTTP(t *testing.T, s *mcp.Server, stateless bool, check func(*http.Request)) upstream.Server {
	t.Helper()
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true, MaxRequestBodyBytes: -1})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if check != nil {
			check(r)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	server, err := upstream.HTTP("remote", web.URL+"/mcp?key=s3cret-query", map[string]string{"Authorization": "Bearer s3cret-token"})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestCall(t *testing.T) {
	everyKind(t, func(t *testing.T, s *upstream.Set, protocol string) {
		t.Run("passes on arguments, capabilities and keys", func(t *testing.T) {
			o := seen(t, s, upstream.Call{
				Tool:           "seen",
				Arguments:      json.RawMessage(`{"n":12345678901234567890,"s":"<&>"}`),
				Capabilities:   json.RawMessage(`{"elicitation":{"form":{}},"tasks":{"list":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/x":{"y":1}}}`),
				IdempotencyKey: "key-1",
				Checkpoint:     json.RawMessage(`{"at":7}`),
			})
			if string(o.Arguments) != `{"n":12345678901234567890,"s":"<&>"}` && string(o.Arguments) != `{"n":12345678901234567890,"s":"\u003c\u0026\u003e"}` {
				t.Errorf("arguments %s", o.Arguments)
			}
			if o.Protocol != protocol {
				t.Errorf("protocol %s", o.Protocol)
			}
			if string(o.Meta[task.MetaIdempotencyKey]) != `"key-1"` || string(o.Meta[task.MetaCheckpoint]) != `{"at":7}` {
				t.Errorf("meta %s", o.Meta)
			}
			caps := string(o.Capabilities)
			if !strings.Contains(caps, `"elicitation":{"form":{}}`) || !strings.Contains(caps, "com.example/x") ||
				strings.Contains(caps, "sampling") || strings.Contains(caps, `"list"`) ||
				// The tasks extension is Longhaul's own, where there is one.
				strings.Contains(caps, "tasks") != (protocol == upstream.Protocol2026) {
				t.Errorf("capabilities %s", caps)
			}
		})
		t.Run("declares nothing for a caller that declares nothing", func(t *testing.T) {
			o := seen(t, s, upstream.Call{Tool: "seen"})
			if strings.Contains(string(o.Capabilities), "elicitation") || strings.Contains(string(o.Capabilities), "sampling") {
				t.Errorf("capabilities %s", o.Capabilities)
			}
			if string(o.Arguments) != "{}" || o.Meta["progressToken"] != nil {
				t.Errorf("arguments %s, meta %s", o.Arguments, o.Meta)
			}
		})
		t.Run("reports progress in order, growing, with checkpoints", func(t *testing.T) {
			type report struct {
				task.Progress
				Checkpoint string
			}
			var got []report
			r := call(t, s, upstream.Call{Tool: "progress", OnProgress: func(p task.Progress, c json.RawMessage) {
				got = append(got, report{p, string(c)})
			}})
			if text(t, r) != "done" {
				t.Errorf("result %s", r.Result)
			}
			want := []report{
				{task.Progress{Progress: 1, Total: 3, Message: "step 1"}, ""},
				{task.Progress{Progress: 2, Total: 3, Message: "step 2"}, ""},
				{task.Progress{Progress: 3, Total: 3, Message: "step 3"}, ""},
				{task.Progress{Progress: 3, Total: 3, Message: "step 3"}, `{"at":12345678901234567890}`},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
		t.Run("returns a JSON-RPC error verbatim", func(t *testing.T) {
			r := call(t, s, upstream.Call{Tool: "error"})
			want := &task.RPCError{Code: -32042, Message: "sign in first", Data: json.RawMessage(`{"url":"https://example.com/?a=1&b=2"}`)}
			if !reflect.DeepEqual(r, task.RoundResult{Error: want}) {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("returns isError as a result", func(t *testing.T) {
			if r := call(t, s, upstream.Call{Tool: "is-error"}); !r.IsError || text(t, r) != "no" {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("cancels the tool when the context ends", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.Call(ctx, upstream.Call{Tool: "block", OnProgress: func(task.Progress, json.RawMessage) { cancel() }})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if r := call(t, s, upstream.Call{Tool: "is-error"}); !r.IsError {
				t.Errorf("the next call got %+v", r)
			}
		})
		t.Run("does not know other tools", func(t *testing.T) {
			if _, err := s.Call(t.Context(), upstream.Call{Tool: "nope"}); !errors.Is(err, upstream.ErrUnknownTool) {
				t.Errorf("error %v", err)
			}
		})
		elicitation := json.RawMessage(`{"elicitation":{},"roots":{}}`)
		if protocol == upstream.Protocol2026 {
			// 2026-07-28, mrtr: the answers and the state go into a new request.
			t.Run("ends the round when the tool needs input", func(t *testing.T) {
				c := upstream.Call{Tool: "ask", Capabilities: elicitation}
				r := call(t, s, c)
				if !r.NeedsInput || r.RequestState != "state-1" || len(r.Inputs) != 2 || r.Result != nil ||
					r.Inputs[0].Key != "a" || r.Inputs[0].Method != task.MethodRoots ||
					r.Inputs[1].Key != "b" || r.Inputs[1].Method != task.MethodElicit || !strings.Contains(string(r.Inputs[1].Params), `"sure?"`) {
					t.Fatalf("got %+v", r)
				}
				c.RequestState = r.RequestState
				c.Answers = map[string]json.RawMessage{
					"a": json.RawMessage(`{"roots":[]}`), "b": json.RawMessage(`{"action":"accept","content":{"n":1}}`),
				}
				r = call(t, s, c)
				if got := text(t, r); !strings.Contains(got, `"state":"state-1"`) || !strings.Contains(got, `"action":"accept"`) {
					t.Errorf("got %s", got)
				}
			})
			return
		}
		t.Run("refuses a tool that asks while it runs", func(t *testing.T) {
			r := call(t, s, upstream.Call{Tool: "elicit", Capabilities: elicitation})
			if r.Error == nil || r.Error.Code != task.CodeInternalError ||
				!strings.Contains(r.Error.Message, "asked for input (elicitation/create) while it was running") {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("answers a request for roots with an error", func(t *testing.T) {
			r := call(t, s, upstream.Call{Tool: "roots", Capabilities: elicitation})
			if got := text(t, r); !strings.Contains(got, "not available") {
				t.Errorf("got %s", got)
			}
		})
	})
}

func TestInProcess(t *testing.T) {
	for _, protocol := range []string{upstream.Protocol2026, upstream.Protocol2025} {
		t.Run(protocol, func(t *testing.T) {
			server := newServer()
			object := map[string]any{"type": "object"}
			server.AddTool(&mcp.Tool{Name: "panic", InputSchema: object},
				func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { panic("out of cheese") })
			server.AddTool(&mcp.Tool{Name: "nothing", InputSchema: object},
				func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return nil, nil })
			up := upstream.InProcess("local", server)
			up.Protocol = protocol
			s, log := setup(t, upstream.Options{Servers: []upstream.Server{up}})

			t.Run("contains a panic", func(t *testing.T) {
				r := call(t, s, upstream.Call{Tool: "panic"})
				if r.Error == nil || r.Error.Code != task.CodeInternalError || r.Error.Message != `tool "panic" panicked: out of cheese` {
					t.Errorf("got %+v", r.Error)
				}
				if !strings.Contains(log.String(), "inprocess.go") {
					t.Errorf("no stack in %s", log)
				}
			})
			t.Run("contains a handler that returns nothing", func(t *testing.T) {
				r := call(t, s, upstream.Call{Tool: "nothing"})
				if r.Error == nil || r.Error.Code != task.CodeInternalError {
					t.Fatalf("got %+v", r)
				}
				if protocol == upstream.Protocol2026 && !strings.Contains(r.Error.Message, "returned neither a result nor an error") {
					t.Errorf("got %q", r.Error.Message)
				}
			})
			t.Run("does not wait for a handler that ignores its cancel", func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err := s.Call(ctx, upstream.Call{Tool: "ignore-cancel", OnProgress: func(task.Progress, json.RawMessage) { cancel() }})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestStdio(t *testing.T) {
	t.Run("a process that dies is a lost call that says why", func(t *testing.T) {
		s := oneServer(t, command(t, "frail", "sdk", map[string]string{"PASSWORD": "hunter2-hunter2"}))
		_, err := s.Call(t.Context(), upstream.Call{Tool: "die"})
		l := lost(t, err)
		if !l.Sent || l.Server != "frail" {
			t.Errorf("got %+v", l)
		}
		want := `the connection to server "frail" was lost during the call: its process ended (exit status 3); ` +
			`its standard error ends with: segmentation fault in module 7 | with password ***`
		if l.Error() != want {
			t.Errorf("got  %s\nwant %s", l, want)
		}
		if o := seen(t, s, upstream.Call{Tool: "seen"}); o.Pid == 0 {
			t.Error("the next call did not start a new process")
		}
	})
	t.Run("a process that prints rubbish is a lost call that shows it", func(t *testing.T) {
		s := oneServer(t, command(t, "chatty", "sdk", nil))
		_, err := s.Call(t.Context(), upstream.Call{Tool: "rubbish"})
		l := lost(t, err)
		if want := `printed something that is not JSON-RPC on its standard output: "Debug: entering the tool"`; !l.Sent || !strings.Contains(l.Error(), want) {
			t.Errorf("got %s", l)
		}
	})
	t.Run("a process that does not start is not sent anything", func(t *testing.T) {
		s := oneServer(t, command(t, "broken", "broken", nil))
		_, err := s.Call(t.Context(), upstream.Call{Tool: "seen"})
		if l := lost(t, err); l.Sent || !strings.Contains(l.Error(), "could not be listed yet") || !strings.Contains(l.Error(), "cannot open the database") {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("a command whose processes keep failing is left alone for a while", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "fails")
		s, _ := setup(t, upstream.Options{StdioPoolSize: 8, Servers: []upstream.Server{
			command(t, "flapping", "flapping", map[string]string{"FLAP_FILE": file}),
		}})
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fail := func() string {
			_, err := s.Call(t.Context(), upstream.Call{Tool: "seen"})
			l := lost(t, err)
			if l.Sent || !strings.Contains(l.Detail, "cannot open the database") {
				t.Errorf("got %+v", l)
			}
			return l.Detail
		}
		fail()
		fail()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if detail := fail(); !strings.Contains(detail, "failed 2 times in a row and will be started again at 20") {
					t.Errorf("got %s", detail)
				}
			})
		}
		all.Wait()
		if starts, err := os.ReadFile(file); err != nil || len(starts) != 2 {
			t.Errorf("%d processes were started, %v", len(starts), err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		for again := time.Tick(50 * time.Millisecond); ; <-again {
			if _, err := s.Call(t.Context(), upstream.Call{Tool: "seen"}); err == nil {
				break
			}
		}
	})
	t.Run("a process that dies when it is called is one that fails", func(t *testing.T) {
		s := oneServer(t, command(t, "frail", "sdk", nil))
		for range 2 {
			_, err := s.Call(t.Context(), upstream.Call{Tool: "die"})
			if l := lost(t, err); !l.Sent {
				t.Errorf("got %+v", l)
			}
		}
		_, err := s.Call(t.Context(), upstream.Call{Tool: "die"})
		if l := lost(t, err); l.Sent || !strings.Contains(l.Detail, "segmentation fault in module 7") {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("a command that does not exist is logged, not fatal", func(t *testing.T) {
		_, log := setup(t, upstream.Options{Servers: []upstream.Server{
			upstream.Command("gone", upstream.CommandOptions{Command: "/nonexistent/server"}),
		}})
		if !strings.Contains(log.String(), "no such file") {
			t.Errorf("log: %s", log)
		}
	})
	t.Run("a cancel reaches the tool before the process goes", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "cancelled")
		s := oneServer(t, command(t, "polite", "sdk", map[string]string{"CANCELLED_FILE": file}))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := s.Call(ctx, upstream.Call{Tool: "block", OnProgress: func(task.Progress, json.RawMessage) { cancel() }}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		s.Close()
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	})
	t.Run("a process that ignores everything is killed", func(t *testing.T) {
		s := oneServer(t, command(t, "stubborn", "stubborn", nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pid := 0
		_, err := s.Call(ctx, upstream.Call{Tool: "ignore-cancel", OnProgress: func(p task.Progress, _ json.RawMessage) {
			pid = int(p.Progress)
			cancel()
		}})
		if !errors.Is(err, context.Canceled) || pid == 0 {
			t.Fatalf("error %v, pid %d", err, pid)
		}
		s.Close()
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v", pid, err)
		}
	})
	t.Run("idle processes are used again, one per capabilities", func(t *testing.T) {
		s := oneServer(t, command(t, "pooled", "sdk", nil))
		first := seen(t, s, upstream.Call{Tool: "seen"})
		again := seen(t, s, upstream.Call{Tool: "seen", Capabilities: json.RawMessage(`{ }`)})
		other := seen(t, s, upstream.Call{Tool: "seen", Capabilities: json.RawMessage(`{"roots":{}}`)})
		if first.Pid != again.Pid || first.Pid == other.Pid {
			t.Errorf("pids %d %d %d", first.Pid, again.Pid, other.Pid)
		}
	})
	t.Run("calls beyond the pool wait", func(t *testing.T) {
		s, _ := setup(t, upstream.Options{Servers: []upstream.Server{command(t, "small", "sdk", nil)}, StdioPoolSize: 1})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		running, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := s.Call(ctx, upstream.Call{Tool: "block", OnProgress: func(task.Progress, json.RawMessage) { close(running) }})
			ended <- err
		}()
		<-running
		short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		if _, err := s.Call(short, upstream.Call{Tool: "seen"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		cancel()
		<-ended
		seen(t, s, upstream.Call{Tool: "seen"})
	})
	t.Run("an idle process makes room for one with other capabilities", func(t *testing.T) {
		s, _ := setup(t, upstream.Options{Servers: []upstream.Server{command(t, "small", "sdk", nil)}, StdioPoolSize: 1})
		first := seen(t, s, upstream.Call{Tool: "seen"})
		other := seen(t, s, upstream.Call{Tool: "seen", Capabilities: json.RawMessage(`{"roots":{}}`)})
		again := seen(t, s, upstream.Call{Tool: "seen"})
		if first.Pid == other.Pid || first.Pid == again.Pid {
			t.Errorf("pids %d %d %d", first.Pid, other.Pid, again.Pid)
		}
	})
	t.Run("the environment is inherited but for our own", func(t *testing.T) {
		t.Setenv("TEMPORAL_API_KEY", "s3cret")
		t.Setenv("LANG", "tlh")
		s := oneServer(t, command(t, "env", "sdk", nil))
		if o := seen(t, s, upstream.Call{Tool: "seen"}); o.Env["TEMPORAL_API_KEY"] != "" || o.Env["LANG"] != "tlh" || o.Env["MODE"] != "sdk" {
			t.Errorf("got %v", o.Env)
		}
	})
	t.Run("a result is stored byte for byte", func(t *testing.T) {
		s, log := setup(t, upstream.Options{Servers: []upstream.Server{command(t, "raw", "raw", nil)}})
		r := call(t, s, upstream.Call{Tool: "odd"})
		if string(r.Result) != rawResult || !r.IsError {
			t.Errorf("got %s", r.Result)
		}
		tool, ok := s.Lookup("odd")
		if want := strings.Replace(rawDefinition, `"execution":{"taskSupport":"required"},`, "", 1); !ok || string(tool.Definition) != want {
			t.Errorf("got  %s\nwant %s", tool.Definition, want)
		}
		if tool.Support != task.SupportOptional || !tool.Policy.Retry {
			t.Errorf("got %+v", tool)
		}
		if got := names(s.Tools()); got != "odd" {
			t.Errorf("tools %s", got)
		}
		for _, why := range []string{"inputSchema is not an object", "bad name", "2 tools would be exposed as", "neither string nor integer nor boolean"} {
			if !strings.Contains(log.String(), why) {
				t.Errorf("no %q in %s", why, log)
			}
		}
	})
	t.Run("Close ends a running call", func(t *testing.T) {
		s := oneServer(t, command(t, "busy", "sdk", nil))
		running, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := s.Call(context.Background(), upstream.Call{Tool: "block", OnProgress: func(task.Progress, json.RawMessage) { close(running) }})
			ended <- err
		}()
		<-running
		s.Close()
		if l := lost(t, <-ended); !errors.Is(l, upstream.ErrClosed) {
			t.Errorf("got %v", l)
		}
		if _, err := s.Call(t.Context(), upstream.Call{Tool: "seen"}); !errors.Is(err, upstream.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
