package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
)

// Whatever is sent, the front answers in bounds, in well-formed JSON-RPC, and
// never as if the mistake were its own. The corpora under testdata are checked
// by every go test. To search on:
//
//	go test -run '^$' -fuzz FuzzLegacy -fuzztime 10m ./api
//
// and likewise FuzzModern, FuzzParams, FuzzHeaders, FuzzForged,
// FuzzCapabilities and FuzzArguments.

// front is the HTTP front over tasks in memory, and those who call it.
type front struct {
	api      *api.API
	tasks    *memory
	sessions map[string]string // by version
}

var legacyRevisions = []string{"2025-11-25", "2025-06-18", "2025-03-26"}

func newFront(f *testing.F) *front {
	fr := &front{tasks: &memory{}, sessions: map[string]string{}}
	fr.tasks.reset()
	var err error
	if fr.api, err = api.New(api.Options{
		Tasks: fr.tasks, Catalogue: memoryTools{}, Key: key, Logger: discard(), InlineWindow: time.Millisecond, MaxBody: 64 << 10,
	}); err != nil {
		f.Fatal(err)
	}
	fr.api.SetMaxWait(time.Millisecond)
	for _, version := range legacyRevisions {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,`+
			`"capabilities":{"elicitation":{"form":{},"url":{}}},"clientInfo":{"name":"n","version":"1"}}}`, version)
		r := fr.do(http.MethodPost, headers(), body)
		if fr.sessions[version] = r.header.Get("Mcp-Session-Id"); fr.sessions[version] == "" {
			f.Fatalf("no session of %s: %s", version, r.body.Bytes())
		}
	}
	return fr
}

// answer is a response in memory. A client of this kind leaves when it gets a
// stream, for it would have to wait.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
	leave  func()
	left   bool
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) Flush() {
	if a.streams() {
		a.leave()
	}
}

func (a *answer) streams() bool {
	return strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream")
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// do sends one request. A batch is always answered by a stream, so it alone is
// left by the clock, at a time on which no check depends.
func (fr *front) do(method string, header http.Header, body string) *answer {
	fr.tasks.reset()
	patience := time.Minute
	if isBatch(body) {
		patience = 50 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a := &answer{header: http.Header{}}
	a.leave = func() {
		if !isBatch(body) {
			a.left = true
			cancel()
		}
	}
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost/mcp", strings.NewReader(body))
	r.Header = header
	fr.api.Handler().ServeHTTP(a, r)
	return a
}

func isBatch(body string) bool { return strings.HasPrefix(strings.TrimSpace(body), "[") }

// known is what can be known of a message: the ID to answer under, and whether
// two readers may disagree on what it says.
type known struct {
	id        string
	ambiguous bool
	answers   bool // it is to be answered
}

// know reads a message on its own, token by token.
func know(body string) (k known) {
	envelope, ambiguous, ok := membersOf(body, true)
	if !ok {
		return k
	}
	k.ambiguous = ambiguous
	params, ambiguous, _ := membersOf(envelope["params"], true)
	k.ambiguous = k.ambiguous || ambiguous
	_, ambiguous, _ = membersOf(params["_meta"], false)
	k.ambiguous = k.ambiguous || ambiguous
	id := envelope["id"]
	if _, isInteger := new(big.Int).SetString(id, 10); isInteger && !strings.HasPrefix(id, "+") || strings.HasPrefix(id, `"`) {
		k.id = id
		_, k.answers = envelope["method"]
	}
	return k
}

// membersOf are the members of a JSON object, compact, and whether there are
// two of one name, perhaps but for its case.
func membersOf(raw string, fold bool) (members map[string]string, ambiguous, ok bool) {
	dec := json.NewDecoder(strings.NewReader(raw))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, false, false
	}
	members = map[string]string{}
	var names []string
	for dec.More() {
		token, err := dec.Token()
		name, isText := token.(string)
		var value json.RawMessage
		if err != nil || !isText || dec.Decode(&value) != nil {
			return nil, false, false
		}
		ambiguous = ambiguous || slices.ContainsFunc(names, func(other string) bool {
			return other == name || fold && strings.EqualFold(other, name)
		})
		names = append(names, name)
		if _, twice := members[name]; !twice {
			var compact bytes.Buffer
			if err := json.Compact(&compact, value); err != nil {
				return nil, false, false
			}
			members[name] = compact.String()
		}
	}
	_, err := dec.Token()
	return members, ambiguous, err == nil && !dec.More()
}

