package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/api"
)

// A page of an origin that may call can do so: browsers ask before they send
// what MCP clients send, without a token, and show no reply that is not marked
// as meant for the page. (Fetch, "CORS protocol".)
func TestPagesOfOtherOrigins(t *testing.T) {
	tasks := &memory{}
	tasks.reset()
	tokens := loadTokens(t, "ann: token-of-ann\n")
	s := inMemory(t, tasks, func(o *api.Options) {
		o.Auth, o.AllowedOrigins = tokens, []string{"https://app.example.com"}
	})
	const asksFor = "authorization,content-type,mcp-method,mcp-name,mcp-param-region,mcp-protocol-version,mcp-session-id,last-event-id"
	preflight := func(t *testing.T, pairs ...string) *reply {
		t.Helper()
		h := headers("Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", asksFor)
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return s.do(t, t.Context(), http.MethodOptions, h, "")
	}
	varies := func(t *testing.T, r *reply) {
		t.Helper()
		if v := strings.Join(r.header.Values("Vary"), ","); !strings.Contains(v, "Origin") {
			t.Errorf("Vary is %q", v)
		}
	}
	untold := func(t *testing.T, r *reply) {
		t.Helper()
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s is %q", name, r.header.Get(name))
			}
		}
	}
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"1"}}}`

	for _, origin := range []string{"https://app.example.com", "http://localhost:3000"} {
		t.Run("before the request of "+origin, func(t *testing.T) {
			r := preflight(t, "Origin", origin)
			want(t, "status", r.status, http.StatusNoContent)
			want(t, "origin", r.header.Get("Access-Control-Allow-Origin"), origin)
			want(t, "methods", r.header.Get("Access-Control-Allow-Methods"), "GET,POST,DELETE,OPTIONS")
			want(t, "headers", r.header.Get("Access-Control-Allow-Headers"), asksFor)
			want(t, "credentials", r.header.Get("Access-Control-Allow-Credentials"), "")
			varies(t, r)
		})
		t.Run("the request of "+origin, func(t *testing.T) {
			r := s.post(t, headers("Origin", origin, "Authorization", "Bearer token-of-ann"), initialize)
			want(t, "status", r.status, http.StatusOK)
			want(t, "origin", r.header.Get("Access-Control-Allow-Origin"), origin)
			if exposed := r.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "Mcp-Session-Id") {
				t.Errorf("exposed is %q", exposed)
			}
			varies(t, r)
			// It has to be able to read why it is refused.
			r = s.post(t, headers("Origin", origin), initialize)
			want(t, "status without a token", r.status, http.StatusUnauthorized)
			want(t, "origin without a token", r.header.Get("Access-Control-Allow-Origin"), origin)
		})
	}
	// basic/transports, "Security Warning".
	for name, pairs := range map[string][]string{
		"foreign Origin": {"Origin", "https://evil.example"},
		"null Origin":    {"Origin", "null"},
		"foreign Host":   {"Origin", "https://app.example.com", "Host", "evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			r := preflight(t, pairs...)
			want(t, "status", r.status, http.StatusForbidden)
			untold(t, r)
			r = s.post(t, headers(append(pairs, "Authorization", "Bearer token-of-ann")...), initialize)
			want(t, "status", r.status, http.StatusForbidden)
			untold(t, r)
		})
	}
	t.Run("who is no page is answered as ever", func(t *testing.T) {
		want(t, "OPTIONS", preflight(t).status, http.StatusUnauthorized)
		r := preflight(t, "Authorization", "Bearer token-of-ann")
		want(t, "OPTIONS with a token", r.status, http.StatusMethodNotAllowed)
		want(t, "Allow", r.header.Get("Allow"), "GET, POST, DELETE")
		untold(t, r)
		r = s.post(t, headers("Authorization", "Bearer token-of-ann"), initialize)
		want(t, "POST", r.status, http.StatusOK)
		untold(t, r)
	})
}
