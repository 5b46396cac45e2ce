package upstream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// relay is a server of the 2025 protocol by hand. Its one tool, relay, sends
// the messages it is given as arguments, awaits the responses to those that
// are requests, and returns them in the order of their ids.
type relay struct {
	send func(message string)
	// ownRoots makes it ask for roots when a session begins.
	ownRoots bool

	mu        sync.Mutex
	responses map[string]json.RawMessage
	waiting   int
	done      func()
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Arguments struct {
			Send []json.RawMessage `json:"send"`
		} `json:"arguments"`
	} `json:"params"`
}

// handle takes in a message. It returns the reply to one that is answered at
// once.
func (r *relay) handle(line []byte) (reply string) {
	var m message
	if json.Unmarshal(line, &m) != nil {
		return ""
	}
	switch {
	case m.Method == "initialize":
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"relay","version":"0"}}}`, m.ID)
	case m.Method == "tools/list":
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"relay","inputSchema":{"type":"object"}}]}}`, m.ID)
	case m.Method == "notifications/initialized":
		if r.ownRoots {
			r.send(`{"jsonrpc":"2.0","id":"own","method":"roots/list"}`)
		}
	case m.Method == "tools/call":
		r.call(m)
	case m.Method == "notifications/cancelled":
		// The tool takes the cancel for its end.
	case m.Method != "" && m.ID != nil:
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID)
	case m.ID != nil && string(m.ID) != `"own"`:
		r.answered(m.ID, line)
	}
	return ""
}

func (r *relay) call(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.responses, r.waiting = map[string]json.RawMessage{}, 0
	for _, line := range m.Params.Arguments.Send {
		if strings.Contains(string(line), `"id"`) {
			r.waiting++
		}
	}
	r.done = func() {
		var all []string
		for _, response := range r.responses {
			all = append(all, string(response))
		}
		slices.Sort(all)
		r.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[],"responses":[%s]}}`, m.ID, strings.Join(all, ",")))
	}
	for _, line := range m.Params.Arguments.Send {
		r.send(string(line))
	}
	if r.waiting == 0 {
		r.done()
	}
}

func (r *relay) answered(id json.RawMessage, line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.responses[string(id)] = slices.Clone(line)
	if r.waiting--; r.waiting == 0 {
		r.done()
	}
}

func serveRelay() {
	var writing sync.Mutex
	r := &relay{ownRoots: os.Getenv("OWN_ROOTS") != "", send: func(m string) {
		writing.Lock()
		defer writing.Unlock()
		fmt.Println(m)
	}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		if reply := r.handle(in.Bytes()); reply != "" {
			r.send(reply)
		}
	}
}

// relayOverHTTP serves each session a relay of its own. The tool's messages
// are events on the stream of its call, in all the ways events can be written.
func relayOverHTTP(t *testing.T) upstream.Server {
	t.Helper()
	var (
		mu       sync.Mutex
		sessions = map[string]*relay{}
	)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		mu.Lock()
		id := req.Header.Get("Mcp-Session-Id")
		if id == "" {
			id = fmt.Sprint("session-", len(sessions))
			sessions[id] = &relay{}
		}
		r := sessions[id]
		mu.Unlock()
		w.Header().Set("Mcp-Session-Id", id)
		if strings.Contains(string(body), `"tools/call"`) {
			messages := make(chan string, 16)
			r.send = func(m string) { messages <- m }
			w.Header().Set("Content-Type", "text/event-stream")
			r.handle(body)
			for n := 0; ; n++ {
				select {
				case m := <-messages:
					half := strings.Index(m, ",") + 1
					switch n % 3 {
					case 0:
						fmt.Fprintf(w, ": comment\nid: %d\nevent: message\ndata: %s\n\n", n, m)
					case 1:
						fmt.Fprintf(w, "data: %s\r\nid: %d\r\n\r\n", m, n)
					case 2:
						fmt.Fprintf(w, "data: %s\ndata: %s\nid:%d\n\n", m[:half], m[half:], n)
					}
					_ = http.NewResponseController(w).Flush()
					if strings.Contains(m, `"responses"`) {
						return
					}
				case <-req.Context().Done():
					return
				}
			}
		}
		reply := r.handle(body)
		if reply == "" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, reply)
	}))
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	server, err := upstream.HTTP("relay", web.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func relayCall(messages ...string) upstream.Call {
	return upstream.Call{
		Tool:         "relay",
		Arguments:    json.RawMessage(`{"send":[` + strings.Join(messages, ",") + `]}`),
		Capabilities: json.RawMessage(everything),
	}
}

const everything = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{"listChanged":true}}`

