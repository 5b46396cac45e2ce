package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// A call held for a 2026 client goes by rounds (patterns/mrtr): when the tool
// asks, or when the client might soon give up waiting, the reply is
// input_required with a requestState, and the client calls again with it.
// Nothing is remembered in between but the workflow and the state, which is
// sealed over everything that is checked when it comes back: whose call it is,
// of what, and until when.
//
// The client that goes away cancels its call ("Cancellation": closing the
// stream MUST be treated so), unless it gave an idempotency key, by which it
// finds the call again.
//
// The same rounds serve a tool that asks before its task is created
// (ext-tasks, "Task Creation"): the state then names the task.

// defaultMaxWait is how long one round waits: clients give up after 60 s.
const defaultMaxWait = 50 * time.Second

// callState is what requestState seals.
type callState struct {
	// ID is the workflow of the call, Held whether it is a held one.
	ID        string    `json:"i"`
	Held      bool      `json:"h,omitempty"`
	OwnerHash string    `json:"o"`
	Digest    string    `json:"d"`
	Round     int       `json:"r"`
	Expiry    time.Time `json:"e"`
}

// inputRequired is the InputRequiredResult.
type inputRequired struct {
	ResultType    string                     `json:"resultType"`
	InputRequests inputRequests              `json:"inputRequests,omitempty"`
	RequestState  string                     `json:"requestState"`
	Meta          map[string]json.RawMessage `json:"_meta"`
}

func (a *API) askAgain(s callState, inputs []task.InputRequest) (any, error) {
	s.Round++
	sealed, err := a.states.seal(s)
	if err != nil {
		return nil, err
	}
	return inputRequired{
		ResultType:    "input_required",
		InputRequests: wordInputs(inputs),
		RequestState:  sealed,
		Meta:          a.modern.meta(),
	}, nil
}

// holdModern starts a held call.
func (a *API) holdModern(ctx context.Context, x *exchange, c *toolCall) (any, error) {
	t, err := a.startHeld(ctx, x, c, "call-"+rand.Text())
	if err != nil {
		return nil, err
	}
	return a.waitHeld(ctx, x, c, callState{
		ID: t.ID, Held: true, OwnerHash: x.owner.Hash(), Digest: c.digest, Expiry: t.ExpiresAt(),
	}, nil)
}

// resume goes on with the call that requestState names.
func (a *API) resume(ctx context.Context, x *exchange, c *toolCall) (any, error) {
	sealed, err := x.msg.str("requestState")
	if err != nil {
		return nil, err
	}
	// "Servers MUST reject state that fails verification", and say no more.
	var s callState
	if a.states.open(sealed, &s) != nil || s.OwnerHash != x.owner.Hash() || s.Digest != c.digest || time.Now().After(s.Expiry) {
		return nil, invalidParams("Invalid params: requestState is not valid for this request")
	}
	responses, err := inputResponses(x.msg)
	if err != nil {
		return nil, err
	}
	ref := task.Ref{ID: s.ID, Owner: x.owner, Held: s.Held}
	if len(responses) > 0 {
		// A call that ended meanwhile has its result all the same.
		if err := a.tasks.Answer(ctx, ref, responses); err != nil && !isTerminal(err) {
			return nil, err
		}
	}
	if s.Held {
		return a.waitHeld(ctx, x, c, s, responses)
	}
	if !x.declares(tasksExtension) {
		return nil, missingTasksExtension() // the reply would be a task
	}
	return a.beforeTask(ctx, x, c, ref, responses)
}

// waitHeld waits for a held call to end, to ask, or for long enough.
func (a *API) waitHeld(ctx context.Context, x *exchange, c *toolCall, s callState, answered map[string]json.RawMessage) (any, error) {
	ref := task.Ref{ID: s.ID, Owner: x.owner, Held: true}
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	states := a.follow(watchCtx, ref, task.WatchOptions{Progress: c.progressToken != nil})
	patience := time.NewTimer(a.maxWait)
	defer patience.Stop()
	report := progressReporter{token: c.progressToken}
	for {
		select {
		case u, ok := <-states:
			switch {
			case !ok || ctx.Err() != nil:
				a.abandon(ctx, c, ref)
				return nil, errNoReply
			case u.err != nil:
				return nil, u.err
			case u.task.Status.Terminal():
				return outcomeReply(x.wire, u.task.Outcome)
			case u.task.Status == task.StatusInputRequired:
				if open := unanswered(u.task.Inputs, answered); len(open) > 0 {
					return a.askAgain(s, open)
				}
			}
			if err := report.send(x, u.task); err != nil {
				a.abandon(ctx, c, ref)
				return nil, errNoReply
			}
		case <-patience.C:
			return a.askAgain(s, nil)
		case <-a.closing:
			return a.askAgain(s, nil) // whoever serves next knows the state
		case <-ctx.Done():
			a.abandon(ctx, c, ref)
			return nil, errNoReply
		}
	}
}

// firstAsk is how many inline windows a tool that asks before its task is
// waited for while it works: it is known to ask, so a little longer.
const firstAsk = 10

// beforeTask hears a tool out that asks before its task is created. Behind the
// scenes the task exists already; the client gets to know it as soon as a
// round does not ask.
func (a *API) beforeTask(ctx context.Context, x *exchange, c *toolCall, ref task.Ref, answered map[string]json.RawMessage) (any, error) {
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	states := a.follow(watchCtx, ref, task.WatchOptions{})
	patience := time.NewTimer(firstAsk * a.opts.InlineWindow)
	defer patience.Stop()
	var last *task.Task
	for {
		select {
		case u, ok := <-states:
			switch {
			case !ok || ctx.Err() != nil:
				a.abandon(ctx, c, ref)
				return nil, errNoReply
			case u.err != nil:
				return nil, u.err
			case u.task.Status.Terminal():
				return x.wire.created(u.task), nil
			case u.task.Status == task.StatusInputRequired:
				if open := unanswered(u.task.Inputs, answered); len(open) > 0 {
					return a.askAgain(callState{
						ID: ref.ID, OwnerHash: x.owner.Hash(), Digest: c.digest, Expiry: u.task.ExpiresAt(),
					}, open)
				}
			}
			last = u.task
		case <-patience.C:
			if last == nil {
				var err error
				if last, err = a.tasks.Get(ctx, ref); err != nil {
					return nil, err
				}
			}
			return x.wire.created(last), nil
		case <-ctx.Done():
			a.abandon(ctx, c, ref)
			return nil, errNoReply
		}
	}
}

// abandonTimeout bounds the cancel of a call whose client went away.
const abandonTimeout = 10 * time.Second

// abandon cancels the call of a client that went away without a way back.
func (a *API) abandon(ctx context.Context, c *toolCall, ref task.Ref) {
	if c.idempotencyKey != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	if err := a.tasks.RequestCancel(ctx, ref, "The caller went away."); err != nil {
		a.log.Warn("cancel of an abandoned call failed", "task_id", ref.ID, "tool", c.tool.Name, "error", err)
	}
}
