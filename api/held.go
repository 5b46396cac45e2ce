package api

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/longhaul-mcp/longhaul/task"
)

// holdLegacy answers a plain 2025 tools/call: its stream carries progress and
// the tool's requests until the result. The workflow is named after session
// and request id, so that a notifications/cancelled finds it from any process.
// A disconnect does not cancel it ("Disconnection SHOULD NOT be interpreted as
// the client cancelling its request").
func (a *API) holdLegacy(ctx context.Context, x *exchange, c *toolCall) (any, error) {
	t, err := a.startHeld(ctx, x, c, a.heldID(x.session, x.msg.id))
	if err != nil {
		return nil, err
	}
	ref := task.Ref{ID: t.ID, Owner: x.owner, Held: true}
	t, err = a.attend(ctx, x, ref, c.progressToken)
	if err != nil {
		return nil, c.maybeStarted(err)
	}
	return outcomeReply(x.wire, t.Outcome)
}

// startHeld starts a held call under id. With an idempotency key it is named
// after owner and key instead, and goes on with what was started before.
func (a *API) startHeld(ctx context.Context, x *exchange, c *toolCall, id string) (*task.Task, error) {
	if c.idempotencyKey != "" {
		id = "call-" + a.heldIDs.name("key", x.owner.Hash(), c.idempotencyKey)
	}
	return a.create(ctx, x, c, a.opts.TTL, id)
}

// heldID names the held call of a 2025 request.
func (a *API) heldID(s *session, requestID json.RawMessage) string {
	return "call-" + a.heldIDs.name("request", s.ID, typedID(requestID))
}

// sessionName is what a task keeps of the session that created it.
func (a *API) sessionName(s *session) string { return a.heldIDs.name("session", s.ID) }

func isTerminal(err error) bool { return errors.Is(err, task.ErrTerminal) }

// update is a state a watch delivered, or why it ended.
type update struct {
	task *task.Task
	err  error
}

// follow watches in a goroutine of its own, which ends with ctx. The channel
// is closed after the last state.
func (a *API) follow(ctx context.Context, ref task.Ref, o task.WatchOptions) <-chan update {
	states := make(chan update)
	go func() {
		defer close(states)
		for t, err := range a.tasks.Watch(ctx, ref, o) {
			select {
			case states <- update{t, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return states
}

// progressReporter sends notifications/progress for a request that gave a
// token. "The progress value MUST increase with each notification", whatever
// tool and retries report.
type progressReporter struct {
	token json.RawMessage
	sent  bool
	last  float64
}

func (p *progressReporter) send(x *exchange, t *task.Task) error {
	if p.token == nil || t.Progress == nil || p.sent && t.Progress.Progress <= p.last {
		return nil
	}
	p.sent, p.last = true, t.Progress.Progress
	params := map[string]any{"progressToken": p.token, "progress": t.Progress.Progress}
	if t.Progress.Total > 0 {
		params["total"] = t.Progress.Total
	}
	if t.Progress.Message != "" {
		params["message"] = t.Progress.Message
	}
	return x.open().send(outgoing{JSONRPC: "2.0", Method: "notifications/progress", Params: params})
}

// maxTokens bounds the tasks whose progress token is remembered.
const maxTokens = 4096

// progressTokens remembers the progress tokens of task-augmented calls, which
// stay valid "throughout the task's lifetime" (2025-11-25, tasks, "Task
// Progress Notifications"). It is a memory of this process for its newest
// tasks: progress is a courtesy, and statusMessage has it too.
type progressTokens struct {
	mu     sync.Mutex
	byTask map[string]sessionToken
	order  []string // task IDs, the oldest first
}

type sessionToken struct {
	session string
	token   json.RawMessage
}

func (p *progressTokens) put(taskID string, s *session, token json.RawMessage) {
	if token == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byTask == nil {
		p.byTask = make(map[string]sessionToken)
	}
	if _, ok := p.byTask[taskID]; !ok {
		p.order = append(p.order, taskID)
	}
	p.byTask[taskID] = sessionToken{s.ID, token}
	if len(p.order) > maxTokens {
		delete(p.byTask, p.order[0])
		p.order = p.order[1:]
	}
}

// get is the token that s gave for the task, or nil.
func (p *progressTokens) get(taskID string, s *session) json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.byTask[taskID]; ok && t.session == s.ID {
		return t.token
	}
	return nil
}
