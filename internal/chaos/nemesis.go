package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
)

// Fault is something that the nemesis does.
type Fault string

// The faults.
const (
	FaultKill      Fault = "kill"      // -9 of one process
	FaultKillAll   Fault = "kill-all"  // of everything, Temporal too
	FaultTerminate Fault = "terminate" // SIGTERM of an api or a worker
	FaultStop      Fault = "stop"      // SIGSTOP for some time
	FaultCut       Fault = "cut"       // connections are reset
	FaultRefuse    Fault = "refuse"    // for some time
	FaultHold      Fault = "hold"      // nothing comes through for some time
	FaultDelay     Fault = "delay"     // everything comes late for some time
	FaultMoment    Fault = "moment"    // a kill, stop or cut when somebody is at a failpoint
)

// Faults of processes and of links: each have a nemesis of their own, so that
// they meet. Some are there more than once, to be more frequent.
var (
	processFaults = []Fault{
		FaultKill, FaultKill, FaultTerminate, FaultStop, FaultKillAll, FaultMoment, FaultMoment, FaultMoment,
	}
	linkFaults = []Fault{FaultCut, FaultRefuse, FaultHold, FaultDelay}
)

// moments are the failpoints at which something may happen, in the order of a
// task's life.
var moments = []string{
	"task-started", "round-started", "answer-recorded", "answer-taken", "cancel-recorded", "worker-drains",
	"round-ended", "round-reported", "result-waits", "event-unsent",
}

// nemesis breaks a cluster and mends it, one fault after the other.
type nemesis struct {
	cluster *cluster.Cluster
	rand    *rand.Rand
	faults  []Fault
	// pause is how long it rests between two faults, at most, and long how long
	// a fault lasts, at most.
	pause, long time.Duration
	// kills ends it after so many, 0 for never.
	kills int
	diary io.Writer

	mu       sync.Mutex
	done     map[Fault]int
	restarts int
}

// rage goes on until ctx ends, or there were as many kills as there are to be.
// An error means that the cluster could not be mended.
func (n *nemesis) rage(ctx context.Context) error {
	for ctx.Err() == nil && (n.kills == 0 || n.count(FaultKill) < n.kills) {
		// Everything is drawn before anything is done, so that what comes next
		// does not depend on how this one goes.
		p := n.plan()
		pause(ctx, p.rest)
		if ctx.Err() != nil {
			return nil
		}
		n.say("%s", p)
		if err := n.do(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if p.fault != FaultMoment {
			n.did(p.fault)
		}
	}
	return nil
}

func (n *nemesis) did(f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done[f]++
}

func (n *nemesis) count(f Fault) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done[f]
}