// TestAskVerbatim: what passes between the server and the caller is what they
// sent, whatever it is.
func TestAskVerbatim(t *testing.T) {
	kinds := map[string]func(t *testing.T) upstream.Server{
		"stdio": func(t *testing.T) upstream.Server { return command(t, "relay", "relay", nil) },
		"http":  relayOverHTTP,
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := oneServer(t, kind(t))
			c := relayCall(
				`{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{"message":"<&>","requestedSchema":7,"new":[12345678901234567890,1.50],"task":{"ttl":1},"_meta":{"progressToken":1,"io.modelcontextprotocol/related-task":{"taskId":"x"}}}}`,
				`{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"hologram"}}],"maxTokens":"many","_meta":{"progressToken":2,"com.example/x":{"y":1}}}}`,
				`{"jsonrpc":"2.0","id":"c","method":"roots/list"}`,
				`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e-1"}}`,
			)
			var (
				mu    sync.Mutex
				asked = map[string]string{}
				all   sync.WaitGroup
			)
			all.Add(3)
			c.Ask = func(_ context.Context, in task.InputRequest) (json.RawMessage, error) {
				mu.Lock()
				asked[in.Method] = string(in.Params)
				mu.Unlock()
				all.Done()
				all.Wait() // they are asked concurrently
				if in.Method == task.MethodRoots {
					return nil, &task.RPCError{Code: -1, Message: "no roots today", Data: json.RawMessage(`{"n":1.0}`)}
				}
				return json.RawMessage(`{"action":"<&>","n":12345678901234567890}`), nil
			}
			var completed []string
			c.OnElicitationComplete = func(id string) { completed = append(completed, id) }
			r := call(t, s, c)
			want := map[string]string{
				task.MethodElicit: `{"message":"<&>","requestedSchema":7,"new":[12345678901234567890,1.50]}`,
				task.MethodSample: `{"messages":[{"role":"user","content":{"type":"hologram"}}],"maxTokens":"many","_meta":{"com.example/x":{"y":1}}}`,
				task.MethodRoots:  ``,
			}
			if !reflect.DeepEqual(asked, want) {
				t.Errorf("asked %q\nwant %q", asked, want)
			}
			const responses = `[{"jsonrpc":"2.0","id":"a","result":{"action":"<&>","n":12345678901234567890}},` +
				`{"jsonrpc":"2.0","id":"c","error":{"code":-1,"message":"no roots today","data":{"n":1.0}}},` +
				`{"jsonrpc":"2.0","id":7,"result":{"action":"<&>","n":12345678901234567890}}]`
			if got := string(r.Result); !strings.Contains(got, responses) {
				t.Errorf("got  %s\nwant %s", got, responses)
			}
			if !slices.Equal(completed, []string{"e-1"}) {
				t.Errorf("completed %q", completed)
			}
		})
	}
}

func TestAskUndeclared(t *testing.T) {
	s := oneServer(t, command(t, "relay", "relay", nil))
	for _, c := range []struct{ name, capabilities, method, params, code string }{
		// 2025-11-25, elicitation, "Error Handling": a mode not declared is -32602.
		{"elicitation", `{}`, task.MethodElicit, `{"message":"?"}`, "-32601"},
		{"url mode", `{"elicitation":{}}`, task.MethodElicit, `{"mode":"url"}`, "-32602"},
		{"form mode", `{"elicitation":{"url":{}}}`, task.MethodElicit, `{"mode":"form"}`, "-32602"},
		{"sampling", `{"elicitation":{}}`, task.MethodSample, `{"messages":[]}`, "-32601"},
		// 2025-11-25, sampling, "Tools in Sampling".
		{"sampling with tools", `{"sampling":{}}`, task.MethodSample, `{"messages":[],"tools":[{"name":"x"}]}`, "-32602"},
		// 2025-11-25, roots, "Error Handling".
		{"roots", `{}`, task.MethodRoots, `{}`, "-32601"},
	} {
		t.Run(c.name, func(t *testing.T) {
			call1 := relayCall(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, c.method, c.params))
			call1.Capabilities = json.RawMessage(c.capabilities)
			call1.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) {
				t.Error("asked")
				return nil, nil
			}
			if r := call(t, s, call1); !strings.Contains(string(r.Result), `"error":{"code":`+c.code) {
				t.Errorf("got %s", r.Result)
			}
		})
	}
}

