package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	temporal "go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/api"
)

// Every kind of bad input gets the JSON-RPC error and the HTTP status its
// revision gives it, and the server goes on serving.
func TestBadInput(t *testing.T) {
	tokens := loadTokens(t, "ann: token-of-ann\nbob: token-of-bob\n")
	s := setup(t, func(o *api.Options) { o.Auth = tokens })
	const ann = "Bearer token-of-ann"

	legacy := s.legacy(t, "2025-11-25", elicits, "Authorization", ann)
	foreign := s.legacy(t, "2025-11-25", elicits, "Authorization", "Bearer token-of-bob")
	revoked := s.legacy(t, "2025-11-25", elicits, "Authorization", ann)
	s.do(t, t.Context(), http.MethodDelete, revoked.header, "")
	modern := s.modern(t, withTasks)
	modern.header.Set("Authorization", ann)

	// legacyHeader and modernHeader are good headers with changes; an empty
	// value deletes.
	change := func(h http.Header, pairs []string) http.Header {
		h = h.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
			if pairs[i+1] == "" {
				h.Del(pairs[i])
			}
		}
		return h
	}
	legacyHeader := func(pairs ...string) http.Header { return change(legacy.header, pairs) }
	modernHeader := func(method, name string, pairs ...string) http.Header {
		h := change(modern.header, []string{"Mcp-Method", method, "Mcp-Name", name})
		return change(h, pairs)
	}
	rpc := func(method, params string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":"an id","method":%q,"params":%s}`, method, params)
	}
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}`
	metaVersion := func(v string) string { return strings.Replace(meta, "2026-07-28", v, 1) }
	const undeclared = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	initialize := rpc("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"1"}}`)
	noSession := legacyHeader("Mcp-Session-Id", "", "Mcp-Protocol-Version", "")

	// A requestState to tamper with.
	held := s.modern(t, object{"elicitation": object{}})
	held.header.Set("Authorization", ann)
	state := held.tool("ask", nil).result()["requestState"].(string)
	retry := func(name, arguments, state string) string {
		return rpc("tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s,"requestState":%q,%s}`, name, arguments, state, undeclared))
	}
	tampered := []byte(state)
	tampered[len(tampered)/2] ^= 1
	bobs := modernHeader("tools/call", "ask", "Authorization", "Bearer token-of-bob")

	const noID = "" // the error has no id
	const id = `"an id"`
	rows := []struct {
		name   string
		header http.Header
		body   string
		status int
		code   int
		id     string
	}{
		// JSON-RPC 2.0, "Error object"; basic, "Messages".
		{"malformed JSON on 2025", legacyHeader(), `{"jsonrpc":"2.0",`, 400, -32700, noID},
		{"malformed JSON on 2026", modernHeader("tools/list", ""), `nonsense`, 400, -32700, noID},
		{"data after the message", legacyHeader(), rpc("ping", "{}") + "{}", 400, -32700, noID},
		{"empty body", legacyHeader(), "", 400, -32700, noID},
		{"no object", legacyHeader(), `"ping"`, 400, -32600, noID},
		{"no jsonrpc", legacyHeader(), `{"id":"an id","method":"ping"}`, 400, -32600, id},
		{"other jsonrpc", legacyHeader(), `{"jsonrpc":"1.0","id":"an id","method":"ping"}`, 400, -32600, id},
		{"null id", legacyHeader(), `{"jsonrpc":"2.0","id":null,"method":"ping"}`, 400, -32600, noID},
		{"fractional id", legacyHeader(), `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, 400, -32600, noID},
		{"object as id", legacyHeader(), `{"jsonrpc":"2.0","id":{},"method":"ping"}`, 400, -32600, noID},
		{"method that is no string", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","method":5}`, 400, -32600, id},
		{"neither request nor response", legacyHeader(), `{"jsonrpc":"2.0","id":"an id"}`, 400, -32600, id},
		{"result and error at once", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","result":{},"error":{}}`, 400, -32600, id},
		{"params that are an array", legacyHeader(), rpc("ping", "[]"), 400, -32602, id},
		{"_meta that is no object", legacyHeader(), rpc("ping", `{"_meta":5}`), 400, -32602, id},

		// basic/transports, "Sending Messages": one message; batches ended with 2025-03-26.
		{"batch on 2025-11-25", legacyHeader(), "[" + rpc("ping", "{}") + "]", 400, -32600, noID},
		{"batch on 2026", modernHeader("ping", ""), "[" + rpc("ping", "{}") + "]", 400, -32600, noID},
		{"batch without a session", noSession, "[" + initialize + "]", 400, -32600, noID},
		{"empty batch", legacyHeader(), "[]", 400, -32600, noID},

		// Readers must not be able to disagree on what a message says.
		{"duplicate key in the envelope", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","method":"ping","method":"tools/list"}`, 400, -32600, id},
		{"envelope keys that differ in case", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","method":"ping","METHOD":"tools/list"}`, 400, -32600, id},
		{"escaped duplicate key", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","method":"ping","\u006dethod":"tools/list"}`, 400, -32600, id},
		{"duplicate taskId on 2025", legacyHeader(), rpc("tasks/get", `{"taskId":"a","taskId":"b"}`), 400, -32602, id},
		{"duplicate taskId on 2026", modernHeader("tasks/get", "a"), rpc("tasks/get", `{"taskId":"a","taskId":"b",`+meta+`}`), 400, -32602, id},
		{"taskId and TASKID on 2025", legacyHeader(), rpc("tasks/get", `{"taskId":"a","TASKID":"b"}`), 400, -32602, id},
		{"taskId and TASKID on 2026", modernHeader("tasks/get", "a"), rpc("tasks/get", `{"taskId":"a","TASKID":"b",`+meta+`}`), 400, -32602, id},
		{"TASKID alone", legacyHeader(), rpc("tasks/get", `{"TASKID":"b"}`), 200, -32602, id},
		{"duplicate key in _meta", modernHeader("tools/list", ""), rpc("tools/list", `{"_meta":{"a":1,"a":2}}`), 400, -32602, id},
		{"duplicate key in task", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"task":{"ttl":1,"TTL":2}}`), 200, -32602, id},

		// 2025-11-25, tasks, "Protocol Errors"; ext-tasks, "Protocol Errors".
		{"missing taskId on 2025", legacyHeader(), rpc("tasks/get", `{}`), 200, -32602, id},
		{"no params at all", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","method":"tasks/result"}`, 200, -32602, id},
		{"missing taskId on 2026", modernHeader("tasks/get", ""), rpc("tasks/get", `{`+meta+`}`), 200, -32602, id},
		{"numeric taskId on 2025", legacyHeader(), rpc("tasks/cancel", `{"taskId":5}`), 200, -32602, id},
		{"null taskId on 2025", legacyHeader(), rpc("tasks/get", `{"taskId":null}`), 200, -32602, id},
		{"numeric taskId on 2026", modernHeader("tasks/cancel", "5"), rpc("tasks/cancel", `{"taskId":5,`+meta+`}`), 200, -32602, id},
		{"unknown taskId on 2025", legacyHeader(), rpc("tasks/result", `{"taskId":"no such task"}`), 200, -32602, id},
		{"unknown taskId on 2026", modernHeader("tasks/get", "nosuch"), rpc("tasks/get", `{"taskId":"nosuch",`+meta+`}`), 200, -32602, id},
		{"taskId of 3000 bytes", legacyHeader(), rpc("tasks/get", `{"taskId":"`+strings.Repeat("x", 3000)+`"}`), 200, -32602, id},
		{"cursor that is no cursor", legacyHeader(), rpc("tasks/list", `{"cursor":"bm8gY3Vyc29y"}`), 200, -32602, id},
		{"cursor that is no string", legacyHeader(), rpc("tasks/list", `{"cursor":5}`), 200, -32602, id},
		{"requestState as cursor", legacyHeader(), rpc("tasks/list", fmt.Sprintf(`{"cursor":%q}`, state)), 200, -32602, id},
		{"cursor of tools/list", legacyHeader(), rpc("tools/list", `{"cursor":"x"}`), 200, -32602, id},
		{"tools/list with a numeric cursor", legacyHeader(), rpc("tools/list", `{"cursor":5}`), 200, -32602, id},
		{"tasks/update without responses", modernHeader("tasks/update", "a"), rpc("tasks/update", `{"taskId":"a",`+meta+`}`), 200, -32602, id},
		{"responses that are no object", modernHeader("tasks/update", "a"), rpc("tasks/update", `{"taskId":"a","inputResponses":[],`+meta+`}`), 200, -32602, id},
		{"a response that is no object", modernHeader("tasks/update", "a"), rpc("tasks/update", `{"taskId":"a","inputResponses":{"k":5},`+meta+`}`), 200, -32602, id},

		// server/tools, "Error Handling".
		{"unknown tool on 2025", legacyHeader(), rpc("tools/call", `{"name":"nosuch"}`), 200, -32602, id},
		{"unknown tool on 2026", modernHeader("tools/call", "nosuch"), rpc("tools/call", `{"name":"nosuch",`+meta+`}`), 200, -32602, id},
		{"tools/call without a name", legacyHeader(), rpc("tools/call", `{}`), 200, -32602, id},
		{"tool name that is no string", legacyHeader(), rpc("tools/call", `{"name":["echo"]}`), 200, -32602, id},
		{"arguments that are no object", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":"x"}`), 200, -32602, id},
		{"task that is no object", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"task":true}`), 200, -32602, id},
		{"ttl that is no number", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"task":{"ttl":"1h"}}`), 200, -32602, id},
		{"negative ttl", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"task":{"ttl":-1}}`), 200, -32602, id},
		{"progressToken that is an object", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"_meta":{"progressToken":{}}}`), 200, -32602, id},
		{"idempotency key that is no string", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"x"},"_meta":{"io.longhaul/idempotency-key":5}}`), 200, -32602, id},
		{"initialize without a version", noSession, rpc("initialize", `{"capabilities":{},"clientInfo":{}}`), 200, -32602, id},
		{"initialize with capabilities that are no object", noSession, rpc("initialize", `{"protocolVersion":"2025-11-25","capabilities":5,"clientInfo":{}}`), 200, -32602, id},

		// 2025-11-25, "Message not found"; streamable-http, "Protocol Version Header".
		{"unknown method on 2025", legacyHeader(), rpc("no/such", `{}`), 200, -32601, id},
		{"method of 2026 on 2025", legacyHeader(), rpc("tasks/update", `{}`), 200, -32601, id},
		{"prompts/list, which is not offered", legacyHeader(), rpc("prompts/list", `{}`), 200, -32601, id},
		{"unknown method on 2026", modernHeader("no/such", ""), rpc("no/such", `{`+meta+`}`), 404, -32601, id},
		{"ping on 2026", modernHeader("ping", ""), rpc("ping", `{`+meta+`}`), 404, -32601, id},
		{"initialize on 2026", modernHeader("initialize", ""), rpc("initialize", `{`+meta+`}`), 404, -32601, id},
		{"tasks/result on 2026", modernHeader("tasks/result", "a"), rpc("tasks/result", `{"taskId":"a",`+meta+`}`), 404, -32601, id},
		{"tasks/list on 2026", modernHeader("tasks/list", ""), rpc("tasks/list", `{`+meta+`}`), 404, -32601, id},

		// streamable-http, "Server Validation".
		{"missing version header", modernHeader("tools/list", "", "Mcp-Protocol-Version", ""), rpc("tools/list", `{`+meta+`}`), 400, -32020, id},
		{"version header and body disagree", modernHeader("tools/list", ""), rpc("tools/list", `{`+metaVersion("2099-01-01")+`}`), 400, -32020, id},
		{"missing Mcp-Method", modernHeader("", ""), rpc("tools/list", `{`+meta+`}`), 400, -32020, id},
		{"Mcp-Method and body disagree", modernHeader("tools/list", ""), rpc("tools/call", `{"name":"echo",`+meta+`}`), 400, -32020, id},
		{"Mcp-Method in another case", modernHeader("TOOLS/LIST", ""), rpc("tools/list", `{`+meta+`}`), 400, -32020, id},
		{"missing Mcp-Name", modernHeader("tools/call", ""), rpc("tools/call", `{"name":"echo",`+meta+`}`), 400, -32020, id},
		{"Mcp-Name and body disagree", modernHeader("tools/call", "gate"), rpc("tools/call", `{"name":"echo",`+meta+`}`), 400, -32020, id},
		{"Mcp-Name of tasks/get disagrees", modernHeader("tasks/get", "b"), rpc("tasks/get", `{"taskId":"a",`+meta+`}`), 400, -32020, id},
		{"missing Mcp-Name of tasks/get", modernHeader("tasks/get", ""), rpc("tasks/get", `{"taskId":"a",`+meta+`}`), 400, -32020, id},
		{"Mcp-Name that is not Base64", modernHeader("tools/call", "=?base64?ZWNobw?="), rpc("tools/call", `{"name":"echo",`+meta+`}`), 400, -32020, id},
		{"missing Mcp-Param header", modernHeader("tools/call", "regional"), rpc("tools/call", `{"name":"regional","arguments":{"region":"eu"},`+meta+`}`), 400, -32020, id},
		{"Mcp-Param header that disagrees", modernHeader("tools/call", "regional", "Mcp-Param-Region", "us"), rpc("tools/call", `{"name":"regional","arguments":{"region":"eu"},`+meta+`}`), 400, -32020, id},
		{"Mcp-Param header without a value", modernHeader("tools/call", "regional", "Mcp-Param-Region", "us"), rpc("tools/call", `{"name":"regional","arguments":{},`+meta+`}`), 400, -32020, id},
		{"nested Mcp-Param header that disagrees", modernHeader("tools/call", "regional", "Mcp-Param-Zone", "41"), rpc("tools/call", `{"name":"regional","arguments":{"zone":{"n":42}},`+meta+`}`), 400, -32020, id},
		// "Server Behavior for Custom Headers": a value in the body has its header, and no
		// reader may find one that another does not.
		{"no Mcp-Param header for arguments with a duplicate key", modernHeader("tools/call", "regional"), rpc("tools/call", `{"name":"regional","arguments":{"x":1,"x":2,"region":"eu"},`+meta+`}`), 400, -32020, id},
		{"no Mcp-Param header for nested arguments with a duplicate key", modernHeader("tools/call", "regional"), rpc("tools/call", `{"name":"regional","arguments":{"zone":{"n":1,"n":2}},`+meta+`}`), 400, -32020, id},

		// basic/versioning; 2025-11-25, basic/transports, "Protocol Version Header".
		{"unknown protocol version", modernHeader("tools/list", "", "Mcp-Protocol-Version", "2099-01-01"), rpc("tools/list", `{`+metaVersion("2099-01-01")+`}`), 400, -32022, id},
		{"2025 version in the form of 2026", modernHeader("tools/list", "", "Mcp-Protocol-Version", "2025-11-25"), rpc("tools/list", `{`+metaVersion("2025-11-25")+`}`), 400, -32022, id},
		{"version header that is not the session's", legacyHeader("Mcp-Protocol-Version", "2025-06-18"), rpc("ping", `{}`), 400, -32600, id},

		// basic, "Per-request protocol fields".
		{"no _meta", modernHeader("tools/list", ""), rpc("tools/list", `{}`), 400, -32602, id},
		{"no capabilities", modernHeader("tools/list", ""), rpc("tools/list", `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`), 400, -32602, id},
		{"capabilities that are no object", modernHeader("tools/list", ""), rpc("tools/list", strings.Replace(`{`+undeclared+`}`, "{}", "[]", 1)), 400, -32602, id},
		{"version that is no string", modernHeader("tools/list", ""), rpc("tools/list", `{"_meta":{"io.modelcontextprotocol/protocolVersion":5}}`), 400, -32602, id},

		// ext-tasks, "Protocol Errors".
		{"tasks/get undeclared", modernHeader("tasks/get", "a"), rpc("tasks/get", `{"taskId":"a",`+undeclared+`}`), 400, -32021, id},
		{"tasks/update undeclared", modernHeader("tasks/update", "a"), rpc("tasks/update", `{"taskId":"a","inputResponses":{},`+undeclared+`}`), 400, -32021, id},
		{"tasks/cancel undeclared", modernHeader("tasks/cancel", "a"), rpc("tasks/cancel", `{"taskId":"a",`+undeclared+`}`), 400, -32021, id},
		{"taskIds undeclared", modernHeader("subscriptions/listen", ""), rpc("subscriptions/listen", `{"notifications":{"taskIds":["a"]},`+undeclared+`}`), 400, -32021, id},
		{"taskIds that are no strings", modernHeader("subscriptions/listen", ""), rpc("subscriptions/listen", `{"notifications":{"taskIds":[5]},`+meta+`}`), 200, -32602, id},
		{"listen without a filter", modernHeader("subscriptions/listen", ""), rpc("subscriptions/listen", `{`+meta+`}`), 200, -32602, id},

		// patterns/mrtr, "Server Requirements".
		{"requestState tampered with", modernHeader("tools/call", "ask"), retry("ask", "{}", string(tampered)), 200, -32602, id},
		{"requestState of nobody", modernHeader("tools/call", "ask"), retry("ask", "{}", "AAAA"), 200, -32602, id},
		{"requestState cut short", modernHeader("tools/call", "ask"), retry("ask", "{}", state[:20]), 200, -32602, id},
		{"requestState of another tool", modernHeader("tools/call", "ask_held"), retry("ask_held", "{}", state), 200, -32602, id},
		{"requestState of other arguments", modernHeader("tools/call", "ask"), retry("ask", `{"a":1}`, state), 200, -32602, id},
		{"requestState of another owner", bobs, retry("ask", "{}", state), 200, -32602, id},
		{"requestState that is no string", modernHeader("tools/call", "ask"), rpc("tools/call", `{"name":"ask","requestState":5,`+undeclared+`}`), 200, -32602, id},
		{"inputResponses out of nowhere", modernHeader("tools/call", "ask"), rpc("tools/call", `{"name":"ask","inputResponses":{},`+undeclared+`}`), 200, -32602, id},

		// 2025-11-25, basic/transports, "Session Management".
		{"missing session id", noSession, rpc("ping", `{}`), 400, -32600, id},
		{"forged session id", legacyHeader("Mcp-Session-Id", "forged"), rpc("ping", `{}`), 404, -32600, id},
		{"requestState as session id", legacyHeader("Mcp-Session-Id", state), rpc("ping", `{}`), 404, -32600, id},
		{"expired session id", legacyHeader("Mcp-Session-Id", s.api.AgedSession("ann", 31*24*time.Hour)), rpc("ping", `{}`), 404, -32600, id},
		{"revoked session id", revoked.header, rpc("ping", `{}`), 404, -32600, id},
		{"session id of another owner", legacyHeader("Mcp-Session-Id", foreign.header.Get("Mcp-Session-Id")), rpc("ping", `{}`), 404, -32600, id},

		// basic/transports, "Security Warning".
		{"foreign Origin", legacyHeader("Origin", "https://evil.example"), rpc("ping", `{}`), 403, -32600, noID},
		{"null Origin", legacyHeader("Origin", "null"), rpc("ping", `{}`), 403, -32600, noID},
		{"Origin that only begins like loopback", legacyHeader("Origin", "http://localhost.evil.example"), rpc("ping", `{}`), 403, -32600, noID},
		{"foreign Host", legacyHeader("Host", "evil.example"), rpc("ping", `{}`), 403, -32600, noID},
		{"foreign Host on 2026", modernHeader("tools/list", "", "Host", "evil.example:8080"), rpc("tools/list", `{`+meta+`}`), 403, -32600, noID},

		// basic/authorization, "Error Handling".
		{"no token", legacyHeader("Authorization", ""), rpc("ping", `{}`), 401, -32600, noID},
		{"unknown token", legacyHeader("Authorization", "Bearer guess"), rpc("ping", `{}`), 401, -32600, noID},

		// HTTP.
		{"52 MiB body", legacyHeader(), rpc("tools/call", `{"name":"echo","arguments":{"name":"`+strings.Repeat("x", 52<<20)+`"}}`), 413, -32600, noID},
		{"other content type", legacyHeader("Content-Type", "text/plain"), rpc("ping", `{}`), 415, -32600, noID},
		{"client that accepts no stream", legacyHeader("Accept", "application/json"), rpc("ping", `{}`), 406, -32600, noID},

		// basic/transports, "Sending Messages": what cannot be accepted gets an HTTP error.
		{"response on 2026", modernHeader("", ""), `{"jsonrpc":"2.0","id":"an id","result":{}}`, 400, -32600, id},
		{"response to nothing", legacyHeader(), `{"jsonrpc":"2.0","id":"an id","result":{}}`, 400, -32600, id},
		{"response to an unknown task", legacyHeader(), `{"jsonrpc":"2.0","id":"tk:nosuch:key:nonce","result":{}}`, 400, -32602, `"tk:nosuch:key:nonce"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := s.post(t, row.header, row.body)
			want(t, "status", r.status, row.status)
			f := r.next()
			if f == nil || f.Error == nil {
				t.Fatalf("got %+v", f)
			}
			want(t, "code", f.Error.Code, row.code)
			want(t, "id", string(f.ID), row.id)
			switch row.code {
			case -32022:
				supported, _ := f.Error.Data["supported"].([]any)
				if len(supported) == 0 || f.Error.Data["requested"] == nil {
					t.Errorf("data is %v", f.Error.Data)
				}
			case -32021:
				if f.Error.Data["requiredCapabilities"] == nil {
					t.Errorf("data is %v", f.Error.Data)
				}
			}
			if row.status == http.StatusUnauthorized && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate is %q", r.header.Get("WWW-Authenticate"))
			}
			if strings.Contains(f.Error.Message, "token-of") || strings.Contains(f.Error.Message, "guess") {
				t.Errorf("the message gives a token away: %s", f.Error.Message)
			}
		})
	}

	// Arguments that fail the schema are the tool's result, not an error.
	t.Run("arguments that fail the schema", func(t *testing.T) {
		res := legacy.in(t).tool("greet", object{"name": 5}).result()
		want[any](t, "isError", res["isError"], true)
	})
	for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut, http.MethodOptions} {
		t.Run("foreign Origin and Host with "+method, func(t *testing.T) {
			want(t, "Origin", s.do(t, t.Context(), method, legacyHeader("Origin", "https://evil.example"), "").status, http.StatusForbidden)
			want(t, "Host", s.do(t, t.Context(), method, legacyHeader("Host", "evil.example"), "").status, http.StatusForbidden)
		})
	}
	t.Run("methods that are not offered", func(t *testing.T) {
		r := s.do(t, t.Context(), http.MethodGet, modernHeader("", ""), "")
		want(t, "GET on 2026", r.status, http.StatusMethodNotAllowed)
		want(t, "Allow", r.header.Get("Allow"), "POST")
		want(t, "PUT", s.do(t, t.Context(), http.MethodPut, legacyHeader(), "").status, http.StatusMethodNotAllowed)
		want(t, "GET without a session", s.do(t, t.Context(), http.MethodGet, noSession, "").status, http.StatusBadRequest)
	})
	t.Run("good input is still served", func(t *testing.T) {
		legacy, modern := legacy.in(t), modern.in(t)
		want(t, "2025", textOf(t, legacy.tool("greet", object{"name": "Ann"}).result()), "Hello, Ann!")
		id := modern.tool("must", object{"name": "it"}).result()["taskId"].(string)
		modern.await(id, "completed")
		want(t, "status", s.post(t, legacyHeader("Origin", "http://localhost:3000"), rpc("ping", `{}`)).status, http.StatusOK)
		want(t, "status", s.post(t, legacyHeader("Host", "localhost:1"), rpc("ping", `{}`)).status, http.StatusOK)
	})
}

