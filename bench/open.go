package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
	"github.com/longhaul-mcp/longhaul/task"
)

// mega is the unit of memory.
const mega = 1 << 20

// What 10,000 open tasks may take, 1,000 of them watched.
const (
	maxOpenMemory = 400 // MB, of api and worker together
	maxOpenGet    = 50  // ms, the 99th percentile of tasks/get
	maxOpenIdle   = 5   // percent of a core, of api and worker together
)

// openTasks measures what tasks take that are open and do nothing, of the
// product's own processes: an api and a worker. Nearly all of them wait for
// input; a few have a round that runs. A tenth is watched, half by a tasks/result
// each, half by subscriptions of 100.
func openTasks(ctx context.Context, s *stage) error {
	plan := openPlan{Asking: 9_900, Running: 100, Waited: 500, Subscribed: 500}
	idle, gets := time.Minute, 4_000 // longer than a long poll
	if s.short {
		plan = openPlan{Asking: 150, Running: 10, Waited: 10, Subscribed: 120}
		idle, gets = time.Second, 200
	}
	temporal, err := s.startTemporal()
	if err != nil {
		return err
	}
	workerPID, _, err := s.startCommand(temporal, "worker", "--stop-timeout", "1s")
	if err != nil {
		return err
	}
	apiPID, endpoint, err := s.startCommand(temporal, "api")
	if err != nil {
		return err
	}
	processes := []*idler{{name: "api", pid: apiPID}, {name: "worker", pid: workerPID}, {name: "Temporal", pid: temporal.pid}}
	note := func(to func(*idler) *usage) (err error) {
		for _, p := range processes {
			if *to(p), err = use(p.pid); err != nil {
				return err
			}
		}
		return nil
	}
	if err := note(func(p *idler) *usage { return &p.empty }); err != nil {
		return err
	}

	plan.Endpoint = endpoint
	begun := time.Now()
	owner, err := s.start(roleOwner, plan, nil)
	if err != nil {
		return err
	}
	if err := awaitAsking(ctx, temporal.addr, plan.Asking); err != nil {
		return err
	}
	opened := time.Since(begun)
	if err := owner.ask(struct{}{}, nil); err != nil { // it watches
		return err
	}

	if err := note(func(p *idler) *usage { return &p.before }); err != nil {
		return err
	}
	if err := rest(ctx, idle); err != nil {
		return err
	}
	if err := note(func(p *idler) *usage { return &p.after }); err != nil {
		return err
	}
	var reads sample
	for _, n := range []int{gets / 10, gets} { // the first to warm up
		if err := owner.ask(round{8, n}, &reads); err != nil {
			return err
		}
	}
	got := samples{rounds: []sample{reads}}

	add := func(what string, value float64, unit string, t *target) { s.figures.add("open/"+what, value, unit, t) }
	api, worker := processes[0], processes[1]
	add("RSS of api and worker", api.memory()+worker.memory(), "MB", atMost(maxOpenMemory))
	add("idle CPU of api and worker", api.share(idle)+worker.share(idle), "% of a core", atMost(maxOpenIdle))
	add("tasks/get p99", millis(got.quantile(0.99)), "ms", atMost(maxOpenGet))
	add("tasks/get p50", millis(got.quantile(0.5)), "ms", nil)
	add("tasks/get throughput", got.throughput(), "reads/s", nil)
	for _, p := range processes {
		add(p.name+" RSS", p.memory(), "MB", nil)
		add(p.name+" RSS without tasks", float64(p.empty.rss)/mega, "MB", nil)
		add(p.name+" CPU to open them", millis(p.before.cpu-p.empty.cpu)/float64(plan.Asking+plan.Running), "ms/task", nil)
		add(p.name+" idle CPU", p.share(idle), "% of a core", nil)
		add(p.name+" descriptors", float64(p.after.descriptors), "", nil)
	}
	add("opened at", float64(plan.Asking+plan.Running)/opened.Seconds(), "tasks/s", nil)
	return nil
}

// idler is a process, and what it used before there were tasks and at the
// beginning and end of a time in which nothing happened.
type idler struct {
	name                 string
	pid                  int
	empty, before, after usage
}

// memory is what it had at most, in MB.
func (p *idler) memory() float64 { return float64(max(p.before.rss, p.after.rss)) / mega }