func TestAskEnds(t *testing.T) {
	const elicit = `{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{"message":"?"}}`
	waits := func(ctx context.Context, _ task.InputRequest) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	t.Run("when the server cancels its request", func(t *testing.T) {
		s := oneServer(t, command(t, "relay", "relay", nil))
		c := relayCall(elicit, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}`)
		c.Ask = waits
		if r := call(t, s, c); !strings.Contains(string(r.Result), `"id":"a","error"`) {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("when the call's context ends", func(t *testing.T) {
		s := oneServer(t, command(t, "relay", "relay", nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		over := false
		c := relayCall(elicit)
		c.Ask = func(ctx context.Context, _ task.InputRequest) (json.RawMessage, error) {
			cancel()
			<-ctx.Done()
			over = true
			return nil, ctx.Err()
		}
		if _, err := s.Call(ctx, c); !errors.Is(err, context.Canceled) || !over {
			t.Errorf("error %v, over %t", err, over)
		}
	})
	t.Run("and the call with it, when it fails", func(t *testing.T) {
		s := oneServer(t, command(t, "relay", "relay", nil))
		c := relayCall(elicit)
		broken := errors.New("out of paper")
		c.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) { return nil, broken }
		if _, err := s.Call(t.Context(), c); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("when the server dies", func(t *testing.T) {
		s := oneServer(t, command(t, "relay", "relay", nil))
		c := relayCall(elicit, `"this is not JSON-RPC"`)
		c.Ask = waits
		_, err := s.Call(t.Context(), c)
		if l := lost(t, err); !l.Sent {
			t.Errorf("got %+v", l)
		}
	})
}

func TestRoots(t *testing.T) {
	const roots = `{"jsonrpc":"2.0","id":"mine","method":"roots/list"}`
	for name, env := range map[string]map[string]string{"asked for by tools only": nil, "asked for when a session begins": {"OWN_ROOTS": "1"}} {
		t.Run(name, func(t *testing.T) {
			s := oneServer(t, command(t, "relay", "relay", env))
			asked := 0
			c := relayCall()
			c.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) {
				asked++
				return json.RawMessage(fmt.Sprintf(`{"roots":[{"uri":"file:///%d"}]}`, asked)), nil
			}
			if call(t, s, c); asked != 0 {
				t.Error("a tool that does not need roots made the caller be asked")
			}
			c = relayCall(roots)
			c.Ask = func(context.Context, task.InputRequest) (json.RawMessage, error) {
				asked++
				return json.RawMessage(`{"roots":[{"uri":"file:///home"}]}`), nil
			}
			if r := call(t, s, c); asked != 1 || !strings.Contains(string(r.Result), "file:///home") {
				t.Errorf("asked %d times, got %s", asked, r.Result)
			}
		})
	}
	t.Run("are not kept for the next caller", func(t *testing.T) {
		server := command(t, "sdk", "sdk", nil)
		server.Protocol = upstream.Protocol2025
		s := oneServer(t, server)
		c := upstream.Call{Tool: "seen", Capabilities: json.RawMessage(everything)}
		before := seen(t, s, c)
		told := upstream.Call{Tool: "roots", Capabilities: c.Capabilities, Ask: func(context.Context, task.InputRequest) (json.RawMessage, error) {
			return json.RawMessage(`{"roots":[]}`), nil
		}}
		call(t, s, told)
		if after := seen(t, s, c); after.Pid == before.Pid {
			t.Error("the process that was told roots serves another call")
		}
	})
}

// TestAskSDK: tools of SDK servers that ask while they run, or that end a round
// to ask, which the SDK's server turns into requests on the 2025 protocol.
func TestAskSDK(t *testing.T) {
	everyKind(t, func(t *testing.T, s *upstream.Set, protocol string) {
		var (
			mu    sync.Mutex
			asked []string
		)
		c := upstream.Call{Capabilities: json.RawMessage(everything)}
		c.Ask = func(_ context.Context, in task.InputRequest) (json.RawMessage, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, in.Method)
			switch in.Method {
			case task.MethodElicit:
				return json.RawMessage(`{"action":"accept","content":{"n":1}}`), nil
			case task.MethodSample:
				return json.RawMessage(`{"role":"assistant","model":"m","content":{"type":"text","text":"four"}}`), nil
			default:
				return json.RawMessage(`{"roots":[{"uri":"file:///home"}]}`), nil
			}
		}
		for tool, want := range map[string]string{"elicit": `"action":"accept"`, "sample": "four", "roots": "file:///home", "ask": `"action":"accept"`} {
			c.Tool, asked = tool, nil
			r := call(t, s, c)
			switch {
			case protocol == upstream.Protocol2025:
				if got := text(t, r); !strings.Contains(got, want) || len(asked) == 0 {
					t.Errorf("%s: asked %q, got %s", tool, asked, got)
				}
				if tool == "ask" && len(asked) != 2 {
					t.Errorf("asked %q", asked)
				}
			case tool == "ask":
				if !r.NeedsInput {
					t.Errorf("got %+v", r)
				}
			case tool == "roots":
				// It takes the refusal for a result.
			default:
				if r.Error == nil || !strings.Contains(r.Error.Message, `": {"protocol": "2025-11-25"}}}`) {
					t.Errorf("%s: got %+v", tool, r)
				}
			}
		}
	})
	t.Run("a typed handler's refusal names the remedy too", func(t *testing.T) {
		server := newServer()
		mcp.AddTool(server, &mcp.Tool{Name: "typed"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "sure?"})
			return nil, nil, err
		})
		s := oneServer(t, upstream.InProcess("release", server))
		r := call(t, s, upstream.Call{Tool: "typed", Capabilities: json.RawMessage(everything)})
		if r.Error == nil || !strings.Contains(r.Error.Message, `"longhaul": {"servers": {"release": {"protocol": "2025-11-25"}}}`) {
			t.Errorf("got %+v", r)
		}
	})
}

