package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// This file is about servers that have tasks of their own. Longhaul is a
// client of these: what is a task of the server is one round here.
//
//   - 2025: the server lists a tool as one that requires a task. Its call asks
//     for one; then tasks/get tells the status, and tasks/result, called when
//     input is required or the task has ended, waits for the end. What the
//     tool asks meanwhile comes as requests of the server, as without a task
//     (2025-11-25, tasks). Tools that merely support tasks are called plainly.
//   - 2026: every call declares the extension, and the server answers with a
//     task if it likes. tasks/get then tells everything, also what the tool
//     asks, and tasks/update takes the answers (ext-tasks).
//
// A call survives the loss of its session once it has become a task: the task
// is polled on another session. A server may know its tasks by session, or
// only in a process that died, and says so; then nobody can tell whether the
// tool has done its work.

const (
	methodTaskGet    = "tasks/get"
	methodTaskResult = "tasks/result"
	methodTaskUpdate = "tasks/update"
	methodTaskCancel = "tasks/cancel"

	tasksExtension = "io.modelcontextprotocol/tasks"
)

const (
	// defaultPoll is the interval of tasks/get where the server suggests none;
	// what it suggests is heeded between the other two.
	defaultPoll  = time.Second
	shortestPoll = 100 * time.Millisecond
	longestPoll  = time.Minute
	// taskTimeout bounds a request about a task that is answered at once.
	taskTimeout = 30 * time.Second
	// taskCancelTimeout bounds the attempt to cancel the server's task when the
	// call ends.
	taskCancelTimeout = 5 * time.Second
	// longTTL is asked for where the call's context has no deadline.
	longTTL = 24 * time.Hour
	// maxRejoins is how often in a row another session is tried.
	maxRejoins = 5
)

// ErrLeave as the cause of the end of a call's context leaves the server's
// task running, to be rejoined by a later call with Call.Resume. With any
// other the task is cancelled.
var ErrLeave = errors.New("the call is left to be resumed")

// taskHandle is what [Call.OnTask] and [Call.Resume] pass.
type taskHandle struct {
	ID string `json:"taskId"`
	// Protocol is the generation of tasks it is one of.
	Protocol string `json:"protocol"`
}

// taskRequest are the params of tools/call that ask for a task.
type taskRequest struct {
	TTL int64 `json:"ttl"` // milliseconds
}

// taskParams are the params of the methods about a task.
type taskParams struct {
	mcp.ParamsBase
	ID             string                     `json:"taskId"`
	InputResponses map[string]json.RawMessage `json:"inputResponses,omitempty"`
}

// taskState is a task as the server tells it, of either generation.
type taskState struct {
	ID         string                       `json:"taskId"`
	Status     task.Status                  `json:"status"`
	Message    string                       `json:"statusMessage"`
	Poll2025   float64                      `json:"pollInterval"`
	Poll2026   float64                      `json:"pollIntervalMs"`
	Inputs     map[string]task.InputRequest `json:"inputRequests"`
	Result     json.RawMessage              `json:"result"`
	Error      *task.RPCError               `json:"error"`
	ResultType string                       `json:"resultType"`
}

func (t taskState) poll() time.Duration {
	switch ms := max(t.Poll2025, t.Poll2026); {
	case ms <= 0:
		return defaultPoll
	case ms >= float64(longestPoll.Milliseconds()):
		return longestPoll
	default:
		return max(time.Duration(ms)*time.Millisecond, shortestPoll)
	}
}

// createdTask is the task that a result of tools/call hands out.
func (s *session) createdTask(result json.RawMessage) (t taskState, ok bool) {
	if s.isStateless() {
		ok = json.Unmarshal(result, &t) == nil && t.ResultType == "task"
	} else {
		var r struct {
			Task *taskState `json:"task"`
		}
		if ok = json.Unmarshal(result, &r) == nil && r.Task != nil; ok {
			t = *r.Task
		}
	}
	return t, ok && t.ID != ""
}

// beginTask takes in the task that a call has become.
func (s *session) beginTask(a *attendance, result json.RawMessage, c Call) {
	a.begun, _ = s.createdTask(result)
	a.handle = &taskHandle{ID: a.begun.ID, Protocol: Protocol2025}
	if s.isStateless() {
		a.handle.Protocol = Protocol2026
	}
	if c.OnTask != nil {
		handle, _ := json.Marshal(a.handle) // strings always can be
		c.OnTask(handle)
	}
}

