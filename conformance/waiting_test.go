package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	temporal "go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// A thousand tasks that wait for people cost no activity, goroutine or
// connection, and none of them is lost. A worker's cache of workflows, which
// does hold goroutines, is a small one here: see [runTests].
func TestThousandWaiting(t *testing.T) {
	const each, atOnce = 500, 32
	p := startDev(t, signOptions())
	describer, err := temporal.DialContext(t.Context(), temporal.Options{HostPort: p.TemporalAddr})
	if err != nil {
		t.Fatal(err)
	}
	defer describer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute) // one does where nothing else runs
	defer cancel()
	c := connect2026(t, p.MCPURL).(client2026)

	// forEach fails the test with the first error.
	forEach := func(tasks []waiting, what string, f func(ctx context.Context, w *waiting) error) {
		t.Helper()
		begin := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i := range tasks {
			g.Go(func() error { return f(ctx, &tasks[i]) })
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%d tasks %s in %.1f s", len(tasks), what, time.Since(begin).Seconds())
	}
	create := func(ctx context.Context, w *waiting) (err error) {
		for {
			if w.id, err = c.createOnce(w.call, w.tool, object{}); ctx.Err() != nil || !taskclient.IsPassing(err) {
				return err
			}
		}
	}
	ask := func(ctx context.Context, w *waiting) error {
		return w.await(ctx, c, func(s waitingState) bool { return len(s.InputRequests) == 1 })
	}
	answer := func(ctx context.Context, w *waiting) error {
		return w.answer(ctx, c)
	}
	end := func(ctx context.Context, w *waiting) error {
		return w.await(ctx, c, func(s waitingState) bool {
			return s.Status == "completed" && s.Result.text() == fmt.Sprintf(`{"outcome":"signed by %s"}`, w.id)
		})
	}

	// What is made once and for all is made by the first.
	few := newWaiting("few", atOnce)
	forEach(few, "created", create)
	forEach(few, "asked", ask)
	forEach(few, "answered", answer)
	forEach(few, "ended", end)
	before := measure(t)

	tasks := newWaiting("many", each)
	forEach(tasks, "created", create)
	forEach(tasks, "asked", ask)
	awaitFootprint(t, before)
	forEach(tasks, "described", func(ctx context.Context, w *waiting) error {
		d, err := describer.DescribeWorkflowExecution(ctx, w.id, "")
		if err == nil && (len(d.GetPendingActivities()) > 0 || len(d.GetPendingChildren()) > 0) {
			err = fmt.Errorf("%s has activities: %v", w.id, d)
		}
		return err
	})
	forEach(tasks, "answered", answer)
	forEach(tasks, "ended", end)
}

// waiting is a task that waits for input.
type waiting struct {
	call string // the idempotency key
	tool string
	id   string
	key  string // of the request
}

// newWaiting are tasks to be made, n by rounds and n by a workflow.
func newWaiting(name string, n int) []waiting {
	tasks := make([]waiting, 0, 2*n)
	for i := range n {
		for _, tool := range []string{signByRounds, signByWorkflow} {
			tasks = append(tasks, waiting{call: fmt.Sprint(name, i, tool), tool: tool})
		}
	}
	return tasks
}

type waitingState struct {
	taskState
	PollIntervalMs int
	InputRequests  inputRequests
	Result         toolResult
}

// await polls the task, as often as it says, until it is as wanted.
func (w *waiting) await(ctx context.Context, c client2026, is func(waitingState) bool) error {
	for {
		raw, err := w.request(ctx, c, "tasks/get", object{"taskId": w.id})
		if err != nil {
			return err
		}
		var s waitingState
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		for key := range s.InputRequests {
			w.key = key
		}
		if is(s) {
			return nil
		}
		select {
		case <-time.After(time.Duration(s.PollIntervalMs) * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is %s", ctx.Err(), w.id, raw)
		}
	}
}

// answer signs with the task's id.
func (w *waiting) answer(ctx context.Context, c client2026) error {
	_, err := w.request(ctx, c, "tasks/update", object{
		"taskId": w.id, "inputResponses": object{w.key: accepted("name", w.id)},
	})
	return err
}

// request is made again while that helps.
func (w *waiting) request(ctx context.Context, c client2026, method string, params object) (json.RawMessage, error) {
	for {
		raw, err := c.tryRequest(method, w.id, params, object{})
		if ctx.Err() != nil || !taskclient.IsPassing(err) {
			return raw, err
		}
	}
}

// footprint is what a process holds.
type footprint struct {
	files      int // connections are among them
	goroutines int
	ours       int // goroutines that Longhaul's code is in
}

func measure(t *testing.T) footprint {
	t.Helper()
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	f := footprint{files: len(files)}
	for stack := range strings.SplitSeq(stacks(t), "\n\n") {
		f.goroutines++
		if strings.Contains(stack, "github.com/longhaul-mcp/longhaul") {
			f.ours++
		}
	}
	return f
}

func stacks(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// awaitFootprint waits until the process holds hardly more than before. The
// pollers of Temporal's worker, each of them a few goroutines and all with the
// server in this process, become more and fewer with the load.
func awaitFootprint(t *testing.T, before footprint) {
	t.Helper()
	const more, morePollers = 20, 250
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now := measure(t)
		if now.files <= before.files+more && now.ours <= before.ours+more && now.goroutines <= before.goroutines+morePollers {
			t.Logf("it held %+v, and now %+v", before, now)
			return
		}
		select {
		case <-tick.C:
		case <-tooLong.C:
			t.Fatalf("it held %+v, and now %+v\n%s", before, now, stacks(t))
		}
	}
}
