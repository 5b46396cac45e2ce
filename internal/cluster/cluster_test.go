package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/internal/failpoint"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

var binaries cluster.Binaries

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, &binaries)) }

const patience = time.Minute

type object = map[string]any

// setup starts a cluster for a test, which runs beside others.
func setup(t *testing.T) (context.Context, *cluster.Cluster) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx, cluster.Test(t, cluster.Options{Binaries: binaries})
}

func connect(ctx context.Context, t *testing.T, p *cluster.Process) *taskclient.Client {
	t.Helper()
	c, err := taskclient.Connect(ctx, p.URL())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create calls a tool as a task, once for each key.
func create(ctx context.Context, c *taskclient.Client, key, tool string, arguments object) (id string, err error) {
	var created struct{ Task struct{ TaskID string } }
	err = c.Do(ctx, "tools/call", object{
		"name": tool, "arguments": arguments, "task": object{}, "_meta": object{"io.longhaul/idempotency-key": key},
	}, &created)
	return created.Task.TaskID, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantResult(ctx context.Context, t *testing.T, c *taskclient.Client, id, label string) {
	t.Helper()
	var result struct{ StructuredContent struct{ Label string } }
	must(t, c.Result(ctx, id, &result))
	if got := result.StructuredContent.Label; got != label {
		t.Errorf("the result of task %s is that of %q, not of %q", id, got, label)
	}
}

func TestFailpoint(t *testing.T) {
	t.Parallel()
	t.Run("an api is killed between the start of a task and the reply", func(t *testing.T) {
		ctx, c := setup(t)
		first, second := connect(ctx, t, c.APIs[0]), connect(ctx, t, c.APIs[1])
		started, err := c.Arm("task-started")
		must(t, err)
		lost := make(chan error, 1)
		go func() {
			_, err := create(ctx, first, "key", "plain__commit", object{"label": "a"})
			lost <- err
		}()
		hit := <-started.Hits()
		if hit.Process != "api-1" {
			t.Errorf("it is %s that has started a task", hit.Process)
		}
		c.Process(hit.Process).Kill()
		if err := <-lost; err == nil {
			t.Fatal("a killed api has replied")
		}
		started.Disarm()

		id, err := create(ctx, second, "key", "plain__commit", object{"label": "a"})
		must(t, err)
		wantResult(ctx, t, second, id, "a")
		must(t, c.APIs[0].Start(ctx))
		// On the session and under the address it had.
		wantResult(ctx, t, first, id, "a")
		wantEffects(t, c, effects.Committed, 1)
	})
	t.Run("a worker is killed when the tool has had its effect", func(t *testing.T) {
		ctx, c := setup(t)
		client := connect(ctx, t, c.APIs[0])
		ended, err := c.Arm("round-ended")
		must(t, err)
		id, err := client.Create(ctx, "plain__once", object{"label": "a"})
		must(t, err)
		hit := <-ended.Hits()
		c.Process(hit.Process).Kill()
		ended.Disarm()
		wantEffects(t, c, effects.Happened, 1)
		// Nobody looks at the round again before its heartbeat has timed out.
		if s, err := client.Get(ctx, id); err != nil || s.Status != "working" {
			t.Errorf("the task is %+v, error %v", s, err)
		}
	})
	t.Run("Temporal goes away while an api starts", func(t *testing.T) {
		ctx, c := setup(t)
		api := c.APIs[0]
		api.Kill()
		dialled, err := c.Arm("temporal-dialled")
		must(t, err)
		started := make(chan error, 1)
		go func() { started <- api.Start(ctx) }()
		hit := <-dialled.Hits()
		api.Link.Refuse()
		hit.Go()
		awaitLog(ctx, t, api, "waiting for Temporal", started)
		must(t, c.Heal())
		must(t, <-started)
	})
	t.Run("Temporal goes away while a worker starts", func(t *testing.T) {
		ctx, c := setup(t)
		worker := c.Workers[0]
		worker.Kill()
		starts, err := c.Arm("worker-starts")
		must(t, err)
		started := make(chan error, 1)
		go func() { started <- worker.Start(ctx) }()
		hit := <-starts.Hits()
		worker.Link.Refuse()
		hit.Go()
		awaitLog(ctx, t, worker, "waiting for Temporal", started)
		must(t, c.Heal())
		must(t, <-started)
	})
	t.Run("every one is reached", func(t *testing.T) {
		ctx, c := setup(t)
		reached := make(map[string]chan struct{})
		for _, name := range failpoints {
			reached[name] = make(chan struct{})
			p, err := c.Arm(name)
			must(t, err)
			go passEveryone(ctx, p, reached[name])
		}
		answering, err := taskclient.ConnectAnswering(ctx, c.APIs[0].URL(), map[string]taskclient.Answer{
			"elicitation/create": func(context.Context, json.RawMessage) (any, error) {
				return object{"action": "accept", "content": object{"value": "yes"}}, nil
			},
		})
		must(t, err)
		id, err := answering.Create(ctx, "held__ask", object{"label": "asks", "questions": 1})
		must(t, err)
		wantResult(ctx, t, answering, id, "asks")
		id, err = answering.Create(ctx, "plain__slow", object{"label": "cancelled", "ms": 60_000})
		must(t, err)
		if s, err := answering.Cancel(ctx, id); err != nil || s.Status != "cancelled" {
			t.Errorf("the cancelled task is %+v, error %v", s, err)
		}
		id, err = answering.Create(ctx, "plain__slow", object{"label": "drained", "ms": 2000})
		must(t, err)
		awaitEffect(ctx, t, c, "drained")
		for _, w := range c.Workers {
			must(t, w.Terminate(ctx))
		}
		must(t, c.Workers[0].Start(ctx))
		wantResult(ctx, t, answering, id, "drained")
		for name, seen := range reached {
			select {
			case <-seen:
			case <-ctx.Done():
				t.Errorf("failpoint %s has not been reached", name)
			}
		}
	})
	t.Run("an unknown one cannot be armed", func(t *testing.T) {
		_, c := setup(t)
		if _, err := c.Arm("no-such-place"); err == nil {
			t.Error("it was armed")
		}
	})
}

// failpoints are all there are, in the order of a task's life.
var failpoints = []string{
	"temporal-dialled", "worker-starts", "task-started", "round-started", "answer-recorded", "answer-taken", "cancel-recorded", "worker-drains",
	"round-ended", "round-reported", "result-waits", "event-unsent",
}

// passEveryone lets everybody pass a failpoint, and closes reached at the first.
func passEveryone(ctx context.Context, p *failpoint.Point, reached chan<- struct{}) {
	first := true
	for {
		select {
		case hit := <-p.Hits():
			hit.Go()
			if first {
				close(reached)
				first = false
			}
		case <-ctx.Done():
			return
		}
	}
}

// awaitLog waits until a process that starts has written a line with the words.
func awaitLog(ctx context.Context, t *testing.T, p *cluster.Process, words string, started <-chan error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		log, err := os.ReadFile(p.Log)
		must(t, err)
		if bytes.Contains(log, []byte(words)) {
			return
		}
		select {
		case <-tick.C:
		case err := <-started:
			t.Fatalf("it has not waited: %v", err)
		case <-ctx.Done():
			t.Fatalf("%s does not say %q", p.Name, words)
		}
	}
}

// awaitEffect waits until a tool was called with the label.
func awaitEffect(ctx context.Context, t *testing.T, c *cluster.Cluster, label string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := c.Effects.Read()
		must(t, err)
		if slices.ContainsFunc(all, func(e effects.Effect) bool { return e.Label == label }) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no tool was called with %q", label)
		}
	}
}

