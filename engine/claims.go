package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// Large arguments and results
//
// What is too large for Temporal is in [Options.Claims], and Temporal has a
// claim to it. Arguments are stored before the workflow starts, so a task whose
// creation was acknowledged has them; results are stored by the worker before
// the round ends. Both go with the task: after its runs, so that no task is
// left that cannot be read. What a crash leaves behind, on either way, is
// removed by the sweep.

const (
	// claimTimeout bounds one use of the store.
	claimTimeout = time.Minute
	// orphanAge is how old a set must be to be an orphan: older than the longest
	// creation of a task.
	orphanAge = 24 * time.Hour
)

func claimSet(id string, c task.Card) task.ClaimSet {
	return task.ClaimSet{TaskID: id, CreatedAt: c.CreatedAt}
}

// isClaimed reports whether the arguments of a new task are kept in the store.
// Those of a workflow function are not: it runs where nothing can be read.
func (e *Engine) isClaimed(r task.CreateRequest) bool {
	return e.o.Claims != nil && r.Workflow == "" && claims.Large(r.Arguments)
}

func (e *Engine) store(ctx context.Context, set task.ClaimSet, data []byte) (*task.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	c, err := e.o.Claims.Put(ctx, set, data)
	switch {
	case errors.Is(err, task.ErrTooLarge):
		return nil, err
	case err != nil:
		return nil, unavailable(fmt.Errorf("store the arguments: %w", err))
	}
	return &c, nil
}

// complete returns an outcome with the result that it may have only a claim to.
func (e *Engine) complete(ctx context.Context, r *reading, o *task.Outcome) (*task.Outcome, error) {
	if o.ResultClaim == nil {
		return o, nil
	}
	if e.o.Claims == nil {
		return nil, fmt.Errorf("the result of task %s: %w", r.id, task.ErrClaimMissing)
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	data, err := e.o.Claims.Get(ctx, claimSet(r.id, r.card), *o.ResultClaim)
	switch {
	case errors.Is(err, task.ErrClaimMissing), errors.Is(err, task.ErrClaimCorrupt):
		return nil, fmt.Errorf("the result of task %s: %w", r.id, err)
	case err != nil:
		return nil, unavailable(fmt.Errorf("read the result of task %s: %w", r.id, err))
	}
	whole := *o
	whole.Result, whole.ResultClaim = data, nil
	return &whole, nil
}

// forget removes what is kept for a task that is gone. If it cannot,
// the sweep will.
func (e *Engine) forget(ctx context.Context, set task.ClaimSet) {
	if e.o.Claims == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	if err := e.o.Claims.Delete(ctx, set); err != nil {
		e.o.Logger.Warn("large arguments or results could not be removed; the sweep will try again", "task_id", set.TaskID, "error", err)
	}
}

// removeOrphans removes from the store what belongs to no task, of those sets
// that are older than a day: of a task that was never started, of one whose
// deletion was cut short, of one that Temporal removed when its retention was
// over. It calls beat for each that it looks at, and goes on after what it
// cannot remove.
func (e *Engine) removeOrphans(ctx context.Context, beat func()) error {
	if e.o.Claims == nil {
		return nil
	}
	var errs []error
	for set, err := range e.o.Claims.Sets(ctx) {
		if err != nil {
			errs = append(errs, err)
			break
		}
		if e.o.Now().Sub(set.StoredAt) < orphanAge {
			continue
		}
		beat()
		orphan, err := e.isOrphan(ctx, set.ClaimSet)
		if err == nil && orphan {
			err = e.o.Claims.Delete(ctx, set.ClaimSet)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("what is kept for task %s: %w", set.TaskID, err))
		}
	}
	return errors.Join(errs...)
}

// isOrphan reports whether no task has the set: its ID is free, or that of a
// task that was created at another time.
func (e *Engine) isOrphan(ctx context.Context, set task.ClaimSet) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	d, err := e.client.DescribeWorkflowExecution(ctx, set.TaskID, "")
	if err == nil {
		var r *reading
		if r, err = e.decode(d.GetWorkflowExecutionInfo()); err == nil {
			return r.card.CreatedAt.UnixMilli() != set.CreatedAt.UnixMilli(), nil
		}
	}
	if err = translate(err); errors.Is(err, task.ErrNotFound) {
		return true, nil
	}
	return false, err
}