func (n *nemesis) say(format string, args ...any) {
	fmt.Fprintf(n.diary, "%s %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// act is one fault, with all that was drawn for it.
type act struct {
	fault  Fault
	target string // a process, or temporal
	front  bool   // the link to clients, not to Temporal
	rest   time.Duration
	lasts  time.Duration
	delay  time.Duration
	moment string
	then   Fault // at the moment
}

func (a act) String() string {
	switch a.fault {
	case FaultMoment:
		return fmt.Sprintf("%s at %s", a.then, a.moment)
	case FaultKillAll:
		return string(a.fault)
	case FaultKill, FaultTerminate, FaultStop:
		return fmt.Sprintf("%s %s for %s", a.fault, a.target, a.lasts)
	default:
		end := "Temporal"
		if a.front && !strings.HasPrefix(a.target, "worker") {
			end = "clients"
		}
		return fmt.Sprintf("%s %s from %s for %s", a.fault, a.target, end, a.lasts)
	}
}

const temporal = "temporal"

func (n *nemesis) plan() act {
	names := []string{temporal}
	for _, p := range n.cluster.Processes() {
		names = append(names, p.Name)
	}
	a := act{
		fault:  n.faults[n.rand.IntN(len(n.faults))],
		target: names[n.rand.IntN(len(names))],
		front:  n.rand.IntN(2) == 0,
		rest:   n.upTo(n.pause),
		lasts:  n.upTo(n.long),
		delay:  n.upTo(300 * time.Millisecond),
		moment: moments[n.rand.IntN(len(moments))],
		then:   []Fault{FaultKill, FaultKill, FaultStop, FaultCut}[n.rand.IntN(4)],
	}
	if a.target == temporal && !slices.Contains([]Fault{FaultKill, FaultStop}, a.fault) {
		// It has no link of its own.
		a.target = names[1+n.rand.IntN(len(names)-1)]
	}
	return a
}

func (n *nemesis) upTo(d time.Duration) time.Duration {
	return time.Duration(n.rand.Int64N(int64(d))).Round(time.Millisecond)
}

// do does what was planned, and mends it. What lasts goes on for its time even
// if ctx ends meanwhile.
func (n *nemesis) do(ctx context.Context, a act) error {
	p := n.cluster.Process(a.target)
	switch a.fault {
	case FaultKill:
		if p == nil {
			n.cluster.Temporal.Kill()
			rest(a.lasts)
			return n.restart(n.cluster.Temporal.Start)
		}
		p.Kill()
		rest(a.lasts)
		return n.restart(p.Start)
	case FaultKillAll:
		return n.killAll(a.lasts)
	case FaultTerminate:
		ending, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := p.Terminate(ending); err != nil {
			return err
		}
		return n.restart(p.Start)
	case FaultStop:
		return stop(a.lasts, n.stoppable(p))
	case FaultMoment:
		return n.await(ctx, a)
	default:
		return spoil(n.link(p, a.front), a)
	}
}

// stoppable is a process, or Temporal.
type stoppable interface {
	Pause() error
	Resume() error
}

func (n *nemesis) stoppable(p *cluster.Process) stoppable {
	if p == nil {
		return n.cluster.Temporal
	}
	return p
}

func stop(lasts time.Duration, p stoppable) error {
	if err := p.Pause(); err != nil {
		return err
	}
	rest(lasts)
	return p.Resume()
}

func (n *nemesis) link(p *cluster.Process, front bool) *tcpproxy.Proxy {
	if front && p.Front != nil {
		return p.Front
	}
	return p.Link
}

func spoil(l *tcpproxy.Proxy, a act) error {
	switch a.fault {
	case FaultCut:
		l.Cut()
		return nil
	case FaultRefuse:
		l.Refuse()
	case FaultHold:
		l.Hold()
	case FaultDelay:
		l.Delay(a.delay)
	}
	rest(a.lasts)
	l.Heal()
	return nil
}

// killAll kills everything and starts it again.
func (n *nemesis) killAll(lasts time.Duration) error {
	n.cluster.Temporal.Kill()
	for _, p := range n.cluster.Processes() {
		p.Kill()
	}
	rest(lasts)
	if err := n.restart(n.cluster.Temporal.Start); err != nil {
		return err
	}
	var starting sync.WaitGroup
	errs := make(chan error, len(n.cluster.Processes()))
	for _, p := range n.cluster.Processes() {
		starting.Go(func() { errs <- n.restart(p.Start) })
	}
	starting.Wait()
	for range n.cluster.Processes() {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// momentTimeout is how long somebody may take to get to a failpoint.
const momentTimeout = 3 * time.Second

// await waits for somebody to get to the failpoint, and does it there and then.
func (n *nemesis) await(ctx context.Context, a act) error {
	point, err := n.cluster.Arm(a.moment)
	if err != nil {
		return err
	}
	defer point.Disarm()
	ctx, cancel := context.WithTimeout(ctx, momentTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return nil // nobody came
	case hit := <-point.Hits():
		p := n.cluster.Process(hit.Process)
		n.say("%s is at %s", hit.Process, a.moment)
		n.did(FaultMoment)
		switch a.then {
		case FaultKill:
			p.Kill()
			point.Disarm()
			rest(a.lasts)
			return n.restart(p.Start)
		case FaultStop:
			return stop(a.lasts, p)
		default:
			n.link(p, a.front).Cut()
			return nil
		}
	}
}

// startTimeout bounds the start or the end of a process of a healthy cluster.
const startTimeout = time.Minute

func (n *nemesis) restart(start func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	n.mu.Lock()
	n.restarts++
	n.mu.Unlock()
	return start(ctx)
}

// rest lets a fault last, whatever else ends.
func rest(d time.Duration) { time.Sleep(d) }