// ttl is how long a task may be needed: as long as its call may take.
func ttl(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Second)
	}
	return longTTL
}

// addTaskMethods has a client take the methods the SDK does not know.
func addTaskMethods(client *mcp.Client) error {
	for _, method := range []string{methodTaskGet, methodTaskResult, methodTaskUpdate, methodTaskCancel} {
		if err := mcp.AddSendingCustomMethod[*taskParams, *rawResult](client, method); err != nil {
			return err
		}
	}
	return nil
}

// request makes a request about a task. Its error is a [*task.RPCError], a
// [*LostError] or that of ctx. No two of one method may be made at once.
func (s *session) request(ctx context.Context, method string, p taskParams) (json.RawMessage, error) {
	e := &exchange{method: method}
	s.tap.beginAside(e)
	returned := make(chan error, 1)
	go func() { // until the session is closed, if the connection is stuck
		_, err := mcp.CallCustomMethod[*taskParams, *rawResult](ctx, s.client, method, &p)
		returned <- err
	}()
	var err error
	select {
	case err = <-returned:
	case <-ctx.Done():
	}
	s.tap.endAside(e)
	switch {
	case e.err != nil:
		return nil, e.err
	case e.answered:
		return e.result, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, s.server.lostError(true, err, s.link.explain())
	}
}

// ask makes a request that is answered at once.
func (s *session) ask(ctx context.Context, method string, p taskParams) (json.RawMessage, error) {
	short, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	raw, err := s.request(short, method, p)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		return nil, s.server.lostError(true, fmt.Errorf("%s was not answered within %s", method, taskTimeout), "")
	}
	return raw, err
}

// cancelTask asks the server to cancel its task, whatever has become of ctx.
func (s *session) cancelTask(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskCancelTimeout)
	defer cancel()
	// It may have ended meanwhile, or be unknown.
	_, _ = s.request(ctx, methodTaskCancel, taskParams{ID: id})
}

// attendance is what a call knows of the server's task, on whatever session it
// is attended.
type attendance struct {
	// handle is nil as long as the call is no task.
	handle *taskHandle
	// begun is the task as it was handed out.
	begun taskState
	// heard is set when the server has told its state since it was last cleared.
	heard bool
	// last is the progress reported last, status the message.
	last   task.Progress
	status string

	// The requests of a task of 2026 outlive sessions: seen are those that were
	// put to the caller, and answers brings what came back. unsent are answers
	// that the server has not acknowledged.
	seen    map[string]bool
	answers chan inputAnswer
	unsent  map[string]json.RawMessage
	asking  sync.WaitGroup
	// ctx is that of the call.
	ctx context.Context
}

type inputAnswer struct {
	key, method string
	response    json.RawMessage
	err         error
}

func newAttendance(resume json.RawMessage) (*attendance, error) {
	a := &attendance{
		last: task.Progress{Progress: math.Inf(-1)},
		seen: map[string]bool{}, answers: make(chan inputAnswer), unsent: map[string]json.RawMessage{},
	}
	if resume == nil {
		return a, nil
	}
	a.handle = &taskHandle{}
	if err := json.Unmarshal(resume, a.handle); err != nil || a.handle.ID == "" {
		return nil, errors.New("the handle of the server's task is not one that was given out")
	}
	return a, nil
}

