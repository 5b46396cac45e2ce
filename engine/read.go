package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/task"
)

// maxCatchUps bounds how often a read begins again because the workflow has
// gone on meanwhile.
const maxCatchUps = 3

// maxIDBytes is Temporal's own bound on workflow IDs.
const maxIDBytes = 1000

// reading is what is known of a task after a Describe or from a list.
type reading struct {
	id       string
	runID    string
	firstRun string // of the chain of runs that continue-as-new makes
	queue    string
	held     bool
	status   enumspb.WorkflowExecutionStatus
	events   int64 // how many the history has; also the ID of the last
	// By Temporal's clock; closedAt is zero while the run is open.
	startedAt, closedAt time.Time
	pending             *workflowpb.PendingWorkflowTaskInfo // nil if there is none

	card       task.Card
	state      task.State
	attributes *commonpb.SearchAttributes
	progress   *task.Progress

	// When the Describe began, by the clock and in moments of the hub; zero for
	// what is from a list.
	at     time.Time
	moment uint64
}

// closed reports whether the workflow has ended; a terminal state may precede
// that by the time a cancelled round takes to clean up. A run that continued
// as new is not an end.
func (r *reading) closed() bool {
	switch r.status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
		enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
		enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED,
		enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED,
		enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return true
	default:
		return false
	}
}

func (r *reading) ended() bool { return r.closed() || r.state.Status.Terminal() }

func (r *reading) task() *task.Task {
	t := task.Projection{Card: r.card, State: r.state}.Snapshot(r.id)
	if !t.Status.Terminal() && r.progress != nil {
		t.Progress = r.progress
	}
	return t
}

// Get implements [task.Service].
func (e *Engine) Get(ctx context.Context, ref task.Ref) (*task.Task, error) {
	const full = false
	if t, err := e.known(ref, full); t != nil || err != nil {
		return t, err
	}
	r, err := e.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	t := r.task()
	e.remember(r, t)
	return t, nil
}

// GetOutcome implements [task.Service].
func (e *Engine) GetOutcome(ctx context.Context, ref task.Ref) (*task.Task, error) {
	const full = true
	if t, err := e.known(ref, full); t != nil || err != nil {
		return t, err
	}
	r, err := e.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	return e.withOutcome(ctx, r)
}

// withOutcome is r as a task, with its full outcome if it has one.
func (e *Engine) withOutcome(ctx context.Context, r *reading) (_ *task.Task, err error) {
	t := r.task()
	if hasMore(t.Outcome) {
		if x := e.outcomes.get(r.id); x != nil && x.isOf(t) && !hasMore(x.task.Outcome) {
			t.Outcome = x.task.Outcome
		} else if t.Outcome, err = e.outcome(ctx, r); err != nil {
			return nil, err
		}
	}
	e.remember(r, t)
	return t, nil
}

// hasMore reports whether o is but the head of an outcome: that of every kind
// but two is all there is of it.
func hasMore(o *task.Outcome) bool {
	return o != nil && (o.Kind == task.OutcomeResult && o.Result == nil || o.Kind == task.OutcomeError && o.Error == nil)
}

// outcome reads the full outcome of a task that has one.
func (e *Engine) outcome(ctx context.Context, r *reading) (*task.Outcome, error) {
	o, err := e.recordedOutcome(ctx, r)
	if err != nil {
		return nil, err
	}
	return e.complete(ctx, r, o)
}

// recordedOutcome is the outcome as Temporal has it.
func (e *Engine) recordedOutcome(ctx context.Context, r *reading) (*task.Outcome, error) {
	o, err := e.closeOutcome(ctx, r)
	if o != nil || err != nil {
		return o, err
	}
	// Decided, but not closed when the event was looked for.
	switch err = e.query(ctx, r, task.QueryResult, attendedTimeout, &o); {
	case errors.Is(err, errClosed):
		if o, err = e.closeOutcome(ctx, r); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, unavailable(err)
	}
	if o == nil {
		return nil, fmt.Errorf("%w: the task has ended, but its outcome cannot be read", task.ErrUnavailable)
	}
	return o, nil
}

// read is the strong read of a task for its owner.
func (e *Engine) read(ctx context.Context, ref task.Ref) (*reading, error) {
	r, err := e.describeOwned(ctx, ref)
	if err != nil {
		return nil, err
	}
	for range maxCatchUps {
		if r.pending == nil || r.ended() {
			break
		}
		err = e.catchUp(ctx, r)
		if err == nil {
			break
		}
		if !errors.Is(err, errClosed) && !errors.Is(err, errTakenIn) {
			return nil, err
		}
		if r, err = e.describeOwned(ctx, ref); err != nil {
			return nil, err
		}
	}
	e.watches.saw(r)
	return r, e.settle(ctx, r)
}

