package lean_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/bench/lean"
)

// Each method is answered in one of the ways in which servers answer.
func TestDo(t *testing.T) {
	busy := 2 // requests that are to be made again
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			JSONRPC, Method string
			ID              json.Number
			Params          map[string]any
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &request); err != nil || request.JSONRPC != "2.0" || request.Params == nil {
			t.Errorf("%s: %v", body, err)
		}
		if known := r.Header.Get("Mcp-Session-Id") == "some session"; known == (request.Method == "initialize") {
			t.Errorf("%s: the session is known: %t", request.Method, known)
		}
		answer := fmt.Sprintf(`{"id":%s,"result":{"method":%q}}`, request.ID, request.Method)
		switch request.Method {
		case "initialize":
			w.Header().Set("Mcp-Session-Id", "some session")
			fmt.Fprintln(w, answer)
		case "notifications/initialized":
			w.WriteHeader(http.StatusAccepted)
		case "message":
			fmt.Fprintln(w, answer)
		case "chunks":
			for _, c := range strings.SplitAfter(answer, ",") {
				fmt.Fprint(w, c)
				w.(http.Flusher).Flush()
			}
		case "stream":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, ": hello\n\nevent: message\ndata: {\"method\":\"notifications/tasks/status\"}\n\nevent: message\ndata: %s\n\n", answer)
		case "busy":
			if busy--; busy >= 0 {
				answer = fmt.Sprintf(`{"id":%s,"error":{"message":"The task engine is unavailable. Nothing is lost: try again."}}`, request.ID)
			}
			fmt.Fprint(w, answer)
		case "error":
			fmt.Fprintf(w, `{"id":%s,"error":{"code":-32602}}`, request.ID)
		case "another":
			fmt.Fprint(w, `{"id":1,"result":{}}`)
		default:
			http.Error(w, "no such session", http.StatusNotFound)
		}
	}))
	defer s.Close()
	session, err := lean.Connect(s.URL + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	c, err := session.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, method := range []string{"message", "chunks", "stream", "busy", "message"} {
		message, err := c.Do(method, []byte(`{"a":1}`))
		if want := fmt.Sprintf(`"result":{"method":%q}}`, method); err != nil || !strings.Contains(string(message), want) {
			t.Errorf("%s: got %q, %v, want %s", method, message, err, want)
		}
	}
	for method, want := range map[string]string{"error": "-32602", "another": "no result", "lost": "404 Not Found: no such session"} {
		if message, err := c.Do(method, []byte("{}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want an error with %q", method, message, err, want)
		}
	}
	if _, err := c.Do("message", []byte("{}")); err != nil {
		t.Errorf("after errors: %v", err)
	}
}
