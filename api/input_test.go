package api_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// A second upstream, written by hand, has the one tool relay, which asks for
// whatever it is told to and returns what it was sent, all of it as it is. Its
// argument rounds lists, for each round, the requests by their keys.
var verbatimTools *upstream.Set

const verbatimQueue = "verbatim"

func newVerbatim(ctx context.Context, url string) (*upstream.Set, error) {
	s, err := upstream.HTTP("verbatim", url, nil)
	if err != nil {
		return nil, err
	}
	set, err := upstream.New(upstream.Options{Servers: []upstream.Server{s}})
	if err != nil {
		return nil, err
	}
	return set, set.Start(ctx)
}

func serveVerbatim(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Meta      json.RawMessage `json:"_meta"`
			Arguments struct {
				Rounds []json.RawMessage `json:"rounds"`
			} `json:"arguments"`
			InputResponses json.RawMessage `json:"inputResponses"`
			RequestState   string          `json:"requestState"`
		}
	}
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&m) != nil || m.ID == nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	result := object{"resultType": "complete"}
	switch m.Method {
	case "server/discover":
		result["supportedVersions"] = []string{"2026-07-28"}
		result["capabilities"] = object{"tools": object{}}
		result["serverInfo"] = object{"name": "verbatim", "version": "1"}
	case "tools/list":
		result["tools"] = []object{{"name": "relay", "inputSchema": object{"type": "object"}}}
	case "tools/call":
		round := len(m.Params.RequestState)
		if round < len(m.Params.Arguments.Rounds) {
			result["resultType"] = "input_required"
			result["inputRequests"] = m.Params.Arguments.Rounds[round]
			result["requestState"] = m.Params.RequestState + "+"
			break
		}
		sent, _ := json.Marshal(object{"answers": m.Params.InputResponses, "meta": m.Params.Meta})
		result["content"] = []object{{"type": "text", "text": string(sent)}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object{"jsonrpc": "2.0", "id": m.ID, "result": result})
}

// onVerbatim makes a stack serve that upstream.
func onVerbatim(t *testing.T) func(*api.Options) {
	e := newEngine(t, dial(t), verbatimQueue)
	return func(o *api.Options) { o.Tasks, o.Catalogue = e, verbatimTools }
}

// relayed is what the tool says it was sent.
func relayed(t *testing.T, result object) (sent struct{ Answers, Meta object }) {
	t.Helper()
	if err := json.Unmarshal([]byte(textOf(t, result)), &sent); err != nil {
		t.Fatal(err)
	}
	return sent
}

func rounds(rounds ...object) object { return object{"rounds": rounds} }