// TestURLRequired: 2025-11-25, elicitation, "URL Elicitation Required Error".
func TestURLRequired(t *testing.T) {
	const (
		one  = `{"mode":"url","elicitationId":"e-1","url":"https://example.com/1","message":"one","new":1.50}`
		two  = `{"mode":"url","elicitationId":"e-2","url":"https://example.com/2","message":"two"}`
		form = `{"mode":"form","elicitationId":"e-3","message":"three"}`
	)
	setup := func(t *testing.T, elicitations string) (*upstream.Set, *int) {
		t.Helper()
		calls := 0
		server := newServer()
		server.AddTool(&mcp.Tool{Name: "visit", InputSchema: map[string]any{"type": "object"}},
			func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				if calls++; calls > 1 {
					return textResult(fmt.Sprintf("thank you %q %d", req.Params.RequestState, len(req.Params.InputResponses))), nil
				}
				return nil, &jsonrpc.Error{Code: -32042, Message: "visit us", Data: json.RawMessage(`{"elicitations":[` + elicitations + `]}`)}
			})
		up := upstream.InProcess("local", server)
		up.Protocol = upstream.Protocol2025
		return oneServer(t, up), &calls
	}
	declared := json.RawMessage(`{"elicitation":{"url":{}}}`)

	t.Run("is a round that needs input", func(t *testing.T) {
		s, _ := setup(t, one+","+two)
		c := upstream.Call{Tool: "visit", Capabilities: declared}
		r := call(t, s, c)
		want := []task.InputRequest{
			{Key: "e-1", Method: task.MethodElicit, Params: json.RawMessage(one)},
			{Key: "e-2", Method: task.MethodElicit, Params: json.RawMessage(two)},
		}
		if !r.NeedsInput || r.Error != nil || !reflect.DeepEqual(r.Inputs, want) {
			t.Fatalf("got %+v", r)
		}
		c.RequestState = r.RequestState
		c.Answers = map[string]json.RawMessage{"e-1": json.RawMessage(`{"action":"accept"}`), "e-2": json.RawMessage(`{"action":"accept"}`)}
		if got := text(t, call(t, s, c)); got != `thank you "" 0` {
			t.Errorf("got %s", got)
		}
	})
	t.Run("is the error again if anything was refused", func(t *testing.T) {
		s, calls := setup(t, one+","+two)
		c := upstream.Call{Tool: "visit", Capabilities: declared}
		c.RequestState = call(t, s, c).RequestState
		c.Answers = map[string]json.RawMessage{"e-1": json.RawMessage(`{"action":"accept"}`), "e-2": json.RawMessage(`{"action":"decline"}`)}
		if r := call(t, s, c); r.Error == nil || r.Error.Code != -32042 || r.Error.Message != "visit us" || *calls != 1 {
			t.Errorf("got %+v after %d calls", r, *calls)
		}
	})
	for name, c := range map[string]struct{ capabilities, elicitations string }{
		"a caller that cannot be sent to URLs": {`{"elicitation":{}}`, one},
		"other modes":                          {string(declared), one + "," + form},
		"no elicitations":                      {string(declared), ""},
		"an id used twice":                     {string(declared), one + "," + one},
	} {
		t.Run("stays an error with "+name, func(t *testing.T) {
			s, _ := setup(t, c.elicitations)
			r := call(t, s, upstream.Call{Tool: "visit", Capabilities: json.RawMessage(c.capabilities)})
			if r.NeedsInput || r.Error == nil || r.Error.Code != -32042 {
				t.Errorf("got %+v", r)
			}
		})
	}
}
