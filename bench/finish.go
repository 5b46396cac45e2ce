package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"golang.org/x/sync/errgroup"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// A tool or an activity says in its result when it ended, and those who wait for
// it compare that with their own clock, which is the same machine's.

// endInput are the arguments of [toolEnd].
type endInput struct {
	After time.Duration `json:"after"`
}

// endAfter takes that long and returns the moment of its end.
func endAfter(ctx context.Context, d time.Duration) (at string, err error) {
	select {
	case <-time.After(d):
		return strconv.FormatInt(time.Now().UnixNano(), 10), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// since is the time from the moment of an end until now.
func since(at string, now time.Time) (time.Duration, error) {
	nanos, err := strconv.ParseInt(at, 10, 64)
	return now.Sub(time.Unix(0, nanos)), err
}

// What is waited for ends when the wait has long begun, and in step with
// nothing.
const (
	untilWaiting = 300 * time.Millisecond
	// A session's GET stream lets a new task be for a second at first.
	untilFollowed = time.Second + untilWaiting
)

func shaken(d time.Duration) time.Duration { return d + rand.N(100*time.Millisecond) }

// endRound is a round in which ends are waited for in one way.
type endRound struct {
	round
	Way string
}

const (
	wayGet     = "bare Get"
	wayHistory = "bare history poll"
	wayResult  = "tasks/result"
	waySame    = "tasks/result after Get of the same task"
	wayStatus  = "2025 notification"
	wayTask    = "2026 notification"
)

// maxWaiters is for how many ends is waited at a time, at most.
const maxWaiters = 8

// finish compares how soon the end of a tool reaches those who wait for it: the
// result by tasks/result with the bare SDK's own wait, and the notifications of
// both protocols with a bare long poll on all of the history.
func finish(ctx context.Context, s *stage) error {
	temporal, err := s.startTemporal()
	if err != nil {
		return err
	}
	bare, err := s.start(roleBareWaiter, place{temporal.addr, "bare"}, nil)
	if err != nil {
		return err
	}
	var at served
	longhaul, err := s.start(roleLonghaul, place{temporal.addr, "longhaul"}, &at)
	if err != nil {
		return err
	}
	waiter, err := s.start(roleWaiter, waited{at, place{temporal.addr, "longhaul"}, maxWaiters}, nil)
	if err != nil {
		return err
	}
	way := func(name string, waiter *process, pid int) side {
		return side{name: name, temporal: temporal.pid, pid: pid, round: rounds(waiter, func(r round) endRound { return endRound{r, name} })}
	}
	results := []side{
		way(wayGet, bare, bare.pid),
		way(wayResult, waiter, longhaul.pid),
		way(waySame, waiter, longhaul.pid),
	}
	pushes := []side{
		way(wayHistory, bare, bare.pid),
		way(wayStatus, waiter, longhaul.pid),
		way(wayTask, waiter, longhaul.pid),
	}
	// With one waiter a round has few ends, and medians of few differ by
	// milliseconds by chance. The results are compared by a difference, which is
	// smaller than that.
	type size struct{ clients, results, pushes int }
	sizes, each := []size{{1, 30, 15}, {maxWaiters, 15, 5}}, 10
	if s.short {
		sizes, each = []size{{maxWaiters, 1, 1}}, 1
	}
	for _, size := range sizes {
		clients := size.clients
		if err := turns(results, size.results, round{clients, clients * each}); err != nil {
			return err
		}
		if err := turns(pushes, size.pushes, round{clients, clients * each}); err != nil {
			return err
		}
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("finish/%d/%s", clients, what), value, unit, t)
		}
		sides := slices.Concat(results, pushes)
		p50 := make(map[string]time.Duration)
		for _, side := range sides {
			p50[side.name] = side.all.quantile(0.5)
		}
		add("tasks/result p50 over bare Get", millis(p50[wayResult]-p50[wayGet]), "ms", atMost(2))
		add("2025 notification p50 of bare history poll", ratio(p50[wayStatus], p50[wayHistory]), "×", atMost(1.5))
		add("2026 notification p50 of bare history poll", ratio(p50[wayTask], p50[wayHistory]), "×", atMost(1.5))
		for _, side := range sides {
			add(side.name+" p50", millis(p50[side.name]), "ms", nil)
			add(side.name+" p99", millis(side.all.quantile(0.99)), "ms", nil)
		}
	}
	return nil
}

// roleBareWaiter waits for workflows of its own by the bare SDK.
const roleBareWaiter = "bare-waiter"

func runBareWaiter(ctx context.Context, r *role) error {
	var at place
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	c, stop, err := startBare(ctx, at, func(ctx context.Context, in string) (string, error) {
		d, err := time.ParseDuration(in)
		if err != nil {
			return "", err
		}
		return endAfter(ctx, d)
	})
	if err != nil {
		return err
	}
	defer stop()
	return serveWaits(r, map[string]func() (string, time.Duration, error){
		wayGet: func() (string, time.Duration, error) {
			run, err := at.execute(ctx, c, workflowActivity, shaken(untilWaiting).String())
			if err != nil {
				return "", 0, err
			}
			var ended string
			if err := run.Get(ctx, &ended); err != nil {
				return "", 0, err
			}
			latency, err := since(ended, time.Now())
			return run.GetID(), latency, err
		},
		wayHistory: func() (string, time.Duration, error) {
			run, err := at.execute(ctx, c, workflowActivity, shaken(untilWaiting).String())
			if err != nil {
				return "", 0, err
			}
			latency, err := followHistory(ctx, c, run)
			return run.GetID(), latency, err
		},
	})
}

