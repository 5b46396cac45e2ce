package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// list compares pages of tasks/list: a far one with the first, and those of a
// database with many tasks with those of one that has few. [growth] does it with
// very many.
func list(ctx context.Context, s *stage) error {
	few, many := &filled{tasks: 1000}, &filled{tasks: 10_000}
	if s.short {
		few.tasks, many.tasks = 110, 200
	}
	for _, f := range []*filled{few, many} {
		var err error
		if f.temporal, err = s.startTemporal(); err != nil {
			return err
		}
		if err := s.fill(ctx, f); err != nil {
			return err
		}
	}
	return s.comparePages(ctx, "list", few, many)
}

// filled is a Temporal with so many tasks that have ended.
type filled struct {
	temporal *temporal
	tasks    int
}

// comparePages adds the figures of the pages that are read where few and where
// many tasks are stored.
func (s *stage) comparePages(ctx context.Context, prefix string, few, many *filled) error {
	// So long that Temporal collects its garbage in each round: that of many tasks
	// takes as long as a hundred pages.
	far, n, operations := 10, 7, 400
	if s.short {
		far, n, operations = 3, 1, 20
	}
	var sides []side
	for _, f := range []*filled{few, many} {
		pages, err := s.listSides(ctx, f.temporal, far)
		if err != nil {
			return err
		}
		sides = append(sides, pages...)
	}
	for _, clients := range []int{1, 8} {
		if err := turns(sides, n, round{clients, operations}); err != nil {
			return err
		}
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("%s/%d/%s", prefix, clients, what), value, unit, t)
		}
		p50 := func(i int) time.Duration { return sides[i].all.quantile(0.5) }
		const fewFirst, fewFar, manyFirst, manyFar = 0, 1, 2, 3
		add(fmt.Sprintf("page %d p50 of page 1, %d tasks", far, few.tasks), ratio(p50(fewFar), p50(fewFirst)), "×", atMost(1.3))
		add(fmt.Sprintf("page %d p50 of page 1, %d tasks", far, many.tasks), ratio(p50(manyFar), p50(manyFirst)), "×", atMost(1.3))
		add(fmt.Sprintf("page 1 p50, %d tasks of %d", many.tasks, few.tasks), ratio(p50(manyFirst), p50(fewFirst)), "×", atMost(1.3))
		add(fmt.Sprintf("page %d p50, %d tasks of %d", far, many.tasks, few.tasks), ratio(p50(manyFar), p50(fewFar)), "×", atMost(1.3))
		for i, side := range sides {
			name := fmt.Sprintf("%s, %d tasks", side.name, []int{few.tasks, many.tasks}[i/2])
			add(name+" p50", millis(side.all.quantile(0.5)), "ms", nil)
			add(name+" p99", millis(side.all.quantile(0.99)), "ms", nil)
			add(name+" own CPU", millis(side.all.each(side.all.spent)), "ms/page", nil)
			add(name+" Temporal's CPU", millis(side.all.each(side.all.server)), "ms/page", nil)
		}
	}
	return nil
}

// fill runs tasks to their end until there are as many as there are to be, and
// they can be listed.
func (s *stage) fill(ctx context.Context, f *filled) error {
	var at served
	if _, err := s.start(roleLonghaul, place{f.temporal.addr, "list"}, &at); err != nil {
		return err
	}
	load, err := s.start(roleLoad, at, nil)
	if err != nil {
		return err
	}
	if err := load.ask(loadRound{round{16, f.tasks}, createAndResult()}, &sample{}); err != nil {
		return err
	}
	c, err := place{TemporalAddr: f.temporal.addr}.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		stored, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: client.DefaultNamespace, Query: "ExecutionStatus = 'Completed'",
		})
		if err != nil {
			return err
		}
		if int(stored.GetCount()) >= f.tasks {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listSides are reads of the first page and of a far one of all the tasks, by
// an api that has created none of them.
func (s *stage) listSides(ctx context.Context, t *temporal, far int) ([]side, error) {
	api, endpoint, err := s.startCommand(t, "api")
	if err != nil {
		return nil, err
	}
	cursor, err := cursorOf(ctx, endpoint, far)
	if err != nil {
		return nil, err
	}
	load, err := s.start(roleLoad, served{endpoint}, nil)
	if err != nil {
		return nil, err
	}
	page := func(name, cursor string) side {
		return side{name: name, temporal: t.pid, pid: api, round: rounds(load, func(r round) loadRound {
			return loadRound{r, listed(cursor)}
		})}
	}
	return []side{page("page 1", ""), page(fmt.Sprintf("page %d", far), cursor)}, nil
}

// cursorOf is the cursor of a page of tasks/list, which are counted from 1.
func cursorOf(ctx context.Context, endpoint string, number int) (cursor string, err error) {
	c, err := taskclient.Connect(ctx, endpoint)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for range number - 1 {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		var page struct{ NextCursor string }
		if err := c.Do(ctx, "tasks/list", params, &page); err != nil {
			return "", err
		}
		if cursor = page.NextCursor; cursor == "" {
			return "", fmt.Errorf("there is no page %d of the list", number)
		}
	}
	return cursor, nil
}
