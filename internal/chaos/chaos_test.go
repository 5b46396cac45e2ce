package main

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/overlay"
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

// The checker bites: it finds what is broken on purpose, each by the promise
// that is broken, and nothing in the product, with the same workload.
func TestMutants(t *testing.T) {
	t.Parallel()
	broken := map[string]string{
		"answers are not deduplicated":    PromiseAnswer,
		"signals are not drained":         PromiseTaken,
		"handlers are not awaited":        PromiseHandlers,
		"attempts have keys of their own": PromiseCommitted,
	}
	if got, want := slices.Sorted(maps.Keys(broken)), slices.Sorted(maps.Keys(cluster.Mutants)); !slices.Equal(got, want) {
		t.Fatalf("the mutants are %q, and tested are %q", want, got)
	}
	find := func(t *testing.T, seed uint64, patches []overlay.Patch) []Violation {
		return runShort(t, Options{Seed: seed, Duration: 12 * time.Second, Faults: mutantFaults, Patches: patches})
	}
	for name, promise := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What has to meet may not, on one seed: a cancel meets the end of its
			// round on about every third.
			for seed := range uint64(20) {
				violations := find(t, 1+seed, cluster.Mutants[name])
				for _, v := range violations {
					t.Log(v)
				}
				if slices.ContainsFunc(violations, func(v Violation) bool { return v.Promise == promise }) {
					return
				}
			}
			t.Errorf("%q was not found to be broken", promise)
		})
	}
	t.Run("the product", func(t *testing.T) {
		t.Parallel()
		for _, v := range find(t, 1, nil) {
			t.Error(v)
		}
	})
}
