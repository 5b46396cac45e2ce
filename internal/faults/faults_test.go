// Package faults kills, stops and starts the processes of a cluster at exact
// moments, one test for each fault, and shows that nothing acknowledged is lost
// or done twice.
//
// The moments are failpoints and effects of tools, not times. What takes its
// time is what the product does: it gives up the round of a worker that is dead
// when its heartbeat has been missing for a minute.
package faults_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/internal/failpoint"
)

var binaries cluster.Binaries

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, &binaries)) }

// patience bounds what a test waits for.
const patience = 3 * time.Minute

// world is a cluster, as one test sees it.
type world struct {
	*cluster.Cluster
	t   *testing.T
	ctx context.Context
}

// start starts a cluster for a test and its subtests.
func start(t *testing.T, o cluster.Options) *world {
	t.Helper()
	o.Binaries = binaries
	return (&world{Cluster: cluster.Test(t, o)}).in(t)
}

// in is the world of a subtest, which leaves it whole.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	sub := &world{Cluster: w.Cluster, t: t, ctx: ctx}
	if w.t != nil {
		t.Cleanup(func() { w.whole(t) })
	}
	return sub
}

// of is the world of a subtest that leaves it as it finds it.
func (w *world) of(t *testing.T) *world { return &world{Cluster: w.Cluster, t: t, ctx: w.ctx} }

// whole makes everything run that was killed or stopped.
func (w *world) whole(t *testing.T) {
	t.Helper()
	if err := w.Heal(); err != nil {
		t.Error(err)
	}
	if err := w.Temporal.Start(w.ctx); err != nil {
		t.Error(err)
	}
	for _, p := range w.Processes() {
		if err := p.Start(w.ctx); err != nil {
			t.Error(err)
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) arm(name string) *failpoint.Point {
	w.t.Helper()
	p, err := w.Arm(name)
	w.must(err)
	return p
}

// hit waits until a process is at the failpoint.
func (w *world) hit(p *failpoint.Point) *failpoint.Hit {
	w.t.Helper()
	select {
	case hit := <-p.Hits():
		return hit
	case <-w.ctx.Done():
		w.t.Fatal("nobody has reached the failpoint")
		return nil
	}
}

// killAt kills the process that is first at the failpoint, and returns it.
func (w *world) killAt(p *failpoint.Point) *cluster.Process {
	w.t.Helper()
	victim := w.Process(w.hit(p).Process)
	victim.Kill()
	p.Disarm()
	return victim
}

// poll waits until is says so.
func (w *world) poll(what string, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Fatalf("waiting in vain: %s", what)
		}
	}
}

// effects are those of the calls with a label.
func (w *world) effects(kind effects.Kind, label string) []effects.Effect {
	w.t.Helper()
	all, err := w.Effects.Read()
	w.must(err)
	return slices.DeleteFunc(all, func(e effects.Effect) bool { return e.Kind != kind || e.Label != label })
}

// awaitEffect waits for the first effect of a kind.
func (w *world) awaitEffect(kind effects.Kind, label string) effects.Effect {
	w.t.Helper()
	w.poll(fmt.Sprintf("%s has %s", label, kind), func() bool { return len(w.effects(kind, label)) > 0 })
	return w.effects(kind, label)[0]
}

func (w *world) wantEffects(kind effects.Kind, label string, want int) {
	w.t.Helper()
	if got := w.effects(kind, label); len(got) != want {
		w.t.Errorf("%s has %s %d times, not %d: %+v", label, kind, len(got), want, got)
	}
}

// wantAnswers are the answers that the tool has seen, in order.
func (w *world) wantAnswers(label string, want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.effects(effects.Answered, label) {
		got = append(got, e.Answer)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("the tool has seen the answers %q, not %q", got, want)
	}
}

// taskID is the task of which e is an effect.
func taskID(e effects.Effect) string {
	id, _, _ := strings.Cut(e.Key, "/")
	return id
}

// wantCompleted waits until a workflow has ended, and ended well.
func (w *world) wantCompleted(id string) {
	w.t.Helper()
	temporal, err := w.Dial(w.ctx)
	w.must(err)
	defer temporal.Close()
	if err := temporal.GetWorkflow(w.ctx, id, "").Get(w.ctx, nil); err != nil {
		w.t.Errorf("workflow %s: %v", id, err)
	}
}
