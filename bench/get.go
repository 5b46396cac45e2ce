package main

import (
	"context"
	"fmt"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// roleDescribe reads a workflow by the bare SDK. Its requests after the first
// are rounds.
const roleDescribe = "describe"

// described is a workflow.
type described struct {
	place
	ID string
}

func runDescribe(ctx context.Context, r *role) error {
	var at described
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	c, err := at.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	return serve(r, func(n round) (sample, error) {
		return measure(n, func() (string, error) {
			_, err := c.DescribeWorkflowExecution(ctx, at.ID, "")
			return at.ID, err
		})
	})
}

// get compares tasks/get with a bare Describe of the same workflow. A task is
// cold if nobody watches it, hot if somebody does, and closed if it has ended.
func get(ctx context.Context, s *stage) error {
	temporal, err := s.startTemporal()
	if err != nil {
		return err
	}
	if _, _, err := s.startCommand(temporal, "worker"); err != nil {
		return err
	}
	api, endpoint, err := s.startCommand(temporal, "api", "--hot-reads")
	if err != nil {
		return err
	}
	c, err := taskclient.Connect(ctx, endpoint)
	if err != nil {
		return err
	}
	working := func() (id string, err error) {
		if id, err = c.Create(ctx, toolWait, struct{}{}); err == nil {
			s.onClose(func() { _, _ = c.Cancel(context.WithoutCancel(ctx), id) })
		}
		return id, err
	}
	cold, err := working()
	if err != nil {
		return err
	}
	hot, err := working()
	if err != nil {
		return err
	}
	watch, err := taskclient.Subscribe(ctx, endpoint, hot)
	if err != nil {
		return err
	}
	s.onClose(watch.Close)
	closed, err := c.Create(ctx, toolNothing, struct{}{})
	if err != nil {
		return err
	}
	if err := c.Result(ctx, closed, nil); err != nil {
		return err
	}

	bare, err := s.start(roleDescribe, described{place{TemporalAddr: temporal.addr}, cold}, nil)
	if err != nil {
		return err
	}
	load, err := s.start(roleLoad, served{endpoint}, nil)
	if err != nil {
		return err
	}
	reads := func(name, id, status string) side {
		return side{name: name, temporal: temporal.pid, pid: api, round: rounds(load, func(r round) loadRound {
			return loadRound{r, read(id, status)}
		})}
	}
	sides := []side{
		{name: "bare Describe", temporal: temporal.pid, pid: bare.pid, round: rounds(bare, func(r round) round { return r })},
		reads("cold", cold, "working"),
		reads("hot", hot, "working"),
		reads("closed", closed, "completed"),
	}
	n, operations := 7, 1500
	if s.short {
		n, operations = 1, 100
	}
	for _, clients := range []int{1, 8, 64} {
		if err := turns(sides, n, round{clients, operations}); err != nil {
			return err
		}
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("get/%d/%s", clients, what), value, unit, t)
		}
		describe, cold := sides[0].all, sides[1].all
		add("cold p50 of Describe", ratio(cold.quantile(0.5), describe.quantile(0.5)), "×", atMost(1.5))
		var tail *target
		if clients == 64 {
			tail = atMost(2)
		}
		add("cold p99 of Describe", ratio(cold.quantile(0.99), describe.quantile(0.99)), "×", tail)
		for _, side := range sides {
			add(side.name+" throughput", side.all.throughput(), "reads/s", nil)
			add(side.name+" p50", millis(side.all.quantile(0.5)), "ms", nil)
			add(side.name+" p99", millis(side.all.quantile(0.99)), "ms", nil)
			add(side.name+" own CPU", millis(side.all.each(side.all.spent)), "ms/read", nil)
			add(side.name+" Temporal's CPU", millis(side.all.each(side.all.server)), "ms/read", nil)
		}
	}
	return nil
}
