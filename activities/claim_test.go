package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// faulty is a store that can be away, and tells of every use meanwhile.
type faulty struct {
	claims.Store
	away atomic.Bool
	used chan struct{}
}

var errAway = errors.New("the store is away")

func (s *faulty) check() error {
	if !s.away.Load() {
		return nil
	}
	select {
	case s.used <- struct{}{}:
	default:
	}
	return errAway
}

func (s *faulty) Put(ctx context.Context, set task.ClaimSet, data []byte) (task.Claim, error) {
	if err := s.check(); err != nil {
		return task.Claim{}, err
	}
	return s.Store.Put(ctx, set, data)
}

func (s *faulty) Get(ctx context.Context, set task.ClaimSet, c task.Claim) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, set, c)
}

// large is a fixture with tools that take and return what is large.
type large struct {
	*fixture
	store *faulty
	runs  atomic.Int32
}

func setupLarge(t *testing.T) *large {
	l := &large{}
	l.fixture = setup(t, temporalAddr, func(s *mcp.Server) {
		addTool(s, "echo", func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			l.runs.Add(1)
			return text(string(req.Params.Arguments)), nil
		})
		addTool(s, "fail", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return nil, &jsonrpc.Error{Code: -32000, Message: strings.Repeat("<", 400_000)}
		})
		addTool(s, "ask", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{RequestState: strings.Repeat("x", 2<<20), InputRequests: mcp.InputRequestMap{}}, nil
		})
	})
	l.worker.Stop()
	l.store = &faulty{Store: l.claims, used: make(chan struct{}, 1000)}
	l.claims = l.store
	l.startWorker(t)
	return l
}

// echo starts a call with arguments that are kept, unless there are none.
func (l *large) echo(t *testing.T, size int, put bool) (set task.ClaimSet, args string, outcome func() (*task.Outcome, error)) {
	t.Helper()
	args = fmt.Sprintf(`{"fill":%q}`, strings.Repeat("x", size))
	set = task.ClaimSet{TaskID: t.Name(), CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
	c := claims.NewClaim([]byte(args))
	if put {
		if _, err := l.store.Store.Put(t.Context(), set, []byte(args)); err != nil {
			t.Fatal(err)
		}
	}
	run := l.startWith(t, set.TaskID, task.StartInput{
		Card:           task.Card{Tool: "echo", CreatedAt: set.CreatedAt, TTLMillis: time.Hour.Milliseconds()},
		ArgumentsClaim: &c,
	})
	return set, args, func() (*task.Outcome, error) {
		var o task.Outcome
		return &o, run.Get(t.Context(), &o)
	}
}

func TestLarge(t *testing.T) {
	t.Run("arguments and result pass through the store", func(t *testing.T) {
		l := setupLarge(t)
		set, args, outcome := l.echo(t, 3<<20, true)
		o, err := outcome()
		if err != nil || o.ResultClaim == nil || o.Result != nil {
			t.Fatalf("outcome %+v, error %v", o, err)
		}
		result, err := l.store.Get(t.Context(), set, *o.ResultClaim)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ Content []struct{ Text string } }
		if err := json.Unmarshal(result, &r); err != nil || len(r.Content) != 1 || r.Content[0].Text != args {
			t.Errorf("the tool returned %.100s, error %v", result, err)
		}
	})

	t.Run("a store that is away is waited for, and nothing is run twice", func(t *testing.T) {
		l := setupLarge(t)
		l.store.away.Store(true)
		_, _, outcome := l.echo(t, 1<<20, true)
		<-l.store.used
		<-l.store.used
		if l.runs.Load() != 0 {
			t.Error("the tool was run without its arguments")
		}
		l.store.away.Store(false)
		if o, err := outcome(); err != nil || o.ResultClaim == nil || l.runs.Load() != 1 {
			t.Errorf("outcome %+v, error %v, after %d runs", o, err, l.runs.Load())
		}
	})

	t.Run("a cancel ends the wait for the store", func(t *testing.T) {
		l := setupLarge(t)
		l.store.away.Store(true)
		set, _, outcome := l.echo(t, 1<<20, true)
		<-l.store.used
		if err := l.client.SignalWorkflow(t.Context(), set.TaskID, "", task.SignalCancel, task.CancelSignal{}); err != nil {
			t.Fatal(err)
		}
		_, err := outcome()
		var canceled *temporal.CanceledError
		if !errors.As(err, &canceled) || l.runs.Load() != 0 {
			t.Errorf("error %v after %d runs", err, l.runs.Load())
		}
	})

	t.Run("without its arguments the tool is not run", func(t *testing.T) {
		l := setupLarge(t)
		_, _, outcome := l.echo(t, 1<<20, false)
		_, err := outcome()
		if err == nil || !strings.Contains(err.Error(), "The tool was not called") ||
			!strings.Contains(err.Error(), "api and worker must share it") || l.runs.Load() != 0 {
			t.Errorf("error %v after %d runs", err, l.runs.Load())
		}
	})

	t.Run("an error or a question that is too large fails the task", func(t *testing.T) {
		l := setupLarge(t)
		for tool, want := range map[string]string{"fail": "the tool's error has", "ask": "what the tool asks for has"} {
			err := l.start(t, tool, task.Policy{}).Get(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %.300v", tool, err)
			}
		}
	})
}