func parsed(t *testing.T, text string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

var everything = object{
	"elicitation": object{"form": object{}, "url": object{}}, "roots": object{},
	"sampling":   object{"tools": object{}, "context": object{}},
	"extensions": object{"io.modelcontextprotocol/tasks": object{}},
}

// client/elicitation, client/sampling and client/roots: what tool and client
// have to say to each other passes every wire as it is.
func TestInputPassesVerbatim(t *testing.T) {
	s := setup(t, onVerbatim(t))
	for name, tt := range map[string]struct{ method, params, answer string }{
		"a form of every kind of field": {
			"elicitation/create",
			`{"mode":"form","message":"<b>All</b> & more\u2028","requestedSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{
				"name":{"type":"string","title":"Name","description":"d","minLength":1,"maxLength":50,"default":"Ann"},
				"email":{"type":"string","format":"email"},"site":{"type":"string","format":"uri"},
				"day":{"type":"string","format":"date"},"moment":{"type":"string","format":"date-time"},
				"age":{"type":"integer","minimum":18,"maximum":120,"default":20},"weight":{"type":"number","minimum":0.5},
				"sure":{"type":"boolean","default":false},
				"colour":{"type":"string","enum":["red","green"],"enumNames":["Red","Green"],"default":"red"},
				"titled":{"type":"string","oneOf":[{"const":"#f00","title":"Red"},{"const":"#0f0","title":"Green"}]},
				"many":{"type":"array","minItems":1,"maxItems":2,"items":{"type":"string","enum":["a","b"]},"default":["a"]},
				"titledMany":{"type":"array","items":{"anyOf":[{"const":"a","title":"A"},{"const":"b","title":"B"}]}}},
				"required":["name","many"]},"_meta":{"com.example/x":[1]}}`,
			`{"action":"accept","content":{"name":"<Bo>","email":"bo@example.com","site":"https://example.com/","day":"2026-07-28",
				"moment":"2026-07-28T09:30:00Z","age":33,"weight":70.25,"sure":true,"colour":"green","titled":"#0f0",
				"many":["a","b"],"titledMany":[]},"_meta":{"com.example/y":{"z":null}}}`,
		},
		"a form without a mode":   {"elicitation/create", `{"message":"m","requestedSchema":{"type":"object","properties":{}}}`, `{"action":"decline"}`},
		"a visit that is refused": {"elicitation/create", `{"mode":"url","message":"m","url":"https://example.com/?a=1&b=2"}`, `{"action":"cancel"}`},
		"sampling": {
			"sampling/createMessage",
			`{"messages":[{"role":"user","content":{"type":"image","data":"aGk=","mimeType":"image/png"}}],"systemPrompt":"s","maxTokens":100,
				"modelPreferences":{"hints":[{"name":"x"}],"costPriority":0.3},"temperature":0.1,"stopSequences":["."],"includeContext":"thisServer","metadata":{"a":1}}`,
			`{"role":"assistant","content":{"type":"text","text":"hello"},"model":"m-1","stopReason":"endTurn"}`,
		},
		"sampling with tools": {
			"sampling/createMessage",
			`{"messages":[{"role":"user","content":{"type":"text","text":"weather?"}},
				{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"w","input":{"city":"Paris"}}]},
				{"role":"user","content":[{"type":"tool_result","toolUseId":"c1","content":[{"type":"text","text":"18"}]}]}],
				"tools":[{"name":"w","description":"d","inputSchema":{"type":"object","properties":{"city":{"type":"string"}}}}],
				"toolChoice":{"mode":"required"},"maxTokens":1000}`,
			`{"role":"assistant","content":[{"type":"tool_use","id":"c2","name":"w","input":{"city":"London"}},
				{"type":"tool_use","id":"c3","name":"w","input":{"city":"Rome","days":[1,2]}}],"model":"m-1","stopReason":"toolUse"}`,
		},
		"roots": {"roots/list", `{}`, `{"roots":[{"uri":"file:///home/a%20b","name":"p"},{"uri":"file:///c"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			asked, answer := parsed(t, tt.params), parsed(t, tt.answer)
			arguments := rounds(object{"k": object{"method": tt.method, "params": asked}})
			check := func(t *testing.T, method any, params, result object) {
				t.Helper()
				want[any](t, "method", method, tt.method)
				same(t, "params", params, asked)
				same(t, "answers", relayed(t, result).Answers, object{"k": answer})
			}
			requested := func(t *testing.T, result object) (method any, params object) {
				t.Helper()
				request := result["inputRequests"].(object)["k"].(object)
				return request["method"], request["params"].(object)
			}
			t.Run("2026, in a task", func(t *testing.T) {
				c := s.modern(t, everything)
				id := c.tool("relay", arguments).result()["taskId"].(string)
				method, params := requested(t, c.await(id, "input_required"))
				c.call("tasks/update", object{"taskId": id, "inputResponses": object{"k": answer}}).result()
				check(t, method, params, c.await(id, "completed")["result"].(object))
			})
			t.Run("2026, of a held call", func(t *testing.T) {
				caps := maps.Clone(everything)
				delete(caps, "extensions")
				c := s.modern(t, caps)
				res := c.tool("relay", arguments).result()
				method, params := requested(t, res)
				check(t, method, params, c.call("tools/call", object{
					"name": "relay", "arguments": arguments, "requestState": res["requestState"], "inputResponses": object{"k": answer},
				}).result())
			})
			legacy := func(t *testing.T, c *caller, r *reply) {
				t.Helper()
				f := r.next()
				delete(f.Params, "elicitationId") // 2025 has to have one
				if meta, ok := f.Params["_meta"].(object); ok {
					if delete(meta, "io.modelcontextprotocol/related-task"); len(meta) == 0 {
						delete(f.Params, "_meta")
					}
				}
				c.notify(object{"id": f.ID, "result": answer})
				check(t, f.Method, f.Params, r.result())
			}
			t.Run("2025, in a task", func(t *testing.T) {
				c := s.legacy(t, "2025-11-25", everything)
				id := asTask(c, "relay", arguments, object{})["taskId"].(string)
				legacy(t, c, c.call("tasks/result", object{"taskId": id}))
			})
			t.Run("2025, of a held call", func(t *testing.T) {
				c := s.legacy(t, "2025-11-25", everything)
				legacy(t, c, c.tool("relay", arguments))
			})
		})
	}
}

// What a version does not have is refused, not waited for.
func TestInputByVersion(t *testing.T) {
	s := setup(t, onVerbatim(t))
	form := object{"method": "elicitation/create", "params": object{
		"mode": "form", "message": "m", "requestedSchema": object{"type": "object", "properties": object{}},
	}}
	visit := object{"method": "elicitation/create", "params": object{"mode": "url", "message": "m", "url": "https://example.com/"}}
	sample := object{"method": "sampling/createMessage", "params": object{"messages": []any{}, "maxTokens": 1}}
	withTools := object{"method": "sampling/createMessage", "params": object{
		"messages": []any{}, "maxTokens": 1, "tools": []object{{"name": "t", "inputSchema": object{"type": "object"}}},
	}}
	roots := object{"method": "roots/list"}
	for version, served := range map[string][]*object{
		"2025-03-26": {&sample, &roots},
		"2025-06-18": {&form, &sample, &roots},
		"2025-11-25": {&form, &visit, &sample, &withTools, &roots},
	} {
		t.Run(version, func(t *testing.T) {
			c := s.legacy(t, version, everything)
			for _, request := range []*object{&form, &visit, &sample, &withTools, &roots} {
				r := c.tool("relay", rounds(object{"k": *request}))
				if !slices.Contains(served, request) {
					// client/elicitation, "Error Handling"; -32021 is of 2026.
					f := r.fails(-32602)
					if _, ok := f.Error.Data["requiredCapabilities"]; !ok {
						t.Errorf("%v: data is %v", *request, f.Error.Data)
					}
					continue
				}
				f := r.next()
				want[any](t, "method", f.Method, (*request)["method"])
				if _, ok := f.Params["mode"]; ok && version == "2025-06-18" {
					t.Error("2025-06-18 has no modes")
				}
				c.notify(object{"id": f.ID, "error": object{"code": -1, "message": "no"}})
				r.result()
			}
		})
	}
	t.Run("2026 has an error for it", func(t *testing.T) {
		r := s.modern(t, object{"elicitation": object{}}).tool("relay", rounds(object{"k": visit}))
		f := r.fails(-32021)
		want(t, "status", r.status, http.StatusBadRequest)
		same(t, "data", f.Error.Data, object{"requiredCapabilities": object{"elicitation": object{"url": object{}}}})
	})
}

// client/elicitation of 2025-11-25, "URL Mode Elicitation Requests" and
// "Completion Notifications for URL Mode Elicitation".
func TestURLMode(t *testing.T) {
	s := setup(t, onVerbatim(t))
	visit := func(url string, more ...string) object {
		params := object{"mode": "url", "message": "m", "url": url}
		for i := 0; i < len(more); i += 2 {
			params[more[i]] = more[i+1]
		}
		return object{"method": "elicitation/create", "params": params}
	}
	form := object{"method": "elicitation/create", "params": object{
		"message": "m", "requestedSchema": object{"type": "object", "properties": object{}},
	}}
	const complete = "notifications/elicitation/complete"
	accept := func(c *caller, f *frame) { c.notify(object{"id": f.ID, "result": object{"action": "accept"}}) }
	c := s.legacy(t, "2025-11-25", everything)

	t.Run("the tool's own id is kept, and told when the tool ends", func(t *testing.T) {
		c := c.in(t)
		r := c.tool("relay", rounds(object{"k": visit("https://example.com/", "elicitationId", "its-own")}))
		f := r.next()
		want[any](t, "id", f.Params["elicitationId"], "its-own")
		accept(c, f)
		f = r.next()
		want(t, "method", f.Method, complete)
		same(t, "params", f.Params, object{"elicitationId": "its-own"})
		if f := r.next(); f.Result == nil {
			t.Errorf("then comes %+v", f)
		}
	})
	t.Run("a tool without one gets one, which stays the same when it is asked again", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "relay", rounds(object{"k": visit("https://example.com/")}), object{})["taskId"].(string)
		ctx, disconnect := context.WithCancel(t.Context())
		first := c.callContext(ctx, "tasks/result", object{"taskId": id}).next().Params["elicitationId"].(string)
		r := c.call("tasks/result", object{"taskId": id})
		disconnect()
		f := r.next()
		want[any](t, "id", f.Params["elicitationId"], first)
		if len(first) < 22 {
			t.Errorf("%q can be guessed", first)
		}
		accept(c, f)
		same(t, "params", r.next().Params, object{"elicitationId": first})
		r.result()
	})
	t.Run("only the client that was asked is told, and once", func(t *testing.T) {
		c := c.in(t)
		id := asTask(c, "relay", rounds(object{"k": visit("https://example.com/")}, object{"l": form}), object{})["taskId"].(string)
		r := c.call("tasks/result", object{"taskId": id})
		f := r.next()
		other := s.legacy(t, "2025-11-25", object{}).call("tasks/result", object{"taskId": id})
		accept(c, f)
		want(t, "method", r.next().Method, complete) // the tool asks for something else now
		f = r.next()
		want(t, "method", f.Method, "elicitation/create")
		accept(c, f)
		for _, r := range []*reply{r, other} {
			if f := r.next(); f.Result == nil {
				t.Errorf("then comes %+v", f)
			}
		}
	})
	t.Run("consent is not completion", func(t *testing.T) {
		c := c.in(t)
		again := visit("https://example.com/again")
		r := c.tool("relay", rounds(object{"k": again, "l": form}, object{"k": again}))
		frames := []*frame{r.next(), r.next()}
		slices.SortFunc(frames, func(a, b *frame) int { // the visit first
			return len(b.Params) - len(a.Params)
		})
		accept(c, frames[0])
		accept(c, frames[1])
		f := r.next() // the tool knows that it is not
		want(t, "method", f.Method, "elicitation/create")
		want[any](t, "url", f.Params["url"], "https://example.com/again")
		accept(c, f)
		ids := map[any]bool{frames[0].Params["elicitationId"]: true, f.Params["elicitationId"]: true}
		want(t, "ids", len(ids), 2)
		for range 2 {
			f := r.next()
			want(t, "method", f.Method, complete)
			delete(ids, f.Params["elicitationId"])
		}
		want(t, "ids not told of", len(ids), 0)
		r.result()
	})
	t.Run("who declines is told nothing", func(t *testing.T) {
		c := c.in(t)
		r := c.tool("relay", rounds(object{"k": visit("https://example.com/")}))
		c.notify(object{"id": r.next().ID, "result": object{"action": "decline"}})
		if f := r.next(); f.Result == nil {
			t.Errorf("then comes %+v", f)
		}
	})
	t.Run("2026 has no id", func(t *testing.T) {
		c := s.modern(t, everything)
		id := c.tool("relay", rounds(object{"k": visit("https://example.com/", "elicitationId", "its-own")})).result()["taskId"].(string)
		request := c.await(id, "input_required")["inputRequests"].(object)["k"]
		same(t, "request", request, visit("https://example.com/"))
		c.call("tasks/cancel", object{"taskId": id}).result()
	})
}

// A checkpoint is what a tool left to its next attempt: nobody else may hand it
// one. The idempotency key a tool gets is Longhaul's too.
func TestClientMetadataStaysHere(t *testing.T) {
	s := setup(t, onVerbatim(t))
	for name, call := range map[string]func(t *testing.T, params object) object{
		"2026": func(t *testing.T, params object) object {
			return s.modern(t, everything).call("tools/call", params).result()
		},
		"2026, held": func(t *testing.T, params object) object {
			return s.modern(t, object{}).call("tools/call", params).result()
		},
		"2025": func(t *testing.T, params object) object {
			return s.legacy(t, "2025-11-25", object{}).call("tools/call", params).result()
		},
		"2025, as a task": func(t *testing.T, params object) object {
			c := s.legacy(t, "2025-11-25", object{})
			params["task"] = object{}
			id := c.call("tools/call", params).result()["task"].(object)["taskId"]
			return c.call("tasks/result", object{"taskId": id}).result()
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := gate(t) // nobody else's
			meta := relayed(t, call(t, object{"name": "relay", "arguments": rounds(), "_meta": object{
				"io.longhaul/checkpoint": "forged", "io.longhaul/idempotency-key": key, "com.example/x": 1,
			}})).Meta
			for _, absent := range []string{"io.longhaul/checkpoint", "com.example/x"} {
				if _, ok := meta[absent]; ok {
					t.Errorf("the tool got %s", absent)
				}
			}
			if got := meta["io.longhaul/idempotency-key"]; got == key || got == nil {
				t.Errorf("the tool got the idempotency key %v", got)
			}
		})
	}
}
