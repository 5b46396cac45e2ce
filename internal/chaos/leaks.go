package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
)

// size is what a process holds open: descriptors, and goroutines that run the
// code of this module. Those of libraries come and go with their pollers and
// connections, and the coroutines of workflows stay in a worker's cache until it
// needs the room.
type size struct{ descriptors, goroutines int }

// slack is how much more a process may have than one that has just begun to
// work: connections to Temporal are pooled.
var slack = size{descriptors: 16, goroutines: 4}

// measure warms every process up and takes its size for the baseline.
func (r *runner) measure(ctx context.Context, clients []*client) error {
	r.baseline = make(map[string]size)
	for _, c := range clients {
		for _, api := range r.cluster.APIs {
			call := Call{Label: fmt.Sprintf("warm-%d-%s", c.n, api.Name), Tool: "plain__quick", Owner: c.owner}
			r.work.log.plan(call)
			c.create(ctx, call)
		}
		c.settle(ctx)
	}
	for _, p := range r.cluster.Processes() {
		s, _, err := measured(ctx, p)
		if err != nil {
			return err
		}
		base := r.baseline[kindOf(p)]
		r.baseline[kindOf(p)] = size{max(base.descriptors, s.descriptors), max(base.goroutines, s.goroutines)}
	}
	return nil
}

func kindOf(p *cluster.Process) string {
	kind, _, _ := strings.Cut(p.Name, "-")
	return kind
}

func measured(ctx context.Context, p *cluster.Process) (size, string, error) {
	fds, err := p.Descriptors()
	if err != nil {
		return size{}, "", err
	}
	_, profile, err := p.Goroutines(ctx)
	return size{fds, own(profile)}, profile, err
}

// own counts the goroutines of a profile that run the code of this module.
func own(profile string) (n int) {
	for group := range strings.SplitSeq(profile, "\n\n") {
		count, _, ok := strings.Cut(group, " @ ")
		if !ok || !strings.Contains(group, "longhaul-mcp/longhaul") || strings.Contains(group, "internal.(*coroutineState)") {
			continue
		}
		if i := strings.LastIndexByte(count, '\n'); i >= 0 {
			count = count[i+1:]
		}
		if k, err := strconv.Atoi(count); err == nil {
			n += k
		}
	}
	return n
}

// leakPatience is how long processes have to come to rest.
const leakPatience = 45 * time.Second

// compare says which processes have not returned to the baseline.
func (r *runner) compare(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, leakPatience)
	defer cancel()
	var leaks []string
	for _, p := range r.cluster.Processes() {
		if leak := r.awaitRest(ctx, p); leak != "" {
			leaks = append(leaks, leak)
		}
	}
	return leaks
}

func (r *runner) awaitRest(ctx context.Context, p *cluster.Process) (leak string) {
	base := r.baseline[kindOf(p)]
	for {
		s, profile, err := measured(context.WithoutCancel(ctx), p)
		switch {
		case err != nil:
			return fmt.Sprintf("%s cannot be measured: %v", p.Name, err)
		case s.descriptors <= base.descriptors+slack.descriptors && s.goroutines <= base.goroutines+slack.goroutines:
			return ""
		case ctx.Err() != nil:
			file := filepath.Join(r.Dir, p.Name+".goroutines")
			if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%s has %d descriptors and %d goroutines, and in the beginning %d and %d: see %s",
				p.Name, s.descriptors, s.goroutines, base.descriptors, base.goroutines, file)
		}
		pause(ctx, 500*time.Millisecond)
	}
}