// streamable-http, "Value Encoding".
func TestHeadersThatAgree(t *testing.T) {
	s := setup(t)
	c := s.modern(t, object{})
	for name, header := range map[string]http.Header{
		"plain":            headers("Mcp-Name", "regional", "Mcp-Param-Region", "eu", "Mcp-Param-Zone", "42"),
		"encoded":          headers("Mcp-Name", "=?base64?cmVnaW9uYWw=?=", "Mcp-Param-Region", "=?base64?ZXU=?=", "Mcp-Param-Zone", "42"),
		"numbers by value": headers("Mcp-Name", "regional", "Mcp-Param-Region", "eu", "Mcp-Param-Zone", "42.0"),
	} {
		t.Run(name, func(t *testing.T) {
			h, body := c.in(t).request("tools/call", object{
				"name": "regional", "arguments": object{"region": "eu", "zone": object{"n": 42}},
			})
			for k, v := range header {
				h[k] = v
			}
			want(t, "text", textOf(t, s.post(t, h, body).result()), "in eu")
		})
	}
}

// A body that is not all there is told so, whether or not its length was known.
func TestBodyBreaksOff(t *testing.T) {
	s := setup(t)
	host := strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/mcp")
	const half = `{"jsonrpc":"2.0","id":1,"method":"initi`
	for name, message := range map[string]string{
		"length":          "Content-Length: 100\r\n\r\n" + half,
		"length, nothing": "Content-Length: 100\r\n\r\n",
		"large":           "Content-Length: 100000\r\n\r\n" + half,
		"chunks":          fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(half), half),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s", host, message)
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "status", res.StatusCode, http.StatusBadRequest)
			want(t, "body", string(body), `{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error: the body broke off"}}`)
		})
	}
}