// check holds an answer to what every answer has to be.
func (a *answer) check(t *testing.T, body string) {
	t.Helper()
	if a.status >= 500 {
		t.Fatalf("HTTP %d: %s", a.status, a.body.Bytes())
	}
	if limit := 32<<10 + 16*len(body); a.body.Len() > limit {
		t.Fatalf("an answer of %d bytes to %d", a.body.Len(), len(body))
	}
	message := know(body)
	responses := a.responses(t)
	for _, r := range responses {
		if r.Error != nil && *r.Error.Code == -32603 && *r.Error.Message != "Task was cancelled" {
			t.Fatalf("an error of the server's own: %s", *r.Error.Message)
		}
		if r.Error == nil && message.ambiguous {
			t.Fatalf("readers may disagree on it, and it was answered: %s", r.Result)
		}
		if r.ID != nil && !isBatch(body) && string(r.ID) != message.id {
			t.Fatalf("answered under the ID %s, want %s", r.ID, message.id)
		}
		if r.ID == nil && r.Error == nil {
			t.Fatalf("a result without an ID: %s", r.Result)
		}
	}
	switch {
	case isBatch(body), a.left:
	case a.status == http.StatusAccepted || a.status == http.StatusNoContent:
		if len(responses) > 0 || message.answers {
			t.Fatalf("HTTP %d with %s", a.status, a.body.Bytes())
		}
	case len(responses) != 1:
		t.Fatalf("HTTP %d with %d responses: %s", a.status, len(responses), a.body.Bytes())
	}
}

