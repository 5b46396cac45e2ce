package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// A tools/call gets one of three replies, depending on what the client
// understands and what the tool's task support allows:
//
//	client                          forbidden   optional             required
//	2026 with the tasks extension   held        a task, or at once   a task
//	                                            what ends at once
//	2026 without it                 held        held                 -32021
//	2025-11-25 with params.task     -32601      a task               a task
//	any 2025 without                held        held                 -32601
//
// A held call (held.go) is a workflow too, but its caller waits for the result
// and no tasks/* method knows it.

// toolCall is a tools/call that has been read and checked.
type toolCall struct {
	tool      task.Tool
	arguments json.RawMessage // an object
	// digest stands for tool and arguments in sealed state.
	digest string
	// invalid says why the arguments do not fit the tool's schema, if they do not.
	invalid        string
	idempotencyKey string
	progressToken  json.RawMessage
}

// maxIdempotencyKey bounds idempotency keys, in bytes.
const maxIdempotencyKey = 256

// readCall reads a tools/call and checks everything about it but its task
// support (server/tools, "Error Handling").
func (a *API) readCall(x *exchange) (*toolCall, error) {
	name, err := x.msg.str("name")
	if err != nil {
		return nil, err
	}
	c := &toolCall{arguments: json.RawMessage("{}")}
	if raw := x.msg.params.get("arguments"); raw != nil {
		if raw[0] != '{' {
			return nil, invalidParams("Invalid params: arguments must be an object")
		}
		c.arguments = raw
	}
	if raw := x.msg.meta.get(task.MetaIdempotencyKey); raw != nil {
		if c.idempotencyKey, err = jsonString(raw); err != nil || c.idempotencyKey == "" || len(c.idempotencyKey) > maxIdempotencyKey {
			return nil, invalidParams("Invalid params: _meta %s must be a string of 1 to %d bytes", task.MetaIdempotencyKey, maxIdempotencyKey)
		}
	}
	if raw := x.msg.meta.get("progressToken"); raw != nil {
		if !isRequestID(raw) {
			return nil, invalidParams("Invalid params: _meta progressToken must be a string or an integer")
		}
		c.progressToken = raw
	}
	var ok bool
	if c.tool, ok = a.catalogue.Lookup(name); !ok {
		return nil, invalidParams("Unknown tool: %s", name)
	}
	schema, err := a.schemas.of(c.tool)
	if err != nil {
		return nil, err
	}
	if x.session == nil {
		if err := checkParamHeaders(x.r.Header, schema.headers, c.arguments); err != nil {
			return nil, err
		}
	}
	if err := schema.check(c.arguments); err != nil {
		c.invalid = err.Error()
	}
	c.digest, err = digest(name, c.arguments)
	return c, err
}

// digest is the same for the same call however its arguments are spelled.
func digest(name string, arguments json.RawMessage) (string, error) {
	canonical, err := task.CanonicalJSON(arguments)
	if err != nil {
		return "", invalidParams("Invalid params: arguments: %v", err)
	}
	call, err := json.Marshal([]any{name, canonical})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(call)
	return base64.RawURLEncoding.EncodeToString(sum[:16]), nil
}

// create starts the call's workflow. It does not end with the request: whether
// a start that was broken off took place nobody could tell.
func (a *API) create(ctx context.Context, x *exchange, c *toolCall, ttl time.Duration, heldID string) (*task.Task, error) {
	r := task.CreateRequest{
		Owner:          x.owner,
		Tool:           c.tool.Name,
		Arguments:      c.arguments,
		TTL:            ttl,
		IdempotencyKey: c.idempotencyKey,
		HeldID:         heldID,
		Capabilities:   x.capabilities,
		Policy:         c.tool.Policy,
		Workflow:       c.tool.Workflow,
	}
	if x.session != nil && heldID == "" {
		r.Session = a.sessionName(x.session)
	}
	if c.invalid != "" {
		r.Decided = task.ResultOutcome(isErrorResult(c.invalid), true)
	}
	t, err := a.tasks.Create(context.WithoutCancel(ctx), r)
	if err != nil {
		return nil, c.maybeStarted(err)
	}
	return t, nil
}

// maybeStarted is err for who waits for the reply to the call.
func (c *toolCall) maybeStarted(err error) error {
	if c.idempotencyKey == "" && errors.Is(err, task.ErrUnavailable) {
		return fmt.Errorf("%w: %w", errMaybeStarted, err)
	}
	return err
}