// An engine that is away is no mistake of the client's.
func TestEngineUnavailable(t *testing.T) {
	nowhere, err := temporal.NewLazyClient(temporal.Options{HostPort: "127.0.0.1:1", Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nowhere.Close)
	s := setupOn(t, nowhere)
	c := s.modern(t, withTasks)
	call := object{"name": "echo", "arguments": object{"name": "x"}}
	keyed := object{"name": "echo", "arguments": object{"name": "x"}, "_meta": object{"io.longhaul/idempotency-key": "k"}}
	for _, r := range []struct {
		method string
		params object
		says   string
	}{
		{"tasks/get", object{"taskId": "a"}, "Nothing is lost: try again"},
		{"tools/call", keyed, "Nothing is lost: try again"},
		// It may have been started, and the second would be another one.
		{"tools/call", call, "may run the tool twice"},
	} {
		f := c.call(r.method, r.params).fails(-32603)
		if m := f.Error.Message; !strings.Contains(m, "unavailable") || !strings.Contains(m, r.says) {
			t.Errorf("%s says %q", r.method, m)
		}
	}
	base := strings.TrimSuffix(s.url, "/mcp")
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		want(t, path, res.StatusCode, status)
	}
}

func TestReady(t *testing.T) {
	s := setup(t)
	res, err := http.Get(strings.TrimSuffix(s.url, "/mcp") + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	want(t, "status", res.StatusCode, http.StatusOK)
}

// A session id travels in a header of every request.
func TestSessionIDIsShort(t *testing.T) {
	s := setup(t)
	huge := object{"elicitation": object{}, "experimental": object{"x": strings.Repeat("x", 1<<16)}}
	c := s.legacy(t, "2025-11-25", huge)
	if n := len(c.header.Get("Mcp-Session-Id")); n > 1<<12 {
		t.Errorf("%d bytes", n)
	}
	c.call("ping", object{}).result()
	r := (&caller{stack: s, t: t, header: headers(), version: "x"}).call("initialize", object{
		"protocolVersion": "2025-11-25", "clientInfo": object{},
		"capabilities": object{"elicitation": object{"x": strings.Repeat("x", 1<<16)}},
	})
	r.fails(-32602)
	want(t, "session", r.header.Get("Mcp-Session-Id"), "")
}