// rpcResponse is a response, read strictly.
type rpcResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    *int64          `json:"code"`
		Message *string         `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// responses are the responses in an answer, and not the other messages that a
// stream may have.
func (a *answer) responses(t *testing.T) (responses []rpcResponse) {
	t.Helper()
	messages := [][]byte{a.body.Bytes()}
	if a.streams() {
		messages = nil
		for line := range bytes.Lines(a.body.Bytes()) {
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				messages = append(messages, data)
			}
		}
	}
	for _, message := range messages {
		if len(message) == 0 {
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(message))
		dec.DisallowUnknownFields()
		var r rpcResponse
		if err := dec.Decode(&r); err != nil || r.JSONRPC != "2.0" {
			t.Fatalf("%q is no JSON-RPC (%v)", message, err)
		}
		switch {
		case r.Method != "" && r.Result == nil && r.Error == nil:
			continue
		case r.Method != "", (r.Result == nil) == (r.Error == nil):
			t.Fatalf("%q is no JSON-RPC", message)
		case r.Error != nil && (r.Error.Code == nil || r.Error.Message == nil || *r.Error.Message == ""):
			t.Fatalf("%q is no JSON-RPC error", message)
		}
		responses = append(responses, r)
	}
	return responses
}

func (fr *front) legacyHeader(version string) http.Header {
	return headers("Mcp-Session-Id", fr.sessions[version], "Mcp-Protocol-Version", version)
}

// modernHeader is what a router is told of the body, where it can be told.
func modernHeader(body string) http.Header {
	h := headers("Mcp-Protocol-Version", "2026-07-28")
	envelope, _, _ := membersOf(body, false)
	params, _, _ := membersOf(envelope["params"], false)
	var method string
	if json.Unmarshal([]byte(envelope["method"]), &method) == nil {
		h.Set("Mcp-Method", method)
	}
	for _, field := range []string{"taskId", "name"} {
		var name string
		if json.Unmarshal([]byte(params[field]), &name) == nil && name != "" {
			h.Set("Mcp-Name", "=?base64?"+base64.StdEncoding.EncodeToString([]byte(name))+"?=")
		}
	}
	return h
}

// FuzzLegacy sends any body in a session of one of the revisions of 2025.
func FuzzLegacy(f *testing.F) {
	fr := newFront(f)
	f.Fuzz(func(t *testing.T, version byte, body string) {
		v := legacyRevisions[int(version)%len(legacyRevisions)]
		fr.do(http.MethodPost, fr.legacyHeader(v), body).check(t, body)
	})
}

// FuzzModern sends any body on the 2026 wire.
func FuzzModern(f *testing.F) {
	fr := newFront(f)
	f.Fuzz(func(t *testing.T, body string) {
		fr.do(http.MethodPost, modernHeader(body), body).check(t, body)
	})
}

// requests are good requests of every method, by their params.
var requests = []struct{ method, params string }{
	{"ping", `{}`},
	{"initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"1"}}`},
	{"server/discover", `{}`},
	{"tools/list", `{}`},
	{"tools/call", `{"name":"echo","arguments":{"name":"x"}}`},
	{"tools/call", `{"name":"echo","arguments":{"name":"x"},"task":{"ttl":1000}}`},
	{"tools/call", `{"name":"ask","arguments":{}}`},
	{"tools/call", `{"name":"ask_first","arguments":{}}`},
	{"tools/call", `{"name":"regional","arguments":{"region":"eu"}}`},
	{"tasks/get", `{"taskId":"done"}`},
	{"tasks/get", `{"taskId":"waits"}`},
	{"tasks/result", `{"taskId":"done"}`},
	{"tasks/list", `{}`},
	{"tasks/update", `{"taskId":"waits","inputResponses":{"form":{"action":"accept"}}}`},
	{"tasks/cancel", `{"taskId":"works"}`},
	{"subscriptions/listen", `{"notifications":{"toolsListChanged":true}}`},
	{"notifications/cancelled", `{"requestId":1}`},
	{"resources/read", `{"uri":"file:///a"}`},
	{"prompts/get", `{"name":"p"}`},
}

// FuzzParams changes one member of the params of a good request: it is added,
// or is there instead of what was.
func FuzzParams(f *testing.F) {
	fr := newFront(f)
	f.Fuzz(func(t *testing.T, wire, request byte, name string, value []byte) {
		r := requests[int(request)%len(requests)]
		params := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(r.params), &params); err != nil {
			t.Fatal(err)
		}
		modern := int(wire)%(len(legacyRevisions)+1) == len(legacyRevisions)
		if modern {
			params["_meta"] = json.RawMessage(`{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,` +
				`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}}`)
		}
		if !json.Valid(value) {
			return
		}
		params[name] = value
		encoded, err := json.Marshal(params)
		if err != nil {
			return
		}
		id := `,"id":"an id"`
		if strings.HasPrefix(r.method, "notifications/") {
			id = ""
		}
		body := fmt.Sprintf(`{"jsonrpc":"2.0"%s,"method":%q,"params":%s}`, id, r.method, encoded)
		header := modernHeader(body)
		if !modern {
			header = fr.legacyHeader(legacyRevisions[int(wire)%(len(legacyRevisions)+1)])
		}
		fr.do(http.MethodPost, header, body).check(t, body)
	})
}

