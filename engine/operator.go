package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// OperatorOptions configure an [Operator].
type OperatorOptions struct {
	// Client is connected to Temporal. Required. It remains the caller's to close.
	Client client.Client
	// DataConverter has to be the one Client was made with. Default: the SDK's.
	DataConverter converter.DataConverter
	// Namespace has to be Client's. Default "default".
	Namespace string
	// TaskQueue is where the tasks run that are listed and swept. Default
	// [task.DefaultTaskQueue].
	TaskQueue string
	// Claims is [Options.Claims]: what is kept for a task is deleted with it.
	// Default: none, then it is left to the next sweep that has them.
	Claims claims.Store
	// Logger gets what no caller is told. Default: nothing is logged.
	Logger *slog.Logger
}

// Operator is what whoever runs Longhaul can do with tasks, whose ever they
// are. Nothing that serves callers has one.
type Operator struct{ e *Engine }

// NewOperator returns an operator. It does not talk to Temporal.
func NewOperator(o OperatorOptions) (*Operator, error) {
	if o.Client == nil {
		return nil, errors.New("engine: no Temporal client")
	}
	e := newEngine(Options{
		Client: o.Client, DataConverter: o.DataConverter, Namespace: o.Namespace, TaskQueue: o.TaskQueue, Claims: o.Claims, Logger: o.Logger,
		OutcomeCache: -1,
	}.withDefaults())
	e.operator = true
	return &Operator{e}, nil
}

// Details are a task as an operator sees it.
type Details struct {
	*task.Task
	// Held says that it is a held call.
	Held bool
	// Call is the call on one line, without what looks like a secret.
	Call string
	// OwnerHash is [task.Owner.Hash]: the name is not kept.
	OwnerHash string
	// EndedAt is zero for a task that has not ended.
	EndedAt time.Time

	// Where it is in Temporal. FirstRunID is empty in lists.
	Namespace, TaskQueue, RunID, FirstRunID string
	// ExecutionStatus is Temporal's word for the status of its workflow.
	ExecutionStatus string
}

func (o *Operator) details(r *reading, t *task.Task) *Details {
	d := &Details{
		Task: t, Held: r.held, OwnerHash: r.card.OwnerHash, EndedAt: r.closedAt,
		Namespace: o.e.o.Namespace, TaskQueue: r.queue, RunID: r.runID, FirstRunID: r.firstRun, ExecutionStatus: r.status.String(),
	}
	if p := r.attributes.GetIndexedFields()[task.SearchCall]; p != nil {
		// Search attributes are encoded in one way, whatever encodes the rest.
		_ = converter.GetDefaultDataConverter().FromPayload(p, &d.Call)
	}
	return d
}

// Get reads a task or held call, with its full outcome if it has ended.
func (o *Operator) Get(ctx context.Context, id string) (*Details, error) {
	r, err := o.e.read(ctx, task.Ref{ID: id})
	if err != nil {
		return nil, err
	}
	t, err := o.e.withOutcome(ctx, r)
	if err != nil {
		return nil, err
	}
	return o.details(r, t), nil
}

// Cancel is [Engine.Cancel], whose ever the task is.
func (o *Operator) Cancel(ctx context.Context, id, reason string) (*task.Task, error) {
	return o.e.Cancel(ctx, task.Ref{ID: id}, reason)
}

// Delete is [Engine.Delete], whose ever the task is.
func (o *Operator) Delete(ctx context.Context, id string) error {
	return o.e.Delete(ctx, task.Ref{ID: id})
}

// Filter says which tasks of the operator's task queue are meant: those for
// which all that is set is true.
type Filter struct {
	Statuses []task.Status
	Tool     string
	Owner    *task.Owner
	// StartedBefore and StartedAfter are about the newest run of a task: of most
	// there is but one.
	StartedBefore, StartedAfter time.Time
	// EndedBefore leaves out tasks that have not ended.
	EndedBefore time.Time
	// Held adds held calls.
	Held bool
}

// statusQueries match the tasks with a status, as far as Temporal's lists tell.
// A task whose round is cleaning up is not found under its new status.
var statusQueries = map[task.Status]string{
	task.StatusWorking:       fmt.Sprintf("(ExecutionStatus = 'Running' AND %s IS NULL)", task.SearchStatus),
	task.StatusInputRequired: fmt.Sprintf("(ExecutionStatus = 'Running' AND %s = '%s')", task.SearchStatus, task.StatusInputRequired),
	task.StatusCompleted:     "ExecutionStatus = 'Completed'",
	task.StatusFailed:        "ExecutionStatus IN ('Failed', 'TimedOut')",
	task.StatusCancelled:     "ExecutionStatus IN ('Canceled', 'Terminated')",
}