// followHistory reads a run's events as they come, and returns how old the end
// of its activity is when the run has closed.
func followHistory(ctx context.Context, c client.Client, run client.WorkflowRun) (time.Duration, error) {
	const wait = true
	events := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), wait, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		now := time.Now()
		if err != nil {
			return 0, err
		}
		completed := event.GetWorkflowExecutionCompletedEventAttributes()
		if completed == nil {
			continue
		}
		var ended string
		if err := converter.GetDefaultDataConverter().FromPayloads(completed.GetResult(), &ended); err != nil {
			return 0, err
		}
		return since(ended, now)
	}
	return 0, errors.New("the workflow has not completed")
}

// roleWaiter waits for tasks of its own by MCP, one at a time in each session.
const roleWaiter = "waiter"

// waited is where [roleWaiter] has its tasks, where their workflows are, and for
// how many it waits at most at a time.
type waited struct {
	served
	place
	Clients int
}

func runWaiter(ctx context.Context, r *role) error {
	var at waited
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	temporal, err := at.dial(ctx)
	if err != nil {
		return err
	}
	defer temporal.Close()
	// A client keeps its session, as the SDK keeps its connection.
	sessions := make(chan *taskclient.Client, at.Clients)
	for range cap(sessions) {
		c, err := taskclient.Connect(ctx, at.Endpoint)
		if err != nil {
			return err
		}
		defer c.Close()
		sessions <- c
	}
	inSession := func(wait func(*taskclient.Client) (string, time.Duration, error)) func() (string, time.Duration, error) {
		return func() (string, time.Duration, error) {
			c := <-sessions
			defer func() { sessions <- c }()
			return wait(c)
		}
	}
	// But the GET stream of one tells of all of its tasks.
	inNewSession := func(wait func(*taskclient.Client) (string, time.Duration, error)) func() (string, time.Duration, error) {
		return func() (string, time.Duration, error) {
			c, err := taskclient.Connect(ctx, at.Endpoint)
			if err != nil {
				return "", 0, err
			}
			defer c.Close()
			return wait(c)
		}
	}
	return serveWaits(r, map[string]func() (string, time.Duration, error){
		wayResult: inSession(func(c *taskclient.Client) (string, time.Duration, error) {
			id, err := c.Create(ctx, toolEnd, endInput{shaken(untilWaiting)})
			if err != nil {
				return "", 0, err
			}
			var ended textResult
			if err := c.Result(ctx, id, &ended); err != nil {
				return "", 0, err
			}
			latency, err := since(ended.text(), time.Now())
			return id, latency, err
		}),
		// Both wait for one end, so that none of what comes before it is in the
		// difference, nor in its spread.
		waySame: inSession(func(c *taskclient.Client) (string, time.Duration, error) {
			id, err := c.Create(ctx, toolEnd, endInput{shaken(untilWaiting)})
			if err != nil {
				return "", 0, err
			}
			var got time.Time
			var g errgroup.Group
			g.Go(func() error {
				err := temporal.GetWorkflow(ctx, id, "").Get(ctx, nil)
				got = time.Now()
				return err
			})
			if err := c.Result(ctx, id, nil); err != nil {
				return "", 0, err
			}
			answered := time.Now()
			err = g.Wait()
			return id, answered.Sub(got), err
		}),
		wayStatus: inNewSession(func(c *taskclient.Client) (string, time.Duration, error) {
			stream, err := c.Listen(ctx)
			if err != nil {
				return "", 0, err
			}
			defer stream.Close()
			id, err := c.Create(ctx, toolEnd, endInput{shaken(untilFollowed)})
			if err != nil {
				return "", 0, err
			}
			_, now, err := awaitEnd(stream)
			if err != nil {
				return "", 0, err
			}
			var ended textResult // which the notification has not
			if err := c.Result(ctx, id, &ended); err != nil {
				return "", 0, err
			}
			latency, err := since(ended.text(), now)
			return id, latency, err
		}),
		wayTask: inSession(func(c *taskclient.Client) (string, time.Duration, error) {
			id, err := c.Create(ctx, toolEnd, endInput{shaken(untilWaiting)})
			if err != nil {
				return "", 0, err
			}
			stream, err := taskclient.Subscribe(ctx, at.Endpoint, id)
			if err != nil {
				return "", 0, err
			}
			defer stream.Close()
			ended, now, err := awaitEnd(stream)
			if err != nil {
				return "", 0, err
			}
			latency, err := since(ended.text(), now)
			return id, latency, err
		}),
	})
}

// textResult is the result of a tool that returns a text.
type textResult struct {
	Content []struct{ Text string }
}

func (r textResult) text() string {
	if len(r.Content) == 0 {
		return ""
	}
	return r.Content[0].Text
}

// awaitEnd reads a stream until it says that a task has completed, and returns
// its result, if the stream tells, and when that was.
func awaitEnd(stream *taskclient.Stream) (result textResult, now time.Time, err error) {
	for {
		n, err := stream.Next()
		now := time.Now()
		if err != nil {
			return textResult{}, now, err
		}
		var state struct {
			Status string
			Result textResult
		}
		if err := json.Unmarshal(n.Params, &state); err != nil {
			return textResult{}, now, err
		}
		switch state.Status {
		case "completed":
			return state.Result, now, nil
		case "failed", "cancelled":
			return textResult{}, now, fmt.Errorf("the task has ended otherwise: %s", n.Params)
		}
	}
}

// serveWaits says that the role is ready, and answers rounds of these ways.
func serveWaits(r *role, ways map[string]func() (string, time.Duration, error)) error {
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	return serve(r, func(n endRound) (sample, error) {
		wait, ok := ways[n.Way]
		if !ok {
			return sample{}, fmt.Errorf("there is no way %q", n.Way)
		}
		return measureLatency(n.round, wait)
	})
}
