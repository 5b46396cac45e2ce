package upstream_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// smallServer has the named tools; each returns its own name.
func smallServer(tools ...string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "small", Version: "1"}, nil)
	for _, name := range tools {
		addTool(s, name)
	}
	return s
}

func addTool(s *mcp.Server, name string) {
	s.AddTool(&mcp.Tool{Name: name, InputSchema: map[string]any{"type": "object"}},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return textResult(name), nil })
}

func TestExposedNames(t *testing.T) {
	t.Run("one server keeps its names", func(t *testing.T) {
		s := oneServer(t, upstream.InProcess("a", smallServer("x", "y")))
		if got := names(s.Tools()); got != "x y" {
			t.Errorf("tools %s", got)
		}
	})
	t.Run("several servers prefix theirs", func(t *testing.T) {
		s, _ := setup(t, upstream.Options{Servers: []upstream.Server{
			upstream.InProcess("b", smallServer("x")), upstream.InProcess("a", smallServer("x")),
		}})
		if got := names(s.Tools()); got != "b__x a__x" {
			t.Errorf("tools %s", got)
		}
		if got := text(t, call(t, s, upstream.Call{Tool: "a__x"})); got != "x" {
			t.Errorf("called %s", got)
		}
		tool, _ := s.Lookup("a__x")
		var d struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(tool.Definition, &d); err != nil || d.Name != "a__x" {
			t.Errorf("definition %s", tool.Definition)
		}
	})
	t.Run("offending and colliding names are refused by name", func(t *testing.T) {
		s, log := setup(t, upstream.Options{Servers: []upstream.Server{
			upstream.InProcess("a", smallServer("b__c", "fine", strings.Repeat("n", 127))),
			upstream.InProcess("a__b", smallServer("c")),
			upstream.InProcess("my files", smallServer("d")),
		}})
		if got := names(s.Tools()); got != "a__fine" {
			t.Errorf("tools %s", got)
		}
		for _, want := range []string{"a__b__c", "my files__d", strings.Repeat("n", 127)} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %q in %s", want, log)
			}
		}
	})
}

func TestToolOptions(t *testing.T) {
	server := smallServer("plain")
	object := map[string]any{"type": "object"}
	for name, a := range map[string]*mcp.ToolAnnotations{
		"reads": {ReadOnlyHint: true}, "repeats": {IdempotentHint: true}, "writes": {},
		"reads-never": {ReadOnlyHint: true}, "writes-always": {},
	} {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: object, Annotations: a}, nil)
	}
	s, log := setup(t, upstream.Options{
		Servers: []upstream.Server{upstream.InProcess("a", server)},
		Tools: map[string]upstream.ToolOptions{
			"plain":         {Support: task.SupportRequired, Input: task.InputBeforeTask, Timeout: 90 * time.Second},
			"reads-never":   {Retry: upstream.RetryNever},
			"writes-always": {Retry: upstream.RetryAlways},
			"typo":          {},
		},
	})
	want := map[string]task.Tool{
		"plain":         {Support: task.SupportRequired, Input: task.InputBeforeTask, Policy: task.Policy{TimeoutMillis: 90_000}},
		"reads":         {Support: task.SupportOptional, Input: task.InputInTask, Policy: task.Policy{Retry: true}},
		"repeats":       {Support: task.SupportOptional, Input: task.InputInTask, Policy: task.Policy{Retry: true}},
		"writes":        {Support: task.SupportOptional, Input: task.InputInTask},
		"reads-never":   {Support: task.SupportOptional, Input: task.InputInTask},
		"writes-always": {Support: task.SupportOptional, Input: task.InputInTask, Policy: task.Policy{Retry: true}},
	}
	for name, w := range want {
		got, ok := s.Lookup(name)
		if !ok || got.Support != w.Support || got.Input != w.Input || got.Policy != w.Policy {
			t.Errorf("%s: got %+v", name, got)
		}
		if string(got.InputSchema) != `{"type":"object"}` {
			t.Errorf("%s: input schema %s", name, got.InputSchema)
		}
	}
	if !strings.Contains(log.String(), "names a tool that does not exist") || !strings.Contains(log.String(), "tool=typo") {
		t.Errorf("log: %s", log)
	}
}

func TestListChanged(t *testing.T) {
	kinds := map[string]func(*testing.T, *mcp.Server) upstream.Server{
		"in process 2026": func(_ *testing.T, s *mcp.Server) upstream.Server { return upstream.InProcess("a", s) },
		"in process 2025": func(_ *testing.T, s *mcp.Server) upstream.Server {
			up := upstream.InProcess("a", s)
			up.Protocol = upstream.Protocol2025
			return up
		},
		"http 2026": func(t *testing.T, s *mcp.Server) upstream.Server { return overHTTP(t, s, true, nil) },
		"http 2025": func(t *testing.T, s *mcp.Server) upstream.Server { return overHTTP(t, s, false, nil) },
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			server := smallServer("x")
			s := oneServer(t, kind(t, server))
			changes := make(chan struct{}, 10)
			cancel := s.Subscribe(func() { changes <- struct{}{} })
			addTool(server, "y")
			await(t, changes, func() bool { return names(s.Tools()) == "x y" })
			server.RemoveTools("x")
			await(t, changes, func() bool { return names(s.Tools()) == "y" })
			if _, ok := s.Lookup("x"); ok {
				t.Error("a tool that is gone is still known")
			}
			cancel()
		})
	}
}

