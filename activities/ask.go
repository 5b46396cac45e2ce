package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/task"
)

// askTimeout bounds one wait for an answer; the next one waits for the same.
const askTimeout = time.Minute

// asker puts the requests that a tool makes while its round runs to the task's
// owner, and holds the round meanwhile.
//
// A request is an update of the task's workflow, and its key is the update's
// ID: should this worker be lost, the attempt that runs the round again asks
// under the same key, and whoever answered is not asked a second time. That is
// also why a request stays until its round ends, even if the tool no longer
// waits for the answer: from here that looks the same as a tool that was lost.
//
// An attempt that does not begin at the beginning, but at a checkpoint or with a
// task of the upstream's, does not ask again what had been answered by then. What
// it asks is new, though it may be in the same words.
type asker struct {
	temporal Reporter
	workflow string
	round    int
	beat     *beat
	limit    *limit

	mu   sync.Mutex
	open map[string]bool // the keys of requests that are under way
}

// begin names a request within the task: by round, by content, and by the
// upstream's own key. Without one, a tool that asks the same more than once is
// told apart by how often it has, and goes on to wait for what it had asked
// before and has not come to. A tool may ask for several things at the same time,
// so their order says nothing.
func (a *asker) begin(in task.InputRequest) (key string, end func()) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", in.Method)
	params := in.Params
	if canonical, err := task.CanonicalJSON(params); err == nil {
		params = canonical
	}
	h.Write(params)
	if in.Key != "" {
		fmt.Fprintf(h, "\n%s", in.Key)
	}
	name := fmt.Sprintf("r%d-%s", a.round, hex.EncodeToString(h.Sum(nil)[:8]))
	if in.Key != "" {
		return name, func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := 1; ; n++ {
		key = fmt.Sprintf("%s-%d", name, n)
		if !a.open[key] && !a.beat.wasAnswered(key) {
			break
		}
	}
	if a.open == nil {
		a.open = make(map[string]bool)
	}
	a.open[key] = true
	return key, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.open, key)
	}
}

// ask is [upstream.Call].Ask. It sits out any trouble with Temporal, as the
// round itself does.
func (a *asker) ask(ctx context.Context, request task.InputRequest) (json.RawMessage, error) {
	if n := len(request.Params); n > task.MaxInputsBytes {
		// The workflow would say so, too, but might not get to it: above 2 MiB
		// Temporal does not take what is asked.
		return nil, task.InputsTooLarge(n)
	}
	key, end := a.begin(request)
	defer end()
	request.Key = key
	in := task.AskInput{Round: a.round, Request: request}
	defer a.limit.pause()()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		answer, err := a.update(ctx, in)
		var rejected *temporal.ApplicationError
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil && answer.Error != nil:
			a.beat.answered(ctx, key) // to ask again later may succeed
			return nil, answer.Error
		case err == nil && !answer.Over:
			//failpoint:answer-taken
			a.beat.answered(ctx, key)
			return answer.Response, nil
		case err == nil, isGone(err), errors.As(err, &rejected):
			// The round is to end; its heartbeat will be told so.
			<-ctx.Done()
			return nil, ctx.Err()
		case errors.Is(err, errStillWaiting):
			wait = 50 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

var errStillWaiting = errors.New("there is no answer yet")

func (a *asker) update(ctx context.Context, in task.AskInput) (answer task.AskAnswer, err error) {
	pollCtx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	handle, err := a.temporal.UpdateWorkflow(pollCtx, client.UpdateWorkflowOptions{
		WorkflowID:   a.workflow,
		UpdateID:     in.Request.Key,
		UpdateName:   task.UpdateAsk,
		Args:         []any{in},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(pollCtx, &answer)
	}
	if err != nil && pollCtx.Err() != nil {
		err = errStillWaiting
	}
	return answer, err
}

// limit is the timeout of a tool. It does not run while a person is asked.
type limit struct {
	expire func()

	mu     sync.Mutex
	left   time.Duration
	since  time.Time // when it last began to run
	paused int
	timer  *time.Timer // nil while it is paused, and if there is no timeout
}

// newLimit calls expire after d, or never if d is 0.
func newLimit(d time.Duration, expire func()) *limit {
	l := &limit{expire: expire, left: d}
	l.run()
	return l
}

func (l *limit) run() {
	if l.left > 0 {
		l.since = time.Now()
		l.timer = time.AfterFunc(l.left, l.expire)
	}
}

// pause stops the clock until every returned func has been called.
func (l *limit) pause() (resume func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused++; l.paused == 1 && l.timer != nil && l.timer.Stop() {
		l.timer = nil
		l.left = max(l.left-time.Since(l.since), time.Millisecond)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.paused--; l.paused == 0 && l.timer == nil {
			l.run()
		}
	}
}

func (l *limit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = 0
	if l.timer != nil {
		l.timer.Stop()
	}
}