// callModern answers tools/call on 2026.
func (a *API) callModern(ctx context.Context, x *exchange) (any, error) {
	c, err := a.readCall(x)
	if err != nil {
		return nil, err
	}
	retry := x.msg.params.get("requestState") != nil
	if responses, err := inputResponses(x.msg); err != nil {
		return nil, err
	} else if responses != nil && !retry {
		return nil, invalidParams("Invalid params: inputResponses without requestState")
	}
	withTasks := x.declares(tasksExtension)
	switch {
	case c.tool.Support == task.SupportRequired && !withTasks:
		return nil, missingTasksExtension()
	case retry:
		return a.resume(ctx, x, c)
	case c.invalid != "" && c.tool.Support != task.SupportRequired:
		return x.wire.result(isErrorResult(c.invalid)), nil
	case c.tool.Support == task.SupportForbidden || !withTasks:
		return a.holdModern(ctx, x, c)
	default:
		return a.taskModern(ctx, x, c)
	}
}

// taskModern makes the call a task. A tool that asks before its task is
// created is heard first; one whose task is optional may also end at once.
func (a *API) taskModern(ctx context.Context, x *exchange, c *toolCall) (any, error) {
	t, err := a.create(ctx, x, c, a.opts.TTL, "")
	if err != nil {
		return nil, err
	}
	ref := task.Ref{ID: t.ID, Owner: x.owner}
	if ctx.Err() != nil {
		a.abandon(ctx, c, ref)
		return nil, errNoReply
	}
	if c.tool.Input == task.InputBeforeTask {
		return a.firstRound(ctx, x, c, newCallState(t, false, x, c), a.beforeTask)
	}
	if c.tool.Support == task.SupportRequired {
		return x.wire.created(t), nil
	}
	window, cancel := context.WithTimeout(ctx, a.opts.InlineWindow)
	defer cancel()
	var outcome *task.Outcome // in full, which that of an existing task is not
	for next, err := range a.tasks.Watch(window, ref, task.WatchOptions{}) {
		if err != nil {
			break // the task exists: its handle is a good answer
		}
		t, outcome = next, next.Outcome
		if t.Status != task.StatusWorking {
			break
		}
	}
	if ctx.Err() != nil {
		a.abandon(ctx, c, ref)
		return nil, errNoReply
	}
	if outcome != nil && outcome.Kind == task.OutcomeResult {
		return x.wire.result(outcome.Result), nil
	}
	return x.wire.created(t), nil
}

// callLegacy answers tools/call on 2025.
func (a *API) callLegacy(ctx context.Context, x *exchange) (any, error) {
	c, err := a.readCall(x)
	if err != nil {
		return nil, err
	}
	// Revisions without tasks ignore the metadata ("Task Support and Handling").
	if raw := x.msg.params.get("task"); raw != nil && x.version == version20251125 {
		if c.tool.Support == task.SupportForbidden {
			return nil, rpcErrorf(codeMethodNotFound, "Tool %s cannot be called as a task", c.tool.Name)
		}
		ttl, err := a.requestedTTL(raw)
		if err != nil {
			return nil, err
		}
		t, err := a.create(ctx, x, c, ttl, "")
		if err != nil {
			return nil, err
		}
		a.tokens.put(t.ID, x.session, c.progressToken)
		a.gets.created(x.session.ID, t)
		return x.wire.created(t), nil
	}
	switch {
	case c.tool.Support == task.SupportRequired:
		return nil, rpcErrorf(codeMethodNotFound, "Tool %s must be called as a task", c.tool.Name)
	case c.invalid != "":
		return isErrorResult(c.invalid), nil
	default:
		return a.holdLegacy(ctx, x, c)
	}
}

// requestedTTL is what params.task asks for, brought within the bounds. null
// asks for no limit, and gets the longest there is.
func (a *API) requestedTTL(raw json.RawMessage) (time.Duration, error) {
	params, err := readObject(raw, true)
	if err != nil {
		return 0, invalidParams("Invalid params: task: %v", err)
	}
	ttl := params.get("ttl")
	switch {
	case ttl == nil:
		return a.opts.TTL, nil
	case string(ttl) == "null":
		return a.opts.MaxTTL, nil
	}
	var ms float64
	if err := json.Unmarshal(ttl, &ms); err != nil || ms < 0 {
		return 0, invalidParams("Invalid params: task.ttl must be a number of milliseconds")
	}
	return clampTTL(ms, a.opts.MinTTL, a.opts.MaxTTL), nil
}

func clampTTL(ms float64, lo, hi time.Duration) time.Duration {
	if ms >= float64(hi.Milliseconds()) {
		return hi
	}
	return max(lo, time.Duration(ms)*time.Millisecond)
}

// unanswered are the inputs whose keys are not among answered.
func unanswered(inputs []task.InputRequest, answered map[string]json.RawMessage) []task.InputRequest {
	return slices.DeleteFunc(slices.Clone(inputs), func(in task.InputRequest) bool {
		_, ok := answered[in.Key]
		return ok
	})
}
