package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// watch collects what a watch yields until it ends.
func (f *fixture) watch(ctx context.Context, ref task.Ref, o task.WatchOptions, seen func(*task.Task)) error {
	var last *task.Task
	for now, err := range f.Watch(ctx, ref, o) {
		if err != nil {
			return err
		}
		if last != nil && now.Rev < last.Rev {
			f.t.Errorf("revision %d after %d", now.Rev, last.Rev)
		}
		if last != nil && now.Rev == last.Rev && !o.Progress {
			f.t.Errorf("revision %d twice", now.Rev)
		}
		if last != nil && last.Status.Terminal() {
			f.t.Errorf("%s after the end", now.Status)
		}
		last = now
		seen(now)
	}
	return nil
}

func TestWatch(t *testing.T) {
	t.Run("serves many waiters from one long poll and ends with the task", func(t *testing.T) {
		f := setup(t)
		f.work(askOnce)
		ref := f.create()
		const n = 25
		var waiting, ended sync.WaitGroup
		waiting.Add(n)
		for i := range n {
			ended.Go(func() {
				var statuses []task.Status
				asked := false
				err := f.watch(t.Context(), ref, task.WatchOptions{Progress: i%2 == 0}, func(now *task.Task) {
					statuses = append(statuses, now.Status)
					if inputRequired(now) && !asked {
						asked = true
						waiting.Done()
					}
				})
				if err != nil || statuses[len(statuses)-1] != task.StatusCompleted {
					t.Errorf("got %v, %v", statuses, err)
				}
			})
		}
		waiting.Wait()
		if err := f.Answer(t.Context(), ref, answers("confirm")); err != nil {
			t.Fatal(err)
		}
		ended.Wait()
		// The first waiters may have been through before the last ones came,
		// but not after the task began to ask.
		if got := f.polls.mostOpen(); got != 1 {
			t.Errorf("%d long polls were open at the same time", got)
		}
		if got := f.polls.openedFor(ref.ID); got != 1 {
			t.Errorf("the history was opened %d times", got)
		}
	})

	t.Run("ends without an error when the caller leaves", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := f.watch(ctx, ref, task.WatchOptions{}, func(*task.Task) {
			n++
			cancel()
		})
		if err != nil || n != 1 {
			t.Errorf("got %v after %d states", err, n)
		}
	})

	t.Run("shows progress to those who want it", func(t *testing.T) {
		f := setup(t)
		steps := make(chan float64)
		f.work(f.reportEach(steps))
		ref := f.create()
		steps <- 1
		var seen []float64
		err := f.watch(t.Context(), ref, task.WatchOptions{Progress: true}, func(now *task.Task) {
			if now.Progress == nil {
				return
			}
			seen = append(seen, now.Progress.Progress)
			switch now.Progress.Progress {
			case 1:
				steps <- 2
			case 2:
				close(steps)
			}
		})
		if err != nil || len(seen) != 2 || seen[0] != 1 || seen[1] != 2 {
			t.Errorf("saw %v, %v", seen, err)
		}
	})

	t.Run("shows progress to those who come to a watch that rests", func(t *testing.T) {
		f := setup(t)
		steps := make(chan float64)
		f.work(f.reportEach(steps))
		ref := f.create()
		steps <- 1
		watched := make(chan struct{}, 1)
		var ended sync.WaitGroup
		ended.Go(func() {
			err := f.watch(t.Context(), ref, task.WatchOptions{}, func(*task.Task) {
				select {
				case watched <- struct{}{}:
				default:
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-watched
		<-time.After(2500 * time.Millisecond) // beyond its last tick, if it has one
		next := 2.0
		err := f.watch(t.Context(), ref, task.WatchOptions{Progress: true}, func(now *task.Task) {
			switch {
			case now.Progress == nil:
			case now.Progress.Progress == 3:
				close(steps)
			default:
				steps <- next
				next++
			}
		})
		if err != nil || next != 4 {
			t.Errorf("the last step was %v, %v", next-1, err)
		}
		ended.Wait()
	})

	t.Run("goes on by polling where there is no long poll left", func(t *testing.T) {
		f := setup(t, func(o *engine.Options) { o.MaxWatches = 1 })
		f.work(askOnce)
		const n = 4
		var refs []task.Ref
		for range n {
			refs = append(refs, f.create())
		}
		var ended sync.WaitGroup
		for _, ref := range refs {
			ended.Go(func() {
				err := f.watch(t.Context(), ref, task.WatchOptions{}, func(now *task.Task) {
					if inputRequired(now) {
						if err := f.Answer(t.Context(), ref, answers("confirm")); err != nil {
							t.Error(err)
						}
					}
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		ended.Wait()
		if got := f.polls.mostOpen(); got > 1 {
			t.Errorf("%d long polls were open at the same time", got)
		}
	})

	t.Run("ends when the task is deleted, as it is found", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		var once sync.Once
		var last *task.Task
		err := f.watch(t.Context(), ref, task.WatchOptions{Progress: true}, func(now *task.Task) {
			last = now
			once.Do(func() { f.remove(ref) })
		})
		// Temporal terminates what it deletes, and a look may come in between.
		if err == nil && last.Status == task.StatusCancelled {
			return
		}
		wantError(t, err, task.ErrNotFound)
	})

	t.Run("ends with an error when the engine is closed", func(t *testing.T) {
		f := setup(t)
		ref := f.create()
		var closing sync.WaitGroup
		err := f.watch(t.Context(), ref, task.WatchOptions{}, func(*task.Task) { closing.Go(f.Close) })
		wantError(t, err, task.ErrUnavailable)
		closing.Wait()
	})
}

func TestWatchFollowsContinueAsNew(t *testing.T) {
	f := setup(t)
	const runs = 4
	w := worker.New(f.client, f.queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in task.StartInput) (*task.Outcome, error) {
		if in.Resume == nil {
			in.Resume = task.NewMachine(in.Card.CreatedAt)
		}
		m := in.Resume
		var s task.InputSignal
		workflow.GetSignalChannel(ctx, task.SignalInput).Receive(ctx, &s)
		m.State.Rev++
		if m.State.Rev == runs {
			m.Decide(workflow.Now(ctx), task.ResultOutcome(nil, false))
		}
		if err := workflow.UpsertMemo(ctx, map[string]any{task.MemoState: m.State}); err != nil {
			return nil, err
		}
		if m.Outcome != nil {
			return m.Outcome, nil
		}
		return nil, workflow.NewContinueAsNewError(ctx, task.WorkflowTask, in)
	}, workflow.RegisterOptions{Name: task.WorkflowTask})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ref := f.create()
	var last *task.Task
	err := f.watch(t.Context(), ref, task.WatchOptions{}, func(now *task.Task) {
		last = now
		if !terminal(now) {
			if err := f.Answer(t.Context(), ref, answers("k")); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || !terminal(last) {
		t.Errorf("ended at %+v, %v", last, err)
	}
}

func TestWatchSitsOutAnOutage(t *testing.T) {
	l := newLink(t)
	f := setupAt(t, l.addr())
	direct := setup(t)
	direct.work(askOnce)
	ref := f.create()
	err := f.watch(t.Context(), ref, task.WatchOptions{}, func(now *task.Task) {
		if !inputRequired(now) {
			return
		}
		l.cut()
		if _, err := f.Get(t.Context(), ref); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if err := direct.Answer(t.Context(), ref, answers("confirm")); err != nil {
			t.Error(err)
		}
		direct.await(ref, terminal)
		l.mend()
	})
	if err != nil {
		t.Error(err)
	}
	if got := direct.get(ref); got.Status != task.StatusCompleted {
		t.Errorf("got %+v", got)
	}
}

// remove deletes a task behind the engine's back, running as it is.
func (f *fixture) remove(ref task.Ref) {
	f.t.Helper()
	_, err := f.client.WorkflowService().DeleteWorkflowExecution(f.t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace:         client.DefaultNamespace,
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: ref.ID},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// A call that is over at once costs two requests: its start, and one poll for
// its end. (One that a slow machine keeps longer costs more.)
func TestQuickCallIsTwoRequests(t *testing.T) {
	f := setup(t)
	f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) { return done("ok"), nil })
	var ref task.Ref
	var last *task.Task
	eventually(t, "a call with two requests", func() bool {
		before := f.polls.requests()
		ref = f.create()
		if err := f.watch(t.Context(), ref, task.WatchOptions{}, func(now *task.Task) { last = now }); err != nil {
			t.Fatal(err)
		}
		return f.polls.requests()-before == 2
	})
	if last.Outcome == nil || string(last.Outcome.Result) != string(done("ok").Result) {
		t.Errorf("ended at %s", asJSON(last))
	}
	wantAsRead(t, ref, last)
}

// A call that outlasts the time for which its end alone is waited for costs
// three polls more: what there is by then, what ends its round, and its end. That
// it is as it was created, nobody has to read.
func TestLongerCallIsNotRead(t *testing.T) {
	f := setup(t)
	ends := make(chan struct{})
	f.work(endOn(ends))
	var described atomic.Int64
	followed := make(chan struct{}, 1)
	watching := f.behind(t, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if strings.HasSuffix(method, "/DescribeWorkflowExecution") {
			described.Add(1)
		}
		if poll, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok && poll.GetNextPageToken() != nil {
			select {
			case followed <- struct{}{}:
			default:
			}
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
	var ref task.Ref
	var last *task.Task
	// Where a slow machine lets it become old before it is watched, it is read.
	eventually(t, "a call that is not read", func() bool {
		described.Store(0)
		created, err := watching.Create(t.Context(), request())
		if err != nil {
			t.Fatal(err)
		}
		ref = task.Ref{ID: created.ID, Owner: owner}
		var watched sync.WaitGroup
		watched.Go(func() { last = watchToEnd(t, watching, ref) })
		<-followed
		ends <- struct{}{}
		watched.Wait()
		select {
		case <-followed: // of a poll that came after that
		default:
		}
		return described.Load() == 0
	})
	wantAsRead(t, ref, last)
}

// What the end of a watched task is follows from its last state and the event
// that closes it.
func TestEndOfWatchedTaskIsNotRead(t *testing.T) {
	f := setup(t)
	ends := make(chan struct{})
	f.work(endOn(ends))
	var described atomic.Int64
	watching := f.behind(t, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if strings.HasSuffix(method, "/DescribeWorkflowExecution") {
			described.Add(1)
		}
		return err
	})
	var ref task.Ref
	var last *task.Task
	// Where the end comes while the watch begins, or is looked at for progress,
	// it is read after all.
	eventually(t, "an end that is not read", func() bool {
		ref = f.create()
		described.Store(0)
		var watched sync.WaitGroup
		watched.Go(func() { last = watchToEnd(t, watching, ref) })
		eventually(t, "the watch has begun", func() bool { return described.Load() == 2 })
		ends <- struct{}{}
		watched.Wait()
		return described.Load() == 2
	})
	wantAsRead(t, ref, last)
}

// Between the last round of a task and its end Temporal adds events that tell
// nothing, and nobody asks for them. What happens between two rounds is told.
func TestOnlyTheEndIsWaitedForAfterTheLastRound(t *testing.T) {
	f := setup(t)
	f.work(askOnce)
	const all = 2
	var mu sync.Mutex
	var rounds int // that polls have found to be over
	var alone bool // a poll has found the end of the last one without the task's
	watching := f.behind(t, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		poll, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest)
		if !ok || !poll.GetWaitNewEvent() {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		filter := poll.GetHistoryEventFilterType()
		mu.Lock()
		if rounds == all && filter != enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT {
			t.Errorf("a poll for %s after the last round", filter)
		}
		mu.Unlock()
		if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		events := reply.(*workflowservice.GetWorkflowExecutionHistoryResponse).GetHistory().GetEvents()
		for _, event := range events {
			if event.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED {
				rounds++
			}
		}
		if rounds == all && len(events) > 0 && events[len(events)-1].GetEventType() != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED {
			alone = true
		}
		return nil
	})
	// Where the two come in one poll, there is nothing between them.
	eventually(t, "the end of the last round without the task's", func() bool {
		mu.Lock()
		rounds = 0
		mu.Unlock()
		ref := f.create()
		for now, err := range watching.Watch(t.Context(), ref, task.WatchOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if !inputRequired(now) {
				continue
			}
			if err := f.Answer(t.Context(), ref, answers("confirm")); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		return alone
	})
}

// Whoever comes to a task that somebody was told the end of is not shown it as it
// was created, however soon that is.
func TestWatchBeginsWithTheEnd(t *testing.T) {
	begins := func(f *fixture, ref task.Ref, with task.Status) {
		t.Helper()
		for now, err := range f.Watch(t.Context(), ref, task.WatchOptions{}) {
			if err != nil || now.Status != with {
				t.Errorf("begins with %+v, error %v; the task is %s", now, err, with)
			}
			return
		}
	}
	t.Run("that a watch told", func(t *testing.T) {
		f := setup(t)
		f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) { return done("ok"), nil })
		for range 20 { // now and then one outlasts the time that matters here
			ref := f.create()
			watchToEnd(t, f.Engine, ref)
			begins(f, ref, task.StatusCompleted)
		}
	})
	t.Run("that a cancel returned", func(t *testing.T) {
		f := setup(t)
		f.work(func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
			<-ctx.Done()
			return task.RoundResult{}, ctx.Err()
		})
		for range 5 {
			ref := f.create()
			if now, err := f.Cancel(t.Context(), ref, ""); err != nil || now.Status != task.StatusCancelled {
				t.Fatalf("got %+v, error %v", now, err)
			}
			begins(f, ref, task.StatusCancelled)
		}
	})
	t.Run("after a question that a read has shown", func(t *testing.T) {
		f := setup(t)
		f.work(askOnce)
		for range 5 {
			ref := f.create()
			var shown atomic.Int64
			ended := make(chan error, 1)
			go func() {
				ended <- f.watch(t.Context(), ref, task.WatchOptions{}, func(now *task.Task) {
					if terminal(now) && now.Rev <= shown.Load() {
						t.Errorf("revision %d was shown, and the end is %d", shown.Load(), now.Rev)
					}
				})
			}()
			asked := f.await(ref, inputRequired)
			shown.Store(asked.Rev)
			if err := f.Answer(t.Context(), ref, answers("confirm")); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			wantAsRead(t, ref, watchToEnd(t, f.Engine, ref))
		}
	})
}

// endOn is a round that ends when it is told to.
func endOn(ends <-chan struct{}) roundFunc {
	return func(context.Context, task.RoundInput) (task.RoundResult, error) {
		<-ends
		return done("ok"), nil
	}
}

// watchToEnd watches a task by an engine, and is the last state it was shown.
func watchToEnd(t *testing.T, e *engine.Engine, ref task.Ref) (last *task.Task) {
	t.Helper()
	for now, err := range e.Watch(t.Context(), ref, task.WatchOptions{}) {
		if err != nil {
			t.Error(err)
		}
		last = now
	}
	return last
}

// wantAsRead wants what a watch made of an end to be what everybody else reads.
func wantAsRead(t *testing.T, ref task.Ref, last *task.Task) {
	t.Helper()
	read, err := setup(t).GetOutcome(t.Context(), ref)
	if err != nil || asJSON(read) != asJSON(last) {
		t.Errorf("read %s, %v; watched %s", asJSON(read), err, asJSON(last))
	}
}

// reportEach is a round that reports each step, and ends with them.
func (f *fixture) reportEach(steps <-chan float64) func(context.Context, task.RoundInput) (task.RoundResult, error) {
	return func(ctx context.Context, _ task.RoundInput) (task.RoundResult, error) {
		token := activity.GetInfo(ctx).TaskToken
		for p := range steps {
			beat := task.Heartbeat{Progress: &task.Progress{Progress: p}}
			if err := f.client.RecordActivityHeartbeat(ctx, token, beat); err != nil {
				f.t.Error(err)
			}
		}
		return done("ok"), nil
	}
}