func wantEffects(t *testing.T, c *cluster.Cluster, kind effects.Kind, want int) {
	t.Helper()
	all, err := c.Effects.Read()
	must(t, err)
	n := 0
	for _, e := range all {
		if e.Kind == kind {
			n++
		}
	}
	if n != want {
		t.Errorf("there are %d effects %q, not %d: %+v", n, kind, want, all)
	}
}

func TestProcesses(t *testing.T) {
	ctx, c := setup(t)
	client := connect(ctx, t, c.APIs[0])
	slow := func(label string) string {
		t.Helper()
		id, err := client.Create(ctx, "plain__slow", object{"label": label, "ms": 1000})
		must(t, err)
		return id
	}

	// Everything at once.
	id := slow("killed")
	c.Temporal.Kill()
	for _, p := range c.Processes() {
		p.Kill()
		if p.Running() {
			t.Errorf("%s runs, and was killed", p.Name)
		}
	}
	must(t, c.Temporal.Start(ctx))
	for _, p := range c.Processes() {
		must(t, p.Start(ctx))
	}
	if _, err := client.Get(ctx, id); err != nil { // it may even have ended meanwhile
		t.Errorf("after the kill: %v", err)
	}

	id = slow("stopped")
	must(t, c.Temporal.Pause())
	for _, p := range c.Processes() {
		must(t, p.Pause())
	}
	must(t, c.Heal())
	wantResult(ctx, t, client, id, "stopped")

	id = slow("drained")
	for _, p := range c.Processes() {
		must(t, p.Terminate(ctx))
		must(t, p.Start(ctx))
	}
	wantResult(ctx, t, client, id, "drained")

	for _, p := range c.Processes() {
		if n, err := p.Descriptors(); err != nil || n == 0 {
			t.Errorf("%s has %d descriptors, error %v", p.Name, n, err)
		}
		if n, _, err := p.Goroutines(ctx); err != nil || n == 0 {
			t.Errorf("%s has %d goroutines, error %v", p.Name, n, err)
		}
	}
}
