package conformance_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
)

// scenarios of the official suite, with the revisions at which each is run.
// Those of the tasks extension are on no revision's timeline and are run
// without one.
var scenarios = []struct {
	name      string
	revisions []string
}{
	{"tasks-lifecycle", nil},
	{"tasks-capability-negotiation", nil},
	{"tasks-wire-fields", nil},
	{"tasks-request-state-removal", nil},
	{"tasks-mrtr-input", nil},
	{"tasks-request-headers", nil},
	{"tasks-dispatch-and-envelope", nil},
	{"tasks-required-task-error", nil},
	{"tasks-mrtr-composition", nil},
	{"server-initialize", []string{"2025-06-18", "2025-11-25"}},
	{"server-session-lifecycle", []string{"2025-03-26", "2025-06-18", "2025-11-25"}},
	{"server-stateless", []string{"2026-07-28"}},
	{"tools-list", []string{"2025-06-18", "2025-11-25", "2026-07-28"}},
	{"ping", []string{"2025-06-18", "2025-11-25"}},
	{"dns-rebinding-protection", []string{"2025-11-25", "2026-07-28"}},
	{"http-header-validation", []string{"2026-07-28"}},
	{"server-sse-multiple-streams", []string{"2025-11-25", "2026-07-28"}},
}

func TestSuite(t *testing.T) {
	t.Parallel()
	packages := npm.Need(t)
	s := startServer(t)
	for _, scenario := range scenarios {
		if scenario.revisions == nil {
			t.Run(scenario.name, func(t *testing.T) { runScenario(t, packages, s.url, scenario.name, "") })
		}
		for _, revision := range scenario.revisions {
			t.Run(scenario.name+" "+revision, func(t *testing.T) { runScenario(t, packages, s.url, scenario.name, revision) })
		}
	}
}

// check is one check of a scenario, as the suite reports it.
type check struct {
	ID           string          `json:"id"`
	Description  string          `json:"description"`
	Status       string          `json:"status"`
	ErrorMessage string          `json:"errorMessage"`
	Details      json.RawMessage `json:"details"`
}

func runScenario(t *testing.T, packages *npm.Packages, url, name, revision string) {
	results := t.TempDir()
	args := []string{
		packages.Path("@modelcontextprotocol", "conformance", "dist", "index.js"),
		"server", "--url", url, "--scenario", name, "--output-dir", results,
	}
	if revision != "" {
		args = append(args, "--spec-version", revision)
	}
	out, err := exec.CommandContext(t.Context(), packages.Node, args...).CombinedOutput()
	if err != nil {
		t.Errorf("the suite ended with %v", err)
	}
	// A scenario that does not apply is left out without an error.
	files, _ := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	if len(files) != 1 {
		t.Fatalf("the suite has left %d results\n%s", len(files), out)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var checks []check
	if err := json.Unmarshal(data, &checks); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, c := range checks {
		switch c.Status {
		case "SUCCESS":
			passed++
		case "INFO":
		case "SKIPPED":
			t.Logf("skipped by the suite: %s: %s", c.ID, c.Details)
		default: // FAILURE, and WARNING for what servers SHOULD do
			t.Errorf("%s %s: %s\n\t%s\n\t%s", c.Status, c.ID, c.Description, c.ErrorMessage, c.Details)
		}
	}
	if passed == 0 {
		t.Error("nothing was checked")
	}
}
