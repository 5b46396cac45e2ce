package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	defaultPageSize = 50
	maxPageSize     = 1000
	// maxMerged bounds the new tasks that are added to a first page, each of
	// which costs a read.
	maxMerged = 100
	// fewNew tasks are read one by one, however many of them are listed already.
	fewNew = 10
)

// cursor is where a page starts.
type cursor struct {
	// Temporal is the page token of Temporal's list.
	Temporal []byte `json:"t"`
	// Closed is when at the latest what follows has closed; nil if it may be open.
	Closed *time.Time `json:"c,omitempty"`
	// Merged are the tasks that were added to the first page by hand and are
	// not shown again.
	Merged []string `json:"m,omitempty"`
}

// List implements [task.Service].
//
// Temporal lists the running tasks first, the newest before the older ones,
// and then the ended ones, the last to end first. A task that ends while
// somebody pages can therefore be seen twice. The first page may exceed the
// page size by tasks too new to be listed by Temporal yet.
func (e *Engine) List(ctx context.Context, r task.ListRequest) (*task.Page, error) {
	size := min(r.PageSize, maxPageSize)
	if size <= 0 {
		size = defaultPageSize
	}
	var at cursor
	if r.Token != nil {
		if err := json.Unmarshal(r.Token, &at); err != nil || len(at.Temporal) == 0 {
			return nil, task.ErrBadCursor
		}
	}
	owner := r.Owner.Hash()
	var created []string
	if r.Token == nil {
		var err error
		if created, err = e.invisible(ctx, owner); err != nil {
			return nil, err
		}
	}
	query := fmt.Sprintf("WorkflowType = '%s' AND %s = '%s' AND (ExecutionStatus = 'Running' OR %s > '%s' AND ExecutionStatus != 'ContinuedAsNew')",
		task.WorkflowTask, task.SearchOwner, owner,
		task.SearchExpiresAt, e.o.Now().Add(-e.o.Grace).UTC().Format(time.RFC3339Nano))
	if at.Closed != nil {
		query += fmt.Sprintf(" AND CloseTime <= '%s' AND StartTime <= '%s'",
			at.Closed.UTC().Format(time.RFC3339Nano), at.Closed.Add(clockSkew).UTC().Format(time.RFC3339Nano))
	}
	infos, next, err := e.visible(ctx, query, size, at.Temporal)
	var invalid *serviceerror.InvalidArgument
	switch {
	case r.Token != nil && errors.As(err, &invalid):
		return nil, task.ErrBadCursor
	case err != nil:
		return nil, unavailable(err)
	}

	page := &task.Page{}
	listed := make(map[string]bool)
	for _, info := range infos {
		id := info.GetExecution().GetWorkflowId()
		if listed[id] || e.deleted.has(id) || slices.Contains(at.Merged, id) {
			continue
		}
		t, err := e.decode(info)
		if err == nil {
			err = e.settle(ctx, t)
		}
		if err != nil {
			// One task that cannot be read must not hide all the others.
			e.o.Logger.Warn("a task was left out of a list", "task_id", id, "error", err)
			continue
		}
		e.watches.saw(t)
		listed[id] = true
		page.Tasks = append(page.Tasks, t.task())
	}
	if r.Token == nil {
		created = slices.DeleteFunc(created, func(id string) bool { return listed[id] })
		merged, err := e.readAll(ctx, r.Owner, created)
		if err != nil {
			return nil, err
		}
		for _, t := range merged {
			at.Merged = append(at.Merged, t.ID)
		}
		page.Tasks = append(merged, page.Tasks...)
	}
	if len(next) > 0 {
		at.Temporal = next
		at.Closed = closedBy(infos)
		if page.Next, err = json.Marshal(at); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	return page, nil
}

// invisible are the owner's newest tasks created by this process, the newest
// first, less those that Temporal can list. It may have become able to since.
func (e *Engine) invisible(ctx context.Context, ownerHash string) ([]string, error) {
	created := e.created.newest(maxMerged, func(_ string, c *creation) bool {
		return c.ownerHash == ownerHash && !c.held
	})
	if len(created) <= fewNew {
		return created, nil
	}
	infos, _, err := e.visible(ctx, fmt.Sprintf("WorkflowId IN ('%s')", strings.Join(created, "', '")), len(created), nil)
	if err != nil {
		return nil, unavailable(err)
	}
	visible := make(map[string]bool, len(infos))
	for _, info := range infos {
		visible[info.GetExecution().GetWorkflowId()] = true
	}
	return slices.DeleteFunc(created, func(id string) bool { return visible[id] }), nil
}

// readAll reads those of the owner's tasks that there are.
func (e *Engine) readAll(ctx context.Context, owner task.Owner, ids []string) ([]*task.Task, error) {
	var tasks []*task.Task
	for _, id := range ids {
		r, err := e.describeOwned(ctx, task.Ref{ID: id, Owner: owner})
		switch {
		case errors.Is(err, task.ErrNotFound), errors.Is(err, task.ErrExpired):
			continue
		case err != nil:
			return nil, err
		}
		if err := e.settle(ctx, r); err != nil {
			return nil, err
		}
		tasks = append(tasks, r.task())
	}
	return tasks, nil
}

// clockSkew is how far the clocks of Temporal's own servers may be apart.
const clockSkew = time.Second

// closedBy is when at the latest everything has closed that Temporal lists after
// these workflows, or nil if it may yet be open.
//
// It changes nothing of a page. But Temporal finds a page in an SQL database by
// going through all that are before it, unless it is told where to begin: when a
// workflow closed comes first in the order of its indices. Not every Temporal makes
// use of that (system.visibilityEnableUnifiedQueryConverter). When one has started
// is in the indices too, so those that started after this time are passed over
// without being looked into.
func closedBy(infos []*workflowpb.WorkflowExecutionInfo) *time.Time {
	if len(infos) == 0 || infos[len(infos)-1].GetCloseTime() == nil {
		return nil
	}
	closed := infos[len(infos)-1].GetCloseTime().AsTime()
	return &closed
}