// attend polls the server's task until it ends.
func (s *session) attend(ctx context.Context, e *exchange, a *attendance, c Call) (task.RoundResult, error) {
	id := a.handle.ID
	if (a.handle.Protocol == Protocol2026) != s.isStateless() {
		return vanished("the server speaks another protocol now"), nil
	}
	wait := time.Duration(0)
	if a.begun.Status == task.StatusWorking {
		wait = a.begun.poll()
		s.tap.tellStatus(e, a, a.begun.Message)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	fetchCtx, stop := context.WithCancel(ctx)
	defer stop()
	var fetched chan taskEnd // not nil while tasks/result is under way
	refused := false         // the last one was, and is not made again at once

	for {
		var (
			end *taskEnd
			err error
		)
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, ErrLeave) && s.server.set.ctx.Err() == nil {
				s.cancelTask(ctx, id)
			}
			return task.RoundResult{}, context.Cause(ctx)
		case f := <-fetched:
			var rpc *task.RPCError
			if end = &f; errors.As(f.err, &rpc) && !f.terminal {
				// The tool's error, or one about the task: tasks/get knows.
				end, fetched, refused = nil, nil, true
				timer.Reset(0)
			}
		case answer := <-a.answers:
			end, err = s.takeAnswer(ctx, a, answer)
		case <-timer.C:
			var t taskState
			if t, err = s.taskState(ctx, id); err != nil {
				break
			}
			a.heard = true
			timer.Reset(t.poll())
			if !t.Status.Terminal() {
				s.tap.tellStatus(e, a, t.Message)
			}
			switch {
			case t.Status == task.StatusCancelled:
				return failure("the server cancelled its task" + because(t.Message)), nil
			case s.isStateless() && t.Status.Terminal():
				return t.end(), nil
			case s.isStateless():
				end, err = s.putInputs(ctx, a, t.Inputs, c)
			case refused && !t.Status.Terminal():
				refused = false
			case fetched == nil && t.Status != task.StatusWorking:
				fetched = make(chan taskEnd, 1)
				go func() { // until fetchCtx ends
					raw, err := s.request(fetchCtx, methodTaskResult, taskParams{ID: id})
					fetched <- taskEnd{raw, err, t.Status.Terminal()}
				}()
			}
		}
		switch {
		case ctx.Err() != nil:
			// The task is cancelled above.
		case err != nil:
			return s.roundOfTaskError(err)
		case end != nil:
			return end.round()
		}
	}
}

// taskState asks for the state of a task.
func (s *session) taskState(ctx context.Context, id string) (t taskState, err error) {
	raw, err := s.ask(ctx, methodTaskGet, taskParams{ID: id})
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, s.server.lostError(true, fmt.Errorf("%s: %w", methodTaskGet, err), "")
	}
	return t, nil
}

// taskEnd ends the round: the answer to tasks/result, or what takes its place.
type taskEnd struct {
	result json.RawMessage
	err    error
	// terminal is set if the task had ended before, so that an error is the
	// tool's.
	terminal bool
}

func (t taskEnd) round() (task.RoundResult, error) {
	var rpc *task.RPCError
	switch {
	case t.err == nil:
		return roundResult(t.result), nil
	case errors.As(t.err, &rpc):
		return errorRound(rpc), nil
	default:
		return task.RoundResult{}, t.err
	}
}

// end is how a task of 2026 ended the round.
func (t taskState) end() task.RoundResult {
	switch {
	case t.Status == task.StatusCompleted:
		return roundResult(t.Result)
	case t.Error != nil:
		return errorRound(t.Error)
	default:
		return failure("the server's task failed" + because(t.Message))
	}
}

