package taskclient_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// A request is made again while the server says that nothing is lost by that,
// and for nothing else that it says.
func TestRequestIsMadeAgain(t *testing.T) {
	const (
		passing = `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"The task engine is unavailable. Nothing is lost: try again."}}`
		lasting = `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Failed to retrieve task: Task not found"}}`
	)
	requests := []struct {
		name string
		make func(ctx context.Context, url string) error
	}{
		{"Connect", func(ctx context.Context, url string) error {
			_, err := taskclient.Connect(ctx, url)
			return err
		}},
		{"Subscribe", func(ctx context.Context, url string) error {
			s, err := taskclient.Subscribe(ctx, url, "a")
			if err == nil {
				s.Close()
			}
			return err
		}},
	}
	for _, request := range requests {
		for _, test := range []struct {
			name    string
			errors  []string
			want    string
			attempt int64
		}{
			{"passing", []string{passing, passing}, "", 3},
			{"lasting", []string{passing, lasting}, "Task not found", 2},
		} {
			t.Run(request.name+"/"+test.name, func(t *testing.T) {
				var asked atomic.Int64
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if n := int(asked.Add(1)); n <= len(test.errors) {
						w.Header().Set("Content-Type", "application/json")
						_, _ = fmt.Fprint(w, test.errors[n-1])
						return
					}
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
				}))
				defer server.Close()
				err := request.make(t.Context(), server.URL)
				if said := fmt.Sprint(err); (err != nil) != (test.want != "") || !strings.Contains(said, test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
				if got := asked.Load(); got != test.attempt {
					t.Errorf("asked %d times, want %d", got, test.attempt)
				}
			})
		}
	}
}