// FuzzHeaders sends a good call with any headers. It is answered with a result
// only if they say what the body says (2026-07-28, streamable-http, "Request
// Metadata").
func FuzzHeaders(f *testing.F) {
	fr := newFront(f)
	const body = `{"jsonrpc":"2.0","id":"an id","method":"tools/call","params":{"name":"regional",` +
		`"arguments":{"region":"eu","zone":{"n":42}},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`
	f.Fuzz(func(t *testing.T, version, method, name, region, zone string) {
		h := headers()
		for header, value := range map[string]string{
			"Mcp-Protocol-Version": version, "Mcp-Method": method, "Mcp-Name": name, "Mcp-Param-Region": region, "Mcp-Param-Zone": zone,
		} {
			if value != "" {
				h[header] = []string{value}
			}
		}
		a := fr.do(http.MethodPost, h, body)
		a.check(t, body)
		zoned, isNumber := new(big.Rat).SetString(decoded(zone))
		says := version == "2026-07-28" && method == "tools/call" && decoded(name) == "regional" && decoded(region) == "eu" &&
			isNumber && zoned.Cmp(big.NewRat(42, 1)) == 0
		for _, r := range a.responses(t) {
			if r.Error == nil && !says {
				t.Fatalf("headers that say something else were accepted: %q", h)
			}
			if r.Error != nil && name == "regional" && region == "eu" && zone == "42" && says {
				t.Fatalf("good headers were refused: %q: %s", h, *r.Error.Message)
			}
		}
	})
}

// decoded is what a header says.
func decoded(header string) string {
	if in, ok := strings.CutPrefix(header, "=?base64?"); ok {
		if in, ok = strings.CutSuffix(in, "?="); ok {
			raw, err := base64.StdEncoding.DecodeString(in)
			if err != nil {
				return "\x00"
			}
			return string(raw)
		}
	}
	return header
}

// FuzzForged changes what the server has sealed, a session ID, a cursor or a
// requestState, or makes one up. None but the very one is taken.
func FuzzForged(f *testing.F) {
	fr := newFront(f)
	session := fr.sessions["2025-11-25"]
	field := func(a *answer, name string) string {
		members := map[string]json.RawMessage{}
		for _, r := range a.responses(&testing.T{}) {
			_ = json.Unmarshal(r.Result, &members)
		}
		var text string
		if err := json.Unmarshal(members[name], &text); err != nil {
			f.Fatalf("no %s in %s", name, a.body.Bytes())
		}
		return text
	}
	list := func(cursor string) (http.Header, string) {
		return fr.legacyHeader("2025-11-25"), `{"jsonrpc":"2.0","id":"an id","method":"tasks/list","params":{` + cursor + `}}`
	}
	call := func(state string) (http.Header, string) {
		body := `{"jsonrpc":"2.0","id":"an id","method":"tools/call","params":{"name":"ask_held",` + state +
			`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}}}}}}`
		return modernHeader(body), body
	}
	send := func(h http.Header, body string) *answer { return fr.do(http.MethodPost, h, body) }
	genuine := []string{session, field(send(list("")), "nextCursor"), field(send(call("")), "requestState")}

	f.Fuzz(func(t *testing.T, use, of, at, cut byte, text string) {
		sealed := genuine[int(of)%len(genuine)]
		from := int(at) % (len(sealed) + 1)
		forged := sealed[:from] + text + sealed[min(from+int(cut), len(sealed)):]
		if int(cut)%7 == 6 {
			forged = text
		}
		quoted, err := json.Marshal(forged)
		var said string
		if err != nil || json.Unmarshal(quoted, &said) != nil {
			return
		}
		var a *answer
		var body string
		var refused string
		used := int(use) % len(genuine)
		switch used {
		case 0:
			body = `{"jsonrpc":"2.0","id":"an id","method":"tasks/list"}`
			h := headers()
			h["Mcp-Session-Id"] = []string{forged}
			said = forged
			a = fr.do(http.MethodPost, h, body)
			refused = "Session not found"
			if forged == "" {
				refused = "Missing Mcp-Session-Id"
			}
		case 1:
			var h http.Header
			h, body = list(`"cursor":` + string(quoted))
			a = send(h, body)
			refused = "Invalid cursor"
		case 2:
			var h http.Header
			h, body = call(`"requestState":` + string(quoted) + `,`)
			a = send(h, body)
			refused = "requestState is not valid"
		}
		a.check(t, body)
		responses := a.responses(t)
		if said == genuine[used] {
			return
		}
		if len(responses) != 1 || responses[0].Error == nil || !strings.Contains(*responses[0].Error.Message, refused) {
			t.Fatalf("%q was taken: %s", said, a.body.Bytes())
		}
	})
}
