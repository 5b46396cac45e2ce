package activities_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// tasked is an MCP server by hand that makes a task of every call.
type tasked struct {
	calls, cancels atomic.Int32
	polled         chan struct{} // one for each tasks/get, while there is room
	done           atomic.Bool
	// asks is the key under which the task asks, if it does, and answered has
	// those of the answers.
	asks     atomic.Pointer[string]
	listed   atomic.Int32
	hidden   int32 // so many listings are without the tool
	answered chan string
}

func (s *tasked) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ InputResponses map[string]json.RawMessage }
	}
	if req.Method != http.MethodPost || json.NewDecoder(req.Body).Decode(&m) != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	const state = `"taskId":"theirs","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttlMs":60000,"pollIntervalMs":10`
	result := `"resultType":"complete"`
	switch m.Method {
	case "server/discover":
		result = `"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	case "tools/list":
		result = `"resultType":"complete","tools":[]`
		if s.listed.Add(1) > s.hidden {
			result = `"resultType":"complete","tools":[{"name":"work","inputSchema":{"type":"object"}}]`
		}
	case "tools/call":
		s.calls.Add(1)
		result = `"resultType":"task","status":"working",` + state
	case "tasks/get":
		result = `"resultType":"complete","status":"working",` + state
		if s.done.Load() {
			result = `"resultType":"complete","status":"completed","result":{"content":[{"type":"text","text":"theirs"}]},` + state
		}
		if key := s.asks.Load(); key != nil {
			result = `"resultType":"complete","status":"input_required","inputRequests":{"` + *key +
				`":{"method":"elicitation/create","params":{"message":"Go on?","requestedSchema":{"type":"object","properties":{}}}}},` + state
		}
		select {
		case s.polled <- struct{}{}:
		default:
		}
	case "tasks/update":
		for key := range m.Params.InputResponses {
			s.asks.Store(nil)
			s.answered <- key
		}
	case "tasks/cancel":
		s.cancels.Add(1)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{%s}}`, m.ID, result)
}

// start starts a task of the server's tool.
func (s *tasked) start(t *testing.T, ttl time.Duration) (*fixture, client.WorkflowRun) {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	server, err := upstream.HTTP("remote", web.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := setup(t, temporalAddr, none, server)
	return f, f.startWith(t, uuid.NewString(), task.StartInput{
		Card:         task.Card{Tool: "remote__work", CreatedAt: time.Now(), TTLMillis: ttl.Milliseconds()},
		Capabilities: json.RawMessage(`{"elicitation":{}}`),
	})
}

// A round whose upstream made a task of the call is not lost with its worker:
// the next attempt rejoins that task, though the tool may not be run again.
func TestRejoin(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T, ttl time.Duration) (*tasked, *fixture, client.WorkflowRun) {
		s := &tasked{polled: make(chan struct{}, 1), answered: make(chan string, 1)}
		f, run := s.start(t, ttl)
		<-s.polled
		return s, f, run
	}

	t.Run("after the worker stopped", func(t *testing.T) {
		s, f, run := begin(t, time.Hour)
		f.worker.Stop()
		s.done.Store(true)
		f.startWorker(t)
		if got := resultText(t, run); got != "theirs" || s.calls.Load() != 1 || s.cancels.Load() != 0 {
			t.Errorf("got %q after %d calls and %d cancels", got, s.calls.Load(), s.cancels.Load())
		}
	})

	t.Run("after the worker was lost", func(t *testing.T) {
		s, f, run := begin(t, time.Hour)
		// What Temporal does when the heartbeats of a dead worker time out.
		d, err := f.client.DescribeWorkflowExecution(t.Context(), run.GetID(), "")
		if err != nil || len(d.GetPendingActivities()) != 1 {
			t.Fatalf("%d rounds are running, %v", len(d.GetPendingActivities()), err)
		}
		err = f.client.CompleteActivityByID(t.Context(), client.DefaultNamespace, run.GetID(), run.GetRunID(),
			d.GetPendingActivities()[0].GetActivityId(), nil, fmt.Errorf("lost"))
		if err != nil {
			t.Fatal(err)
		}
		s.done.Store(true)
		if got := resultText(t, run); got != "theirs" || s.calls.Load() != 1 {
			t.Errorf("got %q after %d calls", got, s.calls.Load())
		}
	})

	t.Run("and what it asks then is new, though in the same words", func(t *testing.T) {
		s, f, run := begin(t, time.Hour)
		seen := map[string]bool{}
		for i, key := range []string{"first", "second"} {
			s.asks.Store(&key)
			asks := f.await(t, run, func(now task.State) bool { return asked(now) && !seen[now.Inputs[0].Key] }).Inputs[0].Key
			seen[asks] = true
			if len(s.answered) > 0 {
				t.Fatalf("%q was answered and nobody asked", <-s.answered)
			}
			f.answer(t, run, responses(asks, `{"action":"decline"}`))
			if got := <-s.answered; got != key {
				t.Fatalf("%q was answered, want %q", got, key)
			}
			if i == 0 {
				f.worker.Stop()
				f.startWorker(t)
			}
		}
		s.done.Store(true)
		if got := resultText(t, run); got != "theirs" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("but a cancel reaches it", func(t *testing.T) {
		s, f, run := begin(t, time.Hour)
		if err := f.client.SignalWorkflow(t.Context(), run.GetID(), "", task.SignalCancel, task.CancelSignal{}); err != nil {
			t.Fatal(err)
		}
		if err := run.Get(t.Context(), nil); err == nil {
			t.Error("it was not cancelled")
		}
		if s.cancels.Load() != 1 {
			t.Errorf("%d cancels", s.cancels.Load())
		}
	})

	t.Run("and so does the end of the task's time", func(t *testing.T) {
		s, f, run := begin(t, 1500*time.Millisecond)
		if o := f.failure(t, run); o.Kind != task.OutcomeExpired {
			t.Errorf("outcome %+v", o)
		}
		f.worker.Stop() // when the round has ended
		if s.cancels.Load() != 1 {
			t.Errorf("%d cancels", s.cancels.Load())
		}
	})
}

// A tool that is new may have been listed by the process that created the task,
// and not here yet.
func TestToolThatIsListedLater(t *testing.T) {
	t.Parallel()
	s := &tasked{hidden: 1}
	s.done.Store(true)
	_, run := s.start(t, time.Hour)
	if got := resultText(t, run); got != "theirs" {
		t.Errorf("got %q", got)
	}
}