// await waits for changes until one brings about what is wanted.
func await(t *testing.T, changes <-chan struct{}, wanted func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for !wanted() {
		select {
		case <-changes:
		case <-timeout:
			t.Fatal("it did not change")
		}
	}
}

func TestServerThatComesLate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	late, err := upstream.HTTP("late", "http://user:s3cret-password@"+address+"/mcp?key=s3cret-query", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, log := setup(t, upstream.Options{Servers: []upstream.Server{late, upstream.InProcess("here", smallServer("x"))}})
	changes := make(chan struct{}, 10)
	s.Subscribe(func() { changes <- struct{}{} })
	if got := names(s.Tools()); got != "here__x" {
		t.Errorf("tools %s", got)
	}
	if !strings.Contains(log.String(), "connection refused") || strings.Contains(log.String(), "s3cret") {
		t.Errorf("log: %s", log)
	}
	_, err = s.Call(t.Context(), upstream.Call{Tool: "late__y"})
	if e := lost(t, err); e.Sent {
		t.Errorf("got %v", e)
	}

	if l, err = net.Listen("tcp", address); err != nil {
		t.Skip("somebody took the port: ", err)
	}
	server := smallServer("y")
	web := &http.Server{Handler: mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = web.Serve(l) })
	t.Cleanup(func() { web.Close(); serving.Wait() })
	await(t, changes, func() bool { return names(s.Tools()) == "late__y here__x" })
	if got := text(t, call(t, s, upstream.Call{Tool: "late__y"})); got != "y" {
		t.Errorf("called %s", got)
	}
}

func TestHTTP(t *testing.T) {
	t.Run("headers go with every request, and to the server alone", func(t *testing.T) {
		var elsewhere atomic.Int32
		other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("the credentials followed a redirect")
			}
			elsewhere.Add(1)
		}))
		defer other.Close()
		var redirect atomic.Bool
		inner := overHTTP(t, newServer(), true, func(r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer s3cret-token" || r.URL.RawQuery != "key=s3cret-query" {
				t.Errorf("%s without its credentials: %v", r.Method, r.Header)
			}
		})
		s := oneServer(t, inner)
		seen(t, s, upstream.Call{Tool: "seen"})

		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			redirect.Store(true)
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}))
		defer front.Close()
		moved, err := upstream.HTTP("moved", front.URL, map[string]string{"Authorization": "Bearer s3cret-token"})
		if err != nil {
			t.Fatal(err)
		}
		oneServer(t, moved)
		if elsewhere.Load() == 0 || !redirect.Load() {
			t.Error("nothing was redirected")
		}
	})
	t.Run("arguments are mirrored in headers", func(t *testing.T) {
		// 2026-07-28, transports, "Custom Headers from Tool Parameters".
		server := smallServer("a", "b")
		server.AddTool(&mcp.Tool{Name: "query", InputSchema: map[string]any{"type": "object", "properties": map[string]any{
			"region": map[string]any{"type": "string", "x-mcp-header": "Region"},
		}}}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return textResult(req.Extra.Header.Get("Mcp-Param-Region")), nil
		})
		s := oneServer(t, overHTTP(t, server, true, nil))
		r := call(t, s, upstream.Call{Tool: "query", Arguments: json.RawMessage(`{"region":"eu"}`)})
		if r.Error != nil || text(t, r) != "eu" {
			t.Errorf("got %+v", r)
		}
	})
	// The front fails tools/call only, in one of several ways.
	for name, test := range map[string]struct {
		fail func(w http.ResponseWriter)
		sent bool
		want string
	}{
		"a refusal is not sent": {func(w http.ResponseWriter) {
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}, false, `server "front" cannot be reached: it answered HTTP 401 Unauthorized`},
		"an overload is not sent": {func(w http.ResponseWriter) {
			http.Error(w, "later", http.StatusServiceUnavailable)
		}, false, `server "front" cannot be reached: it answered HTTP 503 Service Unavailable`},
		"a bad gateway is unclear": {func(w http.ResponseWriter) {
			http.Error(w, "oops", http.StatusBadGateway)
		}, true, `the connection to server "front" was lost during the call: it answered HTTP 502 Bad Gateway`},
		"a broken connection is unclear": {func(http.ResponseWriter) {
			panic(http.ErrAbortHandler)
		}, true, `the connection to server "front" was lost during the call: `},
		"a stream that ends is unclear": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
		}, true, `the connection to server "front" was lost during the call: `},
	} {
		t.Run(name, func(t *testing.T) {
			server := smallServer("x")
			handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Mcp-Method") == "tools/call" {
					test.fail(w)
					return
				}
				handler.ServeHTTP(w, r)
			}))
			t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
			front, err := upstream.HTTP("front", web.URL+"?key=s3cret-query", map[string]string{"X-Key": "s3cret-key"})
			if err != nil {
				t.Fatal(err)
			}
			s := oneServer(t, front)
			_, err = s.Call(t.Context(), upstream.Call{Tool: "x"})
			l := lost(t, err)
			if l.Sent != test.sent || !strings.HasPrefix(l.Error(), test.want) {
				t.Errorf("got %v: %s", l.Sent, l)
			}
			if all := l.Error() + l.Err.Error(); strings.Contains(all, "s3cret") {
				t.Errorf("credentials in %s", all)
			}
		})
	}
}
