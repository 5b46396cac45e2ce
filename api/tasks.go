package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/longhaul-mcp/longhaul/task"
)

// maxTaskID bounds what can be a task ID at all.
const maxTaskID = 256

// taskRef names the task a request is about, and who asks.
func taskRef(x *exchange) (task.Ref, error) {
	id, err := x.msg.str("taskId")
	if err != nil {
		return task.Ref{}, err
	}
	if !plausibleID(id) {
		return task.Ref{}, task.ErrNotFound
	}
	return task.Ref{ID: id, Owner: x.owner}, nil
}

func plausibleID(id string) bool {
	if id == "" || len(id) > maxTaskID {
		return false
	}
	for _, c := range []byte(id) {
		if c <= 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// tasksGet answers tasks/get, which never waits.
func (a *API) tasksGet(ctx context.Context, x *exchange) (any, error) {
	ref, err := taskRef(x)
	if err != nil {
		return nil, err
	}
	read := a.tasks.Get
	if x.session == nil {
		read = a.tasks.GetOutcome // 2026 inlines it
	}
	t, err := read(ctx, ref)
	if err != nil {
		return nil, err
	}
	return x.wire.detail(t), nil
}

// tasksUpdate answers tasks/update (ext-tasks, "Task Update Requests"). The
// acknowledgement says that the responses are recorded, not that the status
// shows them.
func (a *API) tasksUpdate(ctx context.Context, x *exchange) (any, error) {
	ref, err := taskRef(x)
	if err != nil {
		return nil, err
	}
	responses, err := inputResponses(x.msg)
	if err != nil {
		return nil, err
	}
	if responses == nil {
		return nil, invalidParams("Invalid params: missing inputResponses")
	}
	if len(responses) == 0 {
		_, err = a.tasks.Get(ctx, ref)
	} else {
		err = a.tasks.Answer(ctx, ref, responses)
	}
	if err != nil && !errors.Is(err, task.ErrTerminal) {
		return nil, err
	}
	return a.modern.ack(), nil
}

// inputResponses reads params.inputResponses, a map of objects (patterns/mrtr,
// "InputResponses"), or nil if there is none.
func inputResponses(m *message) (map[string]json.RawMessage, error) {
	raw := m.params.get("inputResponses")
	if raw == nil {
		return nil, nil
	}
	responses, err := readObject(raw, false)
	if err != nil {
		return nil, invalidParams("Invalid params: inputResponses: %v", err)
	}
	for _, response := range responses {
		if response.value[0] != '{' {
			return nil, invalidParams("Invalid params: inputResponses: the response to %q must be an object", response.key)
		}
	}
	return responses.byKey(), nil
}

// tasksCancelModern answers tasks/cancel on 2026: the request is recorded, and
// a task that ended is no error (ext-tasks, "Task Cancellation").
func (a *API) tasksCancelModern(ctx context.Context, x *exchange) (any, error) {
	ref, err := taskRef(x)
	if err != nil {
		return nil, err
	}
	if err := a.tasks.RequestCancel(ctx, ref, ""); err != nil {
		return nil, err
	}
	return a.modern.ack(), nil
}

// tasksCancelLegacy answers tasks/cancel on 2025: the task is cancelled before
// the reply, or the request is refused ("Task Cancellation").
func (a *API) tasksCancelLegacy(ctx context.Context, x *exchange) (any, error) {
	ref, err := taskRef(x)
	if err != nil {
		return nil, err
	}
	t, err := a.tasks.Cancel(ctx, ref, "")
	if t != nil && (errors.Is(err, task.ErrTerminal) || err == nil && t.Status != task.StatusCancelled) {
		return nil, invalidParams("Cannot cancel task: already in terminal status '%s'", a.legacy.task(t).Status)
	}
	if err != nil {
		return nil, err
	}
	return x.wire.detail(t), nil
}

// listCursor is what a tasks/list cursor seals.
type listCursor struct {
	Token     []byte `json:"t"`
	OwnerHash string `json:"o"`
}

// tasksList answers tasks/list with the owner's tasks of both generations
// ("Task Listing").
func (a *API) tasksList(ctx context.Context, x *exchange) (any, error) {
	r := task.ListRequest{Owner: x.owner}
	if x.msg.params.get("cursor") != nil {
		sealed, err := x.msg.str("cursor")
		if err != nil {
			return nil, err
		}
		var cursor listCursor
		if a.cursors.open(sealed, &cursor) != nil || cursor.OwnerHash != x.owner.Hash() {
			return nil, task.ErrBadCursor
		}
		r.Token = cursor.Token
	}
	page, err := a.tasks.List(ctx, r)
	if err != nil {
		return nil, err
	}
	result := struct {
		Tasks      []task2025 `json:"tasks"`
		NextCursor string     `json:"nextCursor,omitempty"`
	}{Tasks: make([]task2025, len(page.Tasks))}
	for i, t := range page.Tasks {
		result.Tasks[i] = a.legacy.task(t)
	}
	if page.Next != nil {
		if result.NextCursor, err = a.cursors.seal(listCursor{page.Next, x.owner.Hash()}); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// tasksResult answers tasks/result: it waits for the task to end, asking
// meanwhile what the task asks ("Result Retrieval", "Input Required Status").
func (a *API) tasksResult(ctx context.Context, x *exchange) (any, error) {
	ref, err := taskRef(x)
	if err != nil {
		return nil, err
	}
	t, err := a.attend(ctx, x, ref, a.tokens.get(ref.ID, x.session))
	if err != nil {
		return nil, err
	}
	result, err := outcomeReply(x.wire, t.Outcome)
	if err != nil {
		return nil, err
	}
	return withMeta(result, task.MetaRelatedTask, relatedTask(t.ID)), nil
}
