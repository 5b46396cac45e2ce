package main

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
)

// runShort runs chaos of a kind that finds every mutant in a short time.
func runShort(t *testing.T, o Options) []Violation {
	t.Helper()
	o.Clients, o.Pause, o.Long = 8, time.Second, time.Second
	// A round whose worker was killed is to be lost within this test.
	o.Heartbeat, o.Settle = 5*time.Second, 90*time.Second
	o.Dir, o.Say = t.TempDir(), t.Logf
	figures, violations, err := run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *figures)
	return violations
}

// The product keeps its promises for as long as a test may take; a run by hand
// takes longer.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, v := range runShort(t, Options{Seed: 1, Duration: 30 * time.Second}) {
		t.Error(v)
	}
}

// mutantFaults are what brings every mutant out: with workers that are replaced
// rounds are run again, and with links that are slow things meet.
var mutantFaults = [][]Fault{{FaultTerminate}, {FaultDelay}, {FaultDelay}, {FaultDelay}}

// Each mutant is found by the promise that it breaks, on the first seed or the
// next: its clients do more than others of what makes the mutant show.
var broken = map[string]struct {
	promise  string
	tools    []string
	cutShort int
}{
	"answers are not deduplicated":    {promise: PromiseAnswer, tools: []string{"plain__ask"}},
	"signals are not drained":         {promise: PromiseTaken, cutShort: 30},
	"handlers are not awaited":        {promise: PromiseHandlers, tools: []string{"held__glance"}},
	"attempts have keys of their own": {promise: PromiseCommitted, tools: []string{"plain__commit"}},
}

// maxSeeds bounds the runs in which a mutant has to be found.
const maxSeeds = 5

// The checker bites: it finds what is broken on purpose, each by the promise
// that is broken, and nothing in the product, with all of these workloads.
func TestMutants(t *testing.T) {
	t.Parallel()
	names := slices.Sorted(maps.Keys(broken))
	if want := slices.Sorted(maps.Keys(cluster.Mutants)); !slices.Equal(names, want) {
		t.Fatalf("the mutants are %q, and tested are %q", want, names)
	}
	options := Options{Seed: 1, Duration: 10 * time.Second, Faults: mutantFaults}
	whole := options
	for _, name := range names {
		b := broken[name]
		whole.Tools = append(whole.Tools, b.tools...)
		whole.CutShort += b.cutShort
		o := options
		o.Patches, o.Tools, o.CutShort = cluster.Mutants[name], b.tools, b.cutShort
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for ; o.Seed <= maxSeeds; o.Seed++ {
				violations := runShort(t, o)
				for _, v := range violations {
					t.Log(v)
				}
				if slices.ContainsFunc(violations, func(v Violation) bool { return v.Promise == b.promise }) {
					return
				}
			}
			t.Errorf("%q was not found to be broken", b.promise)
		})
	}
	t.Run("the product", func(t *testing.T) {
		t.Parallel()
		for _, v := range runShort(t, whole) {
			t.Error(v)
		}
	})
}