func because(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

// roundOfTaskError says how a round ends whose task could not be asked about.
// An unknown task is "invalid params" (2025-11-25, tasks, and ext-tasks,
// "Protocol Errors"); of other errors the next session may know more.
func (s *session) roundOfTaskError(err error) (task.RoundResult, error) {
	var rpc *task.RPCError
	switch {
	case !errors.As(err, &rpc):
		return task.RoundResult{}, err
	case rpc.Code == jsonrpc.CodeInvalidParams || rpc.Code == jsonrpc.CodeMethodNotFound:
		return vanished(rpc.Message), nil
	default:
		return task.RoundResult{}, s.server.lostError(true, rpc, "")
	}
}

func vanished(why string) task.RoundResult {
	return task.RoundResult{Unknown: "The outcome is unknown: the server no longer knows its task (" + why + ")."}
}

// putInputs puts the requests of a task of 2026 to the caller that were not
// before (ext-tasks, "Task Update Requests": clients SHOULD deduplicate keys).
// If one of them cannot be, that is the end of the task and of the round.
func (s *session) putInputs(ctx context.Context, a *attendance, inputs map[string]task.InputRequest, c Call) (*taskEnd, error) {
	for _, key := range slices.Sorted(maps.Keys(inputs)) {
		in := inputs[key]
		if a.seen[key] {
			continue
		}
		a.seen[key] = true
		if missing := task.Undeclared(s.caps, []task.InputRequest{in}); missing != nil {
			s.cancelTask(ctx, a.handle.ID)
			return &taskEnd{err: missing}, nil
		}
		if c.Ask == nil {
			s.cancelTask(ctx, a.handle.ID)
			return &taskEnd{err: internalRPCError((&askedError{in.Method}).Error())}, nil
		}
		a.asking.Go(func() {
			answer := inputAnswer{key: key, method: in.Method}
			answer.response, answer.err = c.Ask(a.ctx, task.InputRequest{Key: key, Method: in.Method, Params: ownParams(in.Params)})
			if a.ctx.Err() != nil {
				return
			}
			if answer.err == nil && !isObject(answer.response) {
				answer.err = internalRPCError("the answer to " + in.Method + " is not a JSON object")
			}
			select {
			case a.answers <- answer:
			case <-a.ctx.Done():
			}
		})
	}
	return nil, s.sendAnswers(ctx, a)
}

// takeAnswer sends an answer to the server. An error cannot be sent: an
// elicitation is cancelled then, and with any other request the task ends, and
// the round.
func (s *session) takeAnswer(ctx context.Context, a *attendance, answer inputAnswer) (*taskEnd, error) {
	var rpc *task.RPCError
	switch {
	case answer.err == nil:
		a.unsent[answer.key] = answer.response
	case errors.As(answer.err, &rpc) && answer.method == task.MethodElicit:
		a.unsent[answer.key] = json.RawMessage(`{"action":"cancel"}`)
	default:
		s.cancelTask(ctx, a.handle.ID)
		return &taskEnd{err: answer.err}, nil
	}
	return nil, s.sendAnswers(ctx, a)
}

// sendAnswers sends the answers that are there. One that is refused as invalid
// comes too late; what else goes wrong tasks/get will tell.
func (s *session) sendAnswers(ctx context.Context, a *attendance) error {
	if len(a.unsent) == 0 {
		return nil
	}
	_, err := s.ask(ctx, methodTaskUpdate, taskParams{ID: a.handle.ID, InputResponses: a.unsent})
	var rpc *task.RPCError
	if errors.As(err, &rpc) {
		if rpc.Code != jsonrpc.CodeInvalidParams {
			return nil
		}
		err = nil
	}
	if err == nil {
		a.unsent = map[string]json.RawMessage{}
	}
	return err
}

func internalRPCError(message string) *task.RPCError {
	return &task.RPCError{Code: task.CodeInternalError, Message: message}
}

// tellStatus reports a task's message as progress, which counts the messages.
// A server that reports progress itself is not helped so.
func (t *tap) tellStatus(e *exchange, a *attendance, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.progress == nil || e.reports || message == "" || message == a.status {
		return
	}
	a.status = message
	e.last = task.Progress{Progress: max(e.last.Progress, 0) + 1, Message: message}
	e.progress(e.last, nil)
}

// withTasks adds the tasks extension to client capabilities.
func withTasks(caps []byte) []byte {
	var c, extensions map[string]json.RawMessage
	if json.Unmarshal(caps, &c) != nil {
		return caps // cannot be: they were marshalled here
	}
	if json.Unmarshal(c["extensions"], &extensions) != nil || extensions == nil {
		extensions = map[string]json.RawMessage{}
	}
	extensions[tasksExtension] = json.RawMessage("{}")
	c["extensions"], _ = json.Marshal(extensions)
	with, _ := json.Marshal(c) // valid JSON always can be
	return with
}

// hasToolTasks reports whether the result of initialize says that the server
// takes calls of tools as tasks.
func hasToolTasks(initialized json.RawMessage) bool {
	var r struct {
		Capabilities struct {
			Tasks struct {
				Requests struct {
					Tools struct {
						Call json.RawMessage `json:"call"`
					} `json:"tools"`
				} `json:"requests"`
			} `json:"tasks"`
		} `json:"capabilities"`
	}
	return json.Unmarshal(initialized, &r) == nil && isObject(r.Capabilities.Tasks.Requests.Tools.Call)
}