// describeOwned is describe for a caller: a foreign task is not found, and
// neither is an ended one whose time and grace are over, except that its owner
// learns why. That is by this process's clock, so it hides nothing that runs.
func (e *Engine) describeOwned(ctx context.Context, ref task.Ref) (*reading, error) {
	r, err := e.describeKnown(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case r.closed() && !e.operator && e.isOver(r.card.CreatedAt.Add(r.card.TTL())):
		return nil, task.ErrExpired
	}
	return r, nil
}

// describeKnown is describeOwned for a task that was there a moment ago: however
// it ended since, that is what became of it.
func (e *Engine) describeKnown(ctx context.Context, ref task.Ref) (*reading, error) {
	r, err := e.describe(ctx, ref.ID, ref.Held)
	switch {
	case err != nil:
		return nil, err
	case r.card.OwnerHash != ref.Owner.Hash() && !e.operator:
		return nil, task.ErrNotFound
	}
	e.watches.saw(r)
	return r, nil
}

// describe reads the newest run of a task from Temporal.
func (e *Engine) describe(ctx context.Context, id string, held bool) (*reading, error) {
	if !possibleID(id) || e.deleted.has(id) {
		return nil, task.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	at, moment := e.o.Now(), e.watches.moment()
	d, err := e.client.DescribeWorkflowExecution(ctx, id, "")
	if err = translate(err); err != nil {
		if errors.Is(err, task.ErrNotFound) && e.outcomes.get(id) != nil {
			e.outcomes.forget(id, e.o.Now())
		}
		return nil, err
	}
	r, err := e.decode(d.GetWorkflowExecutionInfo())
	switch {
	case err != nil:
		return nil, err
	case r.held != held && !e.operator:
		return nil, task.ErrNotFound
	}
	if r.state.Rev > 1 && e.o.Now().Sub(r.state.UpdatedAt).Abs() < attendedFor {
		e.attended.put(r.queue, struct{}{}) // only a worker can have changed the state
	}
	r.at, r.moment = at, moment
	r.pending = d.GetPendingWorkflowTask()
	r.progress = e.decodeProgress(r.id, d.GetPendingActivities())
	return r, nil
}

// possibleID reports whether id could be one of ours. Others cannot all be
// asked for: Temporal's client sends an ID in a header, too.
func possibleID(id string) bool {
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	return id != "" && len(id) <= maxIDBytes && !strings.ContainsFunc(id, unprintable)
}

// decode is [task.ErrNotFound] for a workflow that is no task.
func (e *Engine) decode(info *workflowpb.WorkflowExecutionInfo) (*reading, error) {
	workflowType := info.GetType().GetName()
	if workflowType != task.WorkflowTask && workflowType != task.WorkflowCall {
		return nil, task.ErrNotFound
	}
	fields := info.GetMemo().GetFields()
	card, state := fields[task.MemoTask], fields[task.MemoState]
	if card == nil || state == nil {
		return nil, task.ErrNotFound
	}
	r := &reading{
		id:       info.GetExecution().GetWorkflowId(),
		runID:    info.GetExecution().GetRunId(),
		firstRun: info.GetFirstRunId(),
		queue:    info.GetTaskQueue(),
		held:     workflowType == task.WorkflowCall,
		status:   info.GetStatus(),
		events:   info.GetHistoryLength(),

		startedAt:  info.GetStartTime().AsTime(),
		attributes: info.GetSearchAttributes(),
	}
	if t := info.GetCloseTime(); t != nil {
		r.closedAt = t.AsTime()
	}
	if err := e.o.DataConverter.FromPayload(card, &r.card); err != nil {
		return nil, unavailable(fmt.Errorf("memo %q: %w", task.MemoTask, err))
	}
	if err := e.o.DataConverter.FromPayload(state, &r.state); err != nil {
		return nil, unavailable(fmt.Errorf("memo %q: %w", task.MemoState, err))
	}
	return r, nil
}

// decodeProgress is nil if there is none, or none that can be read: a task's
// state does not depend on it.
func (e *Engine) decodeProgress(id string, activities []*workflowpb.PendingActivityInfo) *task.Progress {
	for _, a := range activities {
		if a.GetActivityType().GetName() != task.ActivityRound || len(a.GetHeartbeatDetails().GetPayloads()) == 0 {
			continue
		}
		var beat task.Heartbeat
		if err := e.o.DataConverter.FromPayloads(a.GetHeartbeatDetails(), &beat); err != nil {
			e.o.Logger.Debug("unreadable progress", "task_id", id, "error", err)
			return nil
		}
		return beat.Progress
	}
	return nil
}

// catchUp brings r past the pending workflow task: by asking the worker that
// does it or, if there is none, by what is known to wait for one. It is
// errClosed if the workflow closed meanwhile, and errTakenIn if what waited for
// a worker does so no more: r is out of date then.
func (e *Engine) catchUp(ctx context.Context, r *reading) error {
	// A workflow task that is tried again says more about its workflow than
	// about the workers, so it is remembered for that workflow alone.
	queue := r.queue
	if r.pending.GetAttempt() > 1 {
		queue += "\x00" + r.id
	}
	if e.unattended.has(queue) {
		return e.withoutWorker(ctx, r, queue)
	}
	timeout := scheduledTimeout
	if r.pending.GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED || e.attended.has(queue) {
		timeout = attendedTimeout
	}
	err := e.queryState(ctx, r, timeout)
	switch {
	case err == nil:
		e.attended.put(queue, struct{}{})
		e.unattended.remove(queue)
		return nil
	case errors.Is(err, errClosed), errors.Is(translate(err), task.ErrNotFound):
		return errClosed
	case timedOut(err) && ctx.Err() == nil:
		e.unattended.put(queue, struct{}{})
		e.attended.remove(queue)
	}
	// Temporal also gives a query up when the worker that had it is lost.
	return e.withoutWorker(ctx, r, queue)
}

// withoutWorker is anticipate for a task queue that seems to have no worker.
func (e *Engine) withoutWorker(ctx context.Context, r *reading, queue string) error {
	err := e.anticipate(ctx, r)
	if errors.Is(err, errTakenIn) {
		e.unattended.remove(queue)
	}
	return err
}

// queryState replaces r's state by the answer of the workflow, if that is newer.
func (e *Engine) queryState(ctx context.Context, r *reading, timeout time.Duration) error {
	var p task.Projection
	if err := e.query(ctx, r, task.QueryTask, timeout, &p); err != nil {
		return err
	}
	if p.State.Rev > r.state.Rev {
		r.state = p.State
	}
	return nil
}

var errClosed = errors.New("the workflow is closed")

func (e *Engine) query(ctx context.Context, r *reading, name string, timeout time.Duration, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := e.client.QueryWorkflowWithOptions(ctx, &client.QueryWorkflowWithOptionsRequest{
		WorkflowID:           r.id,
		RunID:                r.runID,
		QueryType:            name,
		QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_OPEN,
	})
	if err != nil {
		return err
	}
	if resp.QueryRejected != nil {
		return errClosed
	}
	return resp.QueryResult.Get(answer)
}

// settle gives a closed task its terminal state. Normally the workflow wrote
// it itself, and then it is final, however the workflow ended after that.
// Otherwise it follows from the close event or, where the workflow had no say,
// from the way in which it was ended.
func (e *Engine) settle(ctx context.Context, r *reading) error {
	if !r.closed() || r.state.Status.Terminal() {
		return nil
	}
	m := task.Machine{State: r.state}
	switch r.status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		m.Expire(r.closedAt, r.card.TTL())
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		m.Cancel(r.closedAt, "")
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		// A plain success is the one end the workflow does not write down twice.
		m.Decide(r.closedAt, task.ResultOutcome(nil, false))
	default:
		o, err := e.closeOutcome(ctx, r)
		switch {
		case err != nil:
			return err
		case o != nil:
			m.Decide(r.closedAt, o)
		case r.status == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
			m.Cancel(r.closedAt, "")
		default:
			m.Lose(r.closedAt, "The outcome is unknown: the task's workflow ended without one.")
		}
	}
	r.state = m.State
	return nil
}

