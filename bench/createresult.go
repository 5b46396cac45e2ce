package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
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

	sides := []struct {
		name  string
		pid   int
		round func(round) (sample, error)
		all   samples
	}{
		{name: "bare", pid: bare.pid, round: func(r round) (out sample, err error) {
			return out, bare.ask(r, &out)
		}},
		{name: "longhaul", pid: longhaul.pid, round: func(r round) (out sample, err error) {
			return out, load.ask(loadRound{r, createAndResult()}, &out)
		}},
	}
	rounds, operations := 7, 400
	if s.short {
		rounds, operations = 1, 100
	}
	var history []float64
	for _, clients := range []int{1, 8, 64} {
		for i := range sides {
			sides[i].all = samples{}
			if _, err := sides[i].round(round{clients, operations / 4}); err != nil { // to warm up
				return err
			}
		}
		for range rounds {
			for i := range sides {
				side := &sides[i]
				one, err := measureUse(temporal.pid, side.pid, func() (sample, error) { return side.round(round{clients, operations}) })
				if err != nil {
					return err
				}
				side.all.add(one)
			}
			last := sides[1].all.rounds[len(sides[1].all.rounds)-1].LastID
			events, err := historyEvents(ctx, temporal.addr, last)
			if err != nil {
				return err
			}
			history = append(history, float64(events))
		}
		b, l := sides[0].all, sides[1].all
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("create-result/%d/%s", clients, what), value, unit, t)
		}
		add("throughput of bare", l.throughput()/b.throughput(), "×", atLeast(0.9))
		add("p50 of bare", ratio(l.quantile(0.5), b.quantile(0.5)), "×", atMost(1.15))
		add("own CPU of bare", ratio(l.each(l.spent), b.each(b.spent)), "×", atMost(1.5))
		for _, side := range sides {
			add(side.name+" throughput", side.all.throughput(), "tasks/s", nil)
			add(side.name+" p50", millis(side.all.quantile(0.5)), "ms", nil)
			add(side.name+" p99", millis(side.all.quantile(0.99)), "ms", nil)
			add(side.name+" own CPU", millis(side.all.each(side.all.spent)), "ms/task", nil)
			add(side.name+" Temporal's CPU", millis(side.all.each(side.all.server)), "ms/task", nil)
		}
	}
	s.figures.add("create-result/history", median(history), "events", atMost(maxEvents))
	return nil
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

func historyEvents(ctx context.Context, addr, id string) (n int, err error) {
	c, err := place{TemporalAddr: addr}.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	events := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for ; events.HasNext(); n++ {
		if _, err := events.Next(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
