package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
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

func newCallState(t *task.Task, held bool, x *exchange, c *toolCall) callState {
	return callState{ID: t.ID, Held: held, OwnerHash: x.owner.Hash(), Digest: c.digest, Expiry: t.ExpiresAt()}
}

func (s callState) ref(owner task.Owner) task.Ref {
	return task.Ref{ID: s.ID, Owner: owner, Held: s.Held}
}

// inputRequired is the InputRequiredResult.
type inputRequired struct {
	ResultType    string                     `json:"resultType"`
	InputRequests inputRequests              `json:"inputRequests,omitempty"`
	RequestState  string                     `json:"requestState"`
	Meta          map[string]json.RawMessage `json:"_meta"`
}

// askAgain asks the client for inputs, if any, and to call again. It may have
// declared less with this request than with the one that started the call, and
// "Servers MUST NOT" ask for what was not declared (patterns/mrtr, "Server
// Requirements").
func (a *API) askAgain(x *exchange, s callState, inputs []task.InputRequest) (any, error) {
	if missing := task.Undeclared(x.capabilities, inputs); missing != nil {
		return nil, missing
	}
	s.Round++
	sealed, err := a.states.seal(s)
	if err != nil {
		return nil, err
	}
	return inputRequired{
		ResultType:    "input_required",
		InputRequests: wordInputs(inputs),
		RequestState:  sealed,
		Meta:          a.modern.meta,
	}, nil
}

// holdModern starts a held call.
func (a *API) holdModern(ctx context.Context, x *exchange, c *toolCall) (any, error) {
	t, err := a.startHeld(ctx, x, c, "call-"+rand.Text())
	if err != nil {
		return nil, err
	}
	return a.firstRound(ctx, x, c, newCallState(t, true, x, c), a.waitHeld)
}

// round answers one request of a call that goes by rounds.
type round func(ctx context.Context, x *exchange, c *toolCall, s callState, answered map[string]json.RawMessage) (any, error)

// firstRound is the round of the request that started the call. If nothing can be
// heard of the call now, the reply is where to go on: told to try again, a client
// without an idempotency key would run the tool twice.
func (a *API) firstRound(ctx context.Context, x *exchange, c *toolCall, s callState, do round) (any, error) {
	reply, err := do(ctx, x, c, s, nil)
	if c.idempotencyKey == "" && errors.Is(err, task.ErrUnavailable) {
		a.logUntold(err, "tool", c.tool.Name, "owner", string(x.owner))
		return a.askAgain(x, s, nil)
	}
	return reply, err
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
	if len(responses) > 0 {
		// A call that ended meanwhile has its result all the same.
		if err := a.tasks.Answer(ctx, s.ref(x.owner), responses); err != nil && !isTerminal(err) {
			return nil, err
		}
	}
	if s.Held {
		return a.waitHeld(ctx, x, c, s, responses)
	}
	if !x.declares(tasksExtension) {
		return nil, missingTasksExtension() // the reply would be a task
	}
	return a.beforeTask(ctx, x, c, s, responses)
}

// waitHeld answers with how a held call ended or what it asks, or after a
// while with nothing but where to go on.
func (a *API) waitHeld(ctx context.Context, x *exchange, c *toolCall, s callState, answered map[string]json.RawMessage) (any, error) {
	t, asks, err := a.turn(ctx, x, c, s, answered, a.maxWait)
	switch {
	case err != nil:
		return nil, err
	case t != nil && t.Status.Terminal():
		return outcomeReply(x.wire, t.Outcome)
	default:
		return a.askAgain(x, s, asks)
	}
}

// firstAsk is how many inline windows a tool that asks before its task is
// waited for while it works: it is known to ask, so a little longer.
const firstAsk = 10

// beforeTask hears a tool out that asks before its task is created. Behind the
// scenes the task exists already; the client gets to know it as soon as a
// round does not ask.
func (a *API) beforeTask(ctx context.Context, x *exchange, c *toolCall, s callState, answered map[string]json.RawMessage) (any, error) {
	t, asks, err := a.turn(ctx, x, c, s, answered, firstAsk*a.opts.InlineWindow)
	if err == nil && t == nil {
		t, err = a.tasks.Get(ctx, s.ref(x.owner))
	}
	switch {
	case err != nil:
		return nil, err
	case len(asks) > 0:
		return a.askAgain(x, s, asks)
	default:
		return x.wire.created(t), nil
	}
}

// turn waits until the call has ended, asks for something that was not
// answered, or has gone on for long enough. It returns the newest state, if it
// has seen one, and what it asks for.
func (a *API) turn(ctx context.Context, x *exchange, c *toolCall, s callState, answered map[string]json.RawMessage, wait time.Duration) (t *task.Task, asks []task.InputRequest, err error) {
	ref := s.ref(x.owner)
	report := progressReporter{}
	if s.Held { // of a task, statusMessage tells
		report.token = c.progressToken
	}
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	states := a.follow(watchCtx, ref, task.WatchOptions{Progress: report.token != nil})
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		select {
		case u, ok := <-states:
			switch {
			case !ok || ctx.Err() != nil:
				a.abandon(ctx, c, ref)
				return nil, nil, errNoReply
			case u.err != nil:
				return nil, nil, u.err
			}
			t = u.task
			if asks = unanswered(t.Inputs, answered); len(asks) > 0 || t.Status.Terminal() {
				return t, asks, nil
			}
			if err := report.send(x, t); err != nil {
				a.abandon(ctx, c, ref)
				return nil, nil, errNoReply
			}
		case <-patience.C:
			return t, nil, nil
		case <-a.closing: // whoever serves next knows the call
			return t, nil, nil
		case <-ctx.Done():
			a.abandon(ctx, c, ref)
			return nil, nil, errNoReply
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
