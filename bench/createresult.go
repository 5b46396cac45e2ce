package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// maxEvents is the history of a plain task: Temporal's own 11 events for a
// workflow with one activity, and one.
const maxEvents = 12

// createResult compares a task with a workflow that does the same by the bare
// SDK, client and worker in one process on either side. Longhaul's client is a
// process of its own, and speaks HTTP.
func createResult(ctx context.Context, s *stage) error {
	temporal, err := s.startTemporal()
	if err != nil {
		return err
	}
	c, err := place{TemporalAddr: temporal.addr}.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	bare, err := s.start(roleBare, place{temporal.addr, uuid.NewString()}, nil)
	if err != nil {
		return err
	}
	var at served
	longhaul, err := s.start(roleLonghaul, place{temporal.addr, uuid.NewString()}, &at)
	if err != nil {
		return err
	}
	load, err := s.start(roleLoad, at, nil)
	if err != nil {
		return err
	}

	on := func(workflow string) func(round) bareRound {
		return func(r round) bareRound { return bareRound{r, workflow} }
	}
	sides := []side{
		{name: "bare", temporal: temporal.pid, pid: bare.pid, round: rounds(bare, on(workflowActivity))},
		{name: "longhaul", temporal: temporal.pid, pid: longhaul.pid, round: rounds(load, func(r round) loadRound {
			return loadRound{r, createAndResult()}
		})},
		// What Longhaul does without, see docs/performance.md.
		{name: "bare local activity", temporal: temporal.pid, pid: bare.pid, round: rounds(bare, on(workflowLocalActivity))},
	}
	turnsEach, operations := 7, 400
	if s.short {
		turnsEach, operations = 1, 100
	}
	var history []float64
	for _, clients := range []int{1, 8, 64} {
		if err := turns(sides, turnsEach, round{clients, operations}); err != nil {
			return err
		}
		b, l, local := sides[0].all, sides[1].all, sides[2].all
		for _, r := range l.rounds {
			events, err := historyEvents(ctx, c, r.LastID)
			if err != nil {
				return err
			}
			history = append(history, float64(events))
		}
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("create-result/%d/%s", clients, what), value, unit, t)
		}
		add("throughput of bare", l.throughput()/b.throughput(), "×", atLeast(0.9))
		add("p50 of bare", ratio(l.quantile(0.5), b.quantile(0.5)), "×", atMost(1.15))
		add("own CPU of bare", ratio(l.each(l.spent), b.each(b.spent)), "×", atMost(1.5))
		add("local activity, throughput of bare", local.throughput()/b.throughput(), "×", nil)
		for _, side := range sides {
			add(side.name+" throughput", side.all.throughput(), "tasks/s", nil)
			add(side.name+" p50", millis(side.all.quantile(0.5)), "ms", nil)
			add(side.name+" p99", millis(side.all.quantile(0.99)), "ms", nil)
			add(side.name+" own CPU", millis(side.all.each(side.all.spent)), "ms/task", nil)
			add(side.name+" Temporal's CPU", millis(side.all.each(side.all.server)), "ms/task", nil)
		}
		bareRequests, requests, err := requestsEach(bare, longhaul, load, round{clients, operations})
		if err != nil {
			return err
		}
		add("bare requests", bareRequests, "requests/task", nil)
		add("longhaul requests", requests, "requests/task", nil)
	}
	s.figures.add("create-result/history", median(history), "events", atMost(maxEvents))
	return nil
}

// requestsEach is how many requests a workflow and a task make to Temporal,
// besides the polls of the workers.
func requestsEach(bare, longhaul, load *process, r round) (b, l float64, err error) {
	var before, after bareSample
	for _, reply := range []*bareSample{&before, &after} {
		if err := bare.ask(bareRound{r, workflowActivity}, reply); err != nil {
			return 0, 0, err
		}
	}
	var from, to int64
	if err := longhaul.ask(struct{}{}, &from); err != nil {
		return 0, 0, err
	}
	if err := load.ask(loadRound{r, createAndResult()}, nil); err != nil {
		return 0, 0, err
	}
	if err := longhaul.ask(struct{}{}, &to); err != nil {
		return 0, 0, err
	}
	n := float64(r.Operations)
	return float64(after.Requests-before.Requests) / n, float64(to-from) / n, nil
}

// used is a round and what it took of two processes.
type used struct {
	sample
	server, own usage
}

// measureUse makes a round and reads what it takes of Temporal and of the
// process measured.
func measureUse(server, own int, round func() (sample, error)) (u used, err error) {
	serverBefore, err := use(server)
	if err != nil {
		return u, err
	}
	ownBefore, err := use(own)
	if err != nil {
		return u, err
	}
	if u.sample, err = round(); err != nil {
		return u, err
	}
	if u.server, err = use(server); err != nil {
		return u, err
	}
	if u.own, err = use(own); err != nil {
		return u, err
	}
	u.server.cpu -= serverBefore.cpu
	u.own.cpu -= ownBefore.cpu
	return u, nil
}

func (s *samples) add(u used) {
	s.rounds = append(s.rounds, u.sample)
	s.server = append(s.server, u.server.cpu)
	s.spent = append(s.spent, u.own.cpu)
}

func historyEvents(ctx context.Context, c client.Client, id string) (n int, err error) {
	events := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for ; events.HasNext(); n++ {
		if _, err := events.Next(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
