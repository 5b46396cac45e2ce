package cluster_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// drainBound is what a process has on top of its stop timeout to end in.
const drainBound = 15 * time.Second

// terminate ends a process in an orderly way, and fails if that takes longer
// than the stop timeout and a bit, or ends with another code than 0.
func terminate(t *testing.T, p *cluster.Process, stopTimeout time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stopTimeout+drainBound)
	defer cancel()
	must(t, p.Terminate(ctx))
}

// worker is the worker that has begun the call with the label last.
func worker(t *testing.T, c *cluster.Cluster, label string) *cluster.Process {
	t.Helper()
	all, err := c.Effects.Read()
	must(t, err)
	for _, e := range slices.Backward(all) {
		if e.Label == label {
			return c.Process(e.Process)
		}
	}
	t.Fatalf("no worker has called a tool with %q", label)
	return nil
}

// A worker that is told to stop takes no new rounds, and loses none.
func TestWorkerDrains(t *testing.T) {
	t.Parallel()
	const stopTimeout = 10 * time.Second
	start := func(t *testing.T, stopTimeout time.Duration) (context.Context, *cluster.Cluster) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		t.Cleanup(cancel)
		return ctx, cluster.Test(t, cluster.Options{
			Binaries: binaries, APIs: 1, WorkerArgs: []string{"--stop-timeout", stopTimeout.String()},
		})
	}
	t.Run("a round that may not be run twice ends within the stop timeout", func(t *testing.T) {
		ctx, c := start(t, stopTimeout)
		client := connect(ctx, t, c.APIs[0])
		id, err := client.Create(ctx, "plain__once", object{"label": "once", "ms": 2000})
		must(t, err)
		awaitEffect(ctx, t, c, "once")
		terminate(t, worker(t, c, "once"), stopTimeout)
		wantResult(ctx, t, client, id, "once")
		wantEffects(t, c, effects.Began, 1)
		wantEffects(t, c, effects.Happened, 1)
	})
	t.Run("a round that may goes to another worker at once", func(t *testing.T) {
		ctx, c := start(t, time.Hour)
		client := connect(ctx, t, c.APIs[0])
		id, err := client.Create(ctx, "plain__slow", object{"label": "slow", "ms": 5000})
		must(t, err)
		awaitEffect(ctx, t, c, "slow")
		first := worker(t, c, "slow")
		terminate(t, first, 0)
		wantResult(ctx, t, client, id, "slow")
		if second := worker(t, c, "slow"); second == first {
			t.Errorf("the round was not run again after %s had stopped", first.Name)
		}
		wantEffects(t, c, effects.Began, 2)
	})
	t.Run("a held round goes on elsewhere, with the question it had and the answer it got", func(t *testing.T) {
		ctx, c := start(t, time.Hour)
		asked := make(chan struct{}, 10)
		answer := make(chan struct{})
		client, err := taskclient.ConnectAnswering(ctx, c.APIs[0].URL(), map[string]taskclient.Answer{
			"elicitation/create": func(ctx context.Context, _ json.RawMessage) (any, error) {
				asked <- struct{}{}
				select {
				case <-answer:
				case <-ctx.Done():
				}
				return object{"action": "accept", "content": object{"value": "yes"}}, nil
			},
		})
		must(t, err)
		id, err := client.Create(ctx, "held__ask", object{"label": "held", "questions": 1})
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- client.Result(ctx, id, nil) }()
		<-asked
		first := worker(t, c, "held")
		terminate(t, first, 0)
		awaitBegan(ctx, t, c, 2)
		close(answer)
		must(t, <-ended)
		if n := len(asked); n > 0 {
			t.Errorf("the same was asked %d times more", n)
		}
		wantEffects(t, c, effects.Answered, 1)
	})
	t.Run("a round that outlives the stop timeout and may not be run twice fails, saying so", func(t *testing.T) {
		ctx, c := start(t, time.Second)
		client := connect(ctx, t, c.APIs[0])
		long, err := client.Create(ctx, "plain__once", object{"label": "long", "ms": 600_000})
		must(t, err)
		awaitEffect(ctx, t, c, "long")
		terminate(t, worker(t, c, "long"), time.Second)
		if err := client.Result(ctx, long, nil); err == nil || !strings.Contains(err.Error(), "outcome is unknown") {
			t.Errorf("the task ended with %v", err)
		}
		wantEffects(t, c, effects.Began, 1)
	})
}

func awaitBegan(ctx context.Context, t *testing.T, c *cluster.Cluster, n int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := c.Effects.Read()
		must(t, err)
		began := 0
		for _, e := range all {
			if e.Kind == effects.Began {
				began++
			}
		}
		if began >= n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("tools were called %d times, not %d", began, n)
		}
	}
}

// An api that is told to stop ends what waits in a way that makes clients come
// back, to another one.
func TestAPIDrains(t *testing.T) {
	ctx, c := setup(t)
	first, second := connect(ctx, t, c.APIs[0]), connect(ctx, t, c.APIs[1])
	waited, err := c.Arm("result-waits")
	must(t, err)
	id, err := first.Create(ctx, "plain__slow", object{"label": "slow", "ms": 10_000})
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- first.Result(ctx, id, nil) }()
	(<-waited.Hits()).Go()
	waited.Disarm()
	held := make(chan error, 1)
	go func() {
		held <- first.Do(ctx, "tools/call", object{"name": "plain__slow", "arguments": object{"label": "held", "ms": 10_000}}, nil)
	}()
	awaitEffect(ctx, t, c, "held")

	terminate(t, c.APIs[0], 0)
	for says, err := range map[string]error{"Nothing is lost: ask again.": <-ended, "The call goes on": <-held} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a request ended with %v, which should say %q", err, says)
		}
	}
	wantResult(ctx, t, second, id, "slow")
	must(t, c.APIs[0].Start(ctx))
	wantResult(ctx, t, first, id, "slow")
}