// closeOutcome is the outcome in the task's close event, or nil if it has none
// or there is no such event yet. It needs no worker and does not wait.
func (e *Engine) closeOutcome(ctx context.Context, r *reading) (*task.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	const wait = false
	events := e.client.GetWorkflowHistory(ctx, r.id, r.runID, wait, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	if !events.HasNext() {
		return nil, nil
	}
	event, err := events.Next()
	if err != nil {
		return nil, translate(err)
	}
	return e.outcomeIn(event)
}

// outcomeIn is the outcome that a close event carries, or nil if it carries none.
func (e *Engine) outcomeIn(event *historypb.HistoryEvent) (*task.Outcome, error) {
	var payloads *commonpb.Payloads
	switch event.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		payloads = event.GetWorkflowExecutionCompletedEventAttributes().GetResult()
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		payloads = event.GetWorkflowExecutionCanceledEventAttributes().GetDetails()
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		failure := event.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetApplicationFailureInfo()
		if failure.GetType() == task.FailureTask {
			payloads = failure.GetDetails()
		}
	}
	if len(payloads.GetPayloads()) == 0 {
		return nil, nil
	}
	var o *task.Outcome
	if err := e.o.DataConverter.FromPayloads(payloads, &o); err != nil {
		return nil, unavailable(fmt.Errorf("outcome in the close event: %w", err))
	}
	return o, nil
}