// query is the filter in Temporal's words.
func (o *Operator) query(f Filter) (string, error) {
	all := []string{"TaskQueue = " + quote(o.e.o.TaskQueue)}
	and := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if f.Held {
		and("WorkflowType IN ('%s', '%s')", task.WorkflowTask, task.WorkflowCall)
	} else {
		and("WorkflowType = '%s'", task.WorkflowTask)
	}
	var statuses []string
	for _, s := range f.Statuses {
		query, ok := statusQueries[s]
		if !ok {
			return "", fmt.Errorf("there is no status %q", s)
		}
		statuses = append(statuses, query)
	}
	if len(statuses) > 0 {
		and("(%s)", strings.Join(statuses, " OR "))
	} else {
		and("ExecutionStatus != 'ContinuedAsNew'")
	}
	if f.Tool != "" {
		and("%s = %s", task.SearchTool, quote(f.Tool))
	}
	if f.Owner != nil {
		and("%s = '%s'", task.SearchOwner, f.Owner.Hash())
	}
	if !f.StartedBefore.IsZero() {
		and("StartTime < '%s'", stamp(f.StartedBefore))
	}
	if !f.StartedAfter.IsZero() {
		and("StartTime > '%s'", stamp(f.StartedAfter))
	}
	if !f.EndedBefore.IsZero() {
		and("%s AND CloseTime < '%s'", hasClosed, stamp(f.EndedBefore))
	}
	return strings.Join(all, " AND "), nil
}

// DetailsPage is a page of a list. Next is nil on the last one.
type DetailsPage struct {
	Tasks []*Details
	Next  []byte
}

// List is a page of the tasks that match, at most size (1 to 1000) of them.
// Like [Engine.List] it begins with the running ones. What is a moment old may
// not be in it yet.
func (o *Operator) List(ctx context.Context, f Filter, size int, token []byte) (*DetailsPage, error) {
	query, err := o.query(f)
	if err != nil {
		return nil, err
	}
	scanned, err := o.matching(ctx, f, query, max(1, min(size, maxPageSize)), token)
	if err != nil {
		return nil, err
	}
	for _, err := range scanned.unreadable {
		o.e.o.Logger.Warn("a task was left out of a list", "error", err)
	}
	page := &DetailsPage{Next: scanned.next}
	for _, r := range scanned.tasks {
		page.Tasks = append(page.Tasks, o.details(r, r.task()))
	}
	return page, nil
}

// matching is scan, of the tasks that have one of the filter's statuses: how a
// workflow ended is not all there is to that.
func (o *Operator) matching(ctx context.Context, f Filter, query string, size int, token []byte) (scanned, error) {
	page, err := o.scan(ctx, query, size, token)
	if err != nil {
		return scanned{}, err
	}
	page.tasks = slices.DeleteFunc(page.tasks, func(r *reading) bool {
		if err := o.e.settle(ctx, r); err != nil {
			page.unreadable = append(page.unreadable, fmt.Errorf("%s: %w", r.id, err))
			return true
		}
		return len(f.Statuses) > 0 && !slices.Contains(f.Statuses, r.state.Status)
	})
	return page, nil
}

// Count is how many tasks match, as far as Temporal's lists tell.
func (o *Operator) Count(ctx context.Context, f Filter) (int, error) {
	query, err := o.query(f)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	n, err := o.e.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: o.e.o.Namespace, Query: query})
	if err != nil {
		return 0, unavailable(err)
	}
	return int(n.GetCount()), nil
}

// Prune deletes the tasks that match, which wants EndedBefore, and returns how
// many, and how many could not be deleted.
func (o *Operator) Prune(ctx context.Context, f Filter) (deleted, failed int, _ error) {
	if f.EndedBefore.IsZero() {
		return 0, 0, errors.New("engine: only ended tasks can be pruned")
	}
	query, err := o.query(f)
	if err != nil {
		return 0, 0, err
	}
	for token, more := []byte(nil), true; more; more = token != nil {
		page, err := o.matching(ctx, f, query, removePage, token)
		if err != nil {
			return deleted, failed, err
		}
		d, n := o.removeAll(ctx, page, func(*reading, time.Time) bool { return true })
		deleted, failed, token = deleted+d, failed+n, page.next
	}
	return deleted, failed, nil
}

// quote is s as a value in a query. Temporal has two ways to quote in one.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// stamp is t as a time in a query, between quotes.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
