package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// removePage is how many tasks are deleted between two heartbeats, and
	// removeLimit how many of them at the same time.
	removePage  = 100
	removeLimit = 8
)

// hasClosed matches, of the runs of a task, the last one of a task that ended.
const hasClosed = "ExecutionStatus IN ('Completed', 'Failed', 'Canceled', 'Terminated', 'TimedOut')"

// Sweep deletes the ended tasks and held calls of the operator's task queue
// whose time was over at a time, sweeps that ended long ago, and what is kept for
// tasks that are no more. It goes on at from, and tells beat how far it has come.
//
// One task that cannot be read or deleted does not keep it from the others.
func (o *Operator) Sweep(ctx context.Context, in task.SweepRange, from task.SweepBeat, beat func(task.SweepBeat)) (task.SweepResult, error) {
	query := fmt.Sprintf("TaskQueue = %s AND WorkflowType IN ('%s', '%s') AND %s AND %s < '%s'",
		quote(o.e.o.TaskQueue), task.WorkflowTask, task.WorkflowCall, hasClosed, task.SearchExpiresAt, stamp(in.ExpiredBefore))
	at := from
	for {
		page, err := o.scan(ctx, query, removePage, at.Page)
		if err != nil {
			return at.Result, err
		}
		deleted, failed := o.removeAll(ctx, page, func(r *reading, began time.Time) bool {
			// Whoever created it wrote down when it expires, with a clock of its own.
			return began.Add(r.card.TTL()).Before(in.ExpiredBefore)
		})
		at.Result.Deleted += deleted
		at.Result.Failed += failed
		at.Page = page.next
		beat(at)
		if at.Page == nil {
			return at.Result, errors.Join(o.removeSweeps(ctx, in.SweptBefore), o.e.removeOrphans(ctx, func() { beat(at) }))
		}
	}
}

// scanned is a page of tasks.
type scanned struct {
	tasks      []*reading
	unreadable []error
	next       []byte // nil after the last page
}

// scan reads a page of the tasks that match a query, as visibility shows them.
func (o *Operator) scan(ctx context.Context, query string, size int, token []byte) (scanned, error) {
	infos, next, err := o.e.visible(ctx, query, size, token)
	if err != nil {
		return scanned{}, unavailable(err)
	}
	var page scanned
	if len(next) > 0 {
		page.next = next
	}
	for _, info := range infos {
		r, err := o.e.decode(info)
		if err != nil {
			page.unreadable = append(page.unreadable, fmt.Errorf("%s: %w", info.GetExecution().GetWorkflowId(), err))
			continue
		}
		page.tasks = append(page.tasks, r)
	}
	return page, nil
}

// removeAll deletes the tasks of a page that are due, and returns how many, and
// how many could not be.
func (o *Operator) removeAll(ctx context.Context, page scanned, due func(r *reading, began time.Time) bool) (deleted, failed int) {
	var (
		mu sync.Mutex
		g  errgroup.Group
	)
	errs := page.unreadable
	g.SetLimit(removeLimit)
	for _, r := range page.tasks {
		g.Go(func() error {
			removed, err := o.removeDue(ctx, r, due)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", r.id, err))
			case removed:
				deleted++
			}
			return nil
		})
	}
	_ = g.Wait() // they count their errors
	if len(errs) > 0 {
		o.e.o.Logger.Warn("tasks could not be deleted", "tasks", len(errs), "error", errs[0])
	}
	return deleted, len(errs)
}

func (o *Operator) removeDue(ctx context.Context, r *reading, due func(*reading, time.Time) bool) (bool, error) {
	earlier, err := o.e.earlierRuns(ctx, r)
	if err != nil || !r.closed() || !due(r, r.began(earlier)) {
		return false, err
	}
	return true, o.e.remove(ctx, r, earlier)
}

// removeSweeps deletes the sweeps that ended before t.
func (o *Operator) removeSweeps(ctx context.Context, t time.Time) error {
	query := fmt.Sprintf("TaskQueue = %s AND WorkflowType = '%s' AND %s AND CloseTime < '%s'",
		quote(o.e.o.TaskQueue), task.WorkflowSweep, hasClosed, stamp(t))
	infos, _, err := o.e.visible(ctx, query, removePage, nil)
	if err != nil {
		return unavailable(err)
	}
	for _, info := range infos {
		if err := o.e.removeRun(ctx, info.GetExecution()); err != nil {
			return err
		}
	}
	return nil
}