// share is what it took of a core in that time, in percent.
func (p *idler) share(idle time.Duration) float64 {
	return 100 * (p.after.cpu - p.before.cpu).Seconds() / idle.Seconds()
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitAsking waits until as many tasks wait for input.
func awaitAsking(ctx context.Context, addr string, n int) error {
	c, err := place{TemporalAddr: addr}.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		count, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: client.DefaultNamespace,
			Query:     fmt.Sprintf("%s = %s", task.SearchStatus, strconv.Quote(string(task.StatusInputRequired))),
		})
		if err != nil || int(count.GetCount()) >= n {
			return err
		}
		if err := rest(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// roleOwner is the client of many open tasks. Its first request is an
// [openPlan], and it replies when they are created; at its second it begins to
// watch, and replies when it does; those after that are rounds of tasks/get.
const roleOwner = "owner"

// openPlan says how many tasks there are to be, and how many are watched.
type openPlan struct {
	served
	Asking, Running    int
	Waited, Subscribed int // by a tasks/result each; by subscriptions
}

// creators are the clients that create the tasks, and perSubscription is how
// many a subscription may name.
const (
	creators        = 16
	perSubscription = 100
)

func runOwner(ctx context.Context, r *role) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var plan openPlan
	if err := r.in.Decode(&plan); err != nil {
		return err
	}
	o := owner{endpoint: plan.Endpoint, watches: make(chan error)}
	var err error
	if o.Client, err = taskclient.ConnectAnswering(ctx, plan.Endpoint, map[string]taskclient.Answer{task.MethodElicit: o.think}); err != nil {
		return err
	}
	// Those that run come first, so that theirs are the first rounds.
	running, err := o.create(ctx, toolWait, plan.Running)
	if err != nil {
		return err
	}
	asking, err := o.create(ctx, toolAsk, plan.Asking)
	if err != nil {
		return err
	}
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	if err := r.in.Decode(&struct{}{}); err != nil {
		return err
	}
	if err := o.watchAll(ctx, asking[:plan.Waited], slices.Concat(running, asking[plan.Waited:])[:plan.Subscribed]); err != nil {
		return err
	}
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	all := slices.Concat(running, asking)
	return serve(r, func(n round) (sample, error) {
		return measure(n, func() (string, error) {
			id := all[rand.IntN(len(all))]
			_, err := o.Get(ctx, id)
			return id, err
		})
	})
}

// owner is the client of [roleOwner].
type owner struct {
	*taskclient.Client
	endpoint string
	// watches has an entry for every task that is watched, and why one no longer is.
	watches chan error
}

// watchAll waits for the results of some tasks and subscribes to others. It
// returns when all are watched. Only so many begin at a time.
func (o *owner) watchAll(ctx context.Context, waited, subscribed []string) error {
	await := func(n int) error {
		for range n {
			if err := <-o.watches; err != nil {
				return err
			}
		}
		return nil
	}
	for ids := range slices.Chunk(waited, creators) {
		for _, id := range ids {
			go func() {
				err := o.Result(ctx, id, nil)
				o.watch(ctx, fmt.Errorf("a tasks/result has ended: %w", err))
			}()
		}
		if err := await(len(ids)); err != nil {
			return err
		}
	}
	for ids := range slices.Chunk(subscribed, perSubscription) {
		go func() { o.watch(ctx, o.subscribe(ctx, ids)) }()
		if err := await(len(ids)); err != nil {
			return err
		}
	}
	return nil
}

func (o *owner) watch(ctx context.Context, ended error) {
	select {
	case o.watches <- ended:
	case <-ctx.Done():
	}
}

// think does not answer.
func (o *owner) think(ctx context.Context, _ json.RawMessage) (any, error) {
	o.watch(ctx, nil)
	<-ctx.Done()
	return nil, ctx.Err()
}

// create creates n tasks.
func (o *owner) create(ctx context.Context, tool string, n int) (ids []string, err error) {
	var mu sync.Mutex
	_, err = measure(round{creators, n}, func() (string, error) {
		id, err := o.Create(ctx, tool, struct{}{})
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		return id, err
	})
	return ids, err
}

// subscribe subscribes to tasks. It returns when that has ended.
func (o *owner) subscribe(ctx context.Context, ids []string) error {
	s, err := taskclient.Subscribe(ctx, o.endpoint, ids...)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		n, err := s.Next()
		if err != nil {
			return err
		}
		if n.Method == "notifications/tasks" {
			o.watch(ctx, nil)
		}
	}
}
