package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// temporalAddr is where the tests' Temporal server listens.
var temporalAddr string

func TestMain(m *testing.M) { os.Exit(temporaltest.Main(m, &temporalAddr)) }

const owner task.Owner = "ann"

var key = []byte("0123456789abcdef0123456789abcdef")

// fixture is an engine on a task queue of its own, which no worker serves
// until work is called.
type fixture struct {
	*engine.Engine
	t      *testing.T
	client client.Client
	queue  string
	polls  *pollCounter
}

func setup(t *testing.T, change ...func(*engine.Options)) *fixture {
	t.Helper()
	return setupAt(t, temporalAddr, change...)
}

func setupAt(t *testing.T, addr string, change ...func(*engine.Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, queue: t.Name(), polls: &pollCounter{opened: map[string]int{}}}
	f.client = dial(t, addr, f.polls.count)
	o := engine.Options{Client: f.client, TaskQueue: f.queue, Key: key}
	for _, c := range change {
		c(&o)
	}
	var err error
	if f.Engine, err = engine.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// dial connects to Temporal; every request goes through the interceptor.
func dial(t *testing.T, addr string, i grpc.UnaryClientInterceptor) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: addr,
		Logger:   slog.New(slog.DiscardHandler),
		ConnectionOptions: client.ConnectionOptions{
			DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(i)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const workerBuildID = "program@1.0.0"

type roundFunc func(context.Context, task.RoundInput) (task.RoundResult, error)

// work starts a worker that runs the real workflow, with round for its rounds.
func (f *fixture) work(round roundFunc) {
	f.t.Helper()
	w := worker.New(f.client, f.queue, worker.Options{
		StickyScheduleToStartTimeout: time.Second,
		BuildID:                      workerBuildID, //nolint:staticcheck // as package worker
	})
	workflows.Register(w, nil)
	w.RegisterActivityWithOptions(round, activity.RegisterOptions{Name: task.ActivityRound})
	if err := w.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(w.Stop)
}

// request is a create request; the options change it.
func request(change ...func(*task.CreateRequest)) task.CreateRequest {
	r := task.CreateRequest{
		Owner:        owner,
		Tool:         "deploy",
		Arguments:    json.RawMessage(`{"env":"prod"}`),
		TTL:          time.Hour,
		Capabilities: json.RawMessage(`{"elicitation":{}}`),
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func (f *fixture) create(change ...func(*task.CreateRequest)) task.Ref {
	f.t.Helper()
	r := request(change...)
	created, err := f.Create(f.t.Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return task.Ref{ID: created.ID, Owner: r.Owner, Held: r.HeldID != ""}
}

func (f *fixture) get(ref task.Ref) *task.Task {
	f.t.Helper()
	got, err := f.Get(f.t.Context(), ref)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

// await watches a task until ok.
func (f *fixture) await(ref task.Ref, ok func(*task.Task) bool) *task.Task {
	f.t.Helper()
	var last *task.Task
	for now, err := range f.Watch(f.t.Context(), ref, task.WatchOptions{Progress: true}) {
		if err != nil {
			f.t.Fatal(err)
		}
		if last = now; ok(now) {
			return now
		}
	}
	f.t.Fatalf("watch ended at %+v", last)
	return nil
}

func terminal(t *task.Task) bool      { return t.Status.Terminal() }
func inputRequired(t *task.Task) bool { return t.Status == task.StatusInputRequired }

// awaitClosed waits until the task's workflow, too, has ended.
func (f *fixture) awaitClosed(ref task.Ref) {
	f.t.Helper()
	// The error is how the workflow ended.
	_ = f.client.GetWorkflow(f.t.Context(), ref.ID, "").Get(f.t.Context(), nil)
	if err := f.t.Context().Err(); err != nil {
		f.t.Fatal(err)
	}
}

func done(text string) task.RoundResult {
	return task.RoundResult{Result: json.RawMessage(fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, text))}
}

func ask(keys ...string) task.RoundResult {
	r := task.RoundResult{NeedsInput: true, RequestState: "state"}
	for _, key := range keys {
		r.Inputs = append(r.Inputs, task.InputRequest{
			Key: key, Method: task.MethodElicit, Params: json.RawMessage(`{"message":"Sure?"}`),
		})
	}
	return r
}

// askOnce asks in the first round and ends in the second.
func askOnce(_ context.Context, in task.RoundInput) (task.RoundResult, error) {
	if in.Round == 1 {
		return ask("confirm"), nil
	}
	return done(string(in.Answers["confirm"])), nil
}

func answers(key string) map[string]json.RawMessage {
	return map[string]json.RawMessage{key: json.RawMessage(`{"action":"accept"}`)}
}

// start starts a task as the engine does, but with a timeout of its own.
func (f *fixture) start(timeout time.Duration) task.Ref {
	f.t.Helper()
	now := time.Now().UTC()
	in := task.StartInput{Card: task.Card{
		Tool: "deploy", OwnerHash: owner.Hash(), CreatedAt: now, TTLMillis: time.Hour.Milliseconds(),
	}}
	_, err := f.client.ExecuteWorkflow(f.t.Context(), client.StartWorkflowOptions{
		ID:                       f.queue,
		TaskQueue:                f.queue,
		WorkflowExecutionTimeout: timeout,
		Memo:                     map[string]any{task.MemoTask: in.Card, task.MemoState: task.InitialState(now)},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(task.SearchOwner).ValueSet(in.Card.OwnerHash),
			temporal.NewSearchAttributeKeyTime(task.SearchExpiresAt).ValueSet(now.Add(time.Hour)),
		),
	}, task.WorkflowTask, in)
	if err != nil {
		f.t.Fatal(err)
	}
	return task.Ref{ID: f.queue, Owner: owner}
}

func (f *fixture) executionStatus(ref task.Ref) enumspb.WorkflowExecutionStatus {
	f.t.Helper()
	d, err := f.client.DescribeWorkflowExecution(f.t.Context(), ref.ID, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return d.GetWorkflowExecutionInfo().GetStatus()
}

// eventually asks until the answer is yes, for what Temporal does a little
// later and tells nobody.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not yet: %s", what)
		}
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

// pollCounter counts the long polls on workflows' histories, and how often one
// was opened for all of the events.
type pollCounter struct {
	mu     sync.Mutex
	opened map[string]int
	open   int
	most   int  // ever open at the same time
	sent   int  // requests of every kind about workflows
	stalls bool // a long poll that goes on does not get through
}

func (p *pollCounter) count(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if strings.Contains(method, "WorkflowExecution") { // not a worker's
		p.mu.Lock()
		p.sent++
		p.mu.Unlock()
	}
	if asked, ok := ctx.Value(askedKey{}).(*atomic.Bool); ok {
		asked.Store(true)
	}
	poll, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest)
	if !ok || !poll.GetWaitNewEvent() {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	p.mu.Lock()
	if poll.GetNextPageToken() == nil && poll.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT {
		p.opened[poll.GetExecution().GetWorkflowId()]++
	}
	p.open++
	p.most = max(p.most, p.open)
	stalled := p.stalls && poll.GetNextPageToken() != nil
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	if stalled {
		<-ctx.Done()
		return ctx.Err()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// askedKey is the key in a context under which is noted that Temporal was asked.
type askedKey struct{}

func (p *pollCounter) openedFor(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened[id]
}

func (p *pollCounter) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

func (p *pollCounter) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalls = true
}

func (p *pollCounter) mostOpen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// link is a TCP connection to Temporal that can be cut and mended.
type link struct {
	lis net.Listener

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

func newLink(t *testing.T) *link {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{lis: lis, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.carry(in) })
		}
	})
	t.Cleanup(func() {
		lis.Close()
		l.cut()
		wg.Wait()
	})
	return l
}

func (l *link) addr() string { return l.lis.Addr().String() }

func (l *link) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", temporalAddr)
	if err != nil {
		return
	}
	defer out.Close()
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return
	}
	l.conns[in], l.conns[out] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var wg sync.WaitGroup
	// Either side may end the connection, and either end is as good as the other.
	wg.Go(func() {
		_, _ = io.Copy(out, in)
		out.Close()
	})
	_, _ = io.Copy(in, out)
	in.Close()
	wg.Wait()
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}
