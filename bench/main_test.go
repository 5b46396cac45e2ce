package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestRun makes every comparison, as short as can be. What it says means nothing
// on a busy machine; that it says it does.
func TestRun(t *testing.T) {
	for _, c := range comparisons() {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "in-memory" {
				npm.Need(t)
				if runtime.NumCPU() < 2 {
					t.Skip("skipped without a core for the load")
				}
			}
			file := filepath.Join(t.TempDir(), "figures.json")
			if err := run(t.Context(), []string{"-short", "-run", "^" + c.name + "$", "-json", file, "-logs", t.TempDir()}); err != nil {
				t.Fatal(err)
			}
			encoded, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var said []map[string]any
			if err := json.Unmarshal(encoded, &said); err != nil {
				t.Fatal(err)
			}
			targets := 0
			for _, f := range said {
				for _, key := range []string{"name", "value", "unit", "target", "met"} {
					if _, ok := f[key]; !ok || len(f) != 5 {
						t.Fatalf("a figure is %v", f)
					}
				}
				if name := f["name"].(string); !strings.HasPrefix(name, c.name+"/") {
					t.Errorf("figure %q is one of comparison %s", name, c.name)
				}
				if (f["target"] == nil) != (f["met"] == nil) {
					t.Errorf("a figure is %v", f)
				}
				if f["target"] != nil {
					targets++
				}
			}
			if len(said) == 0 || targets == 0 {
				t.Errorf("there are %d figures, %d of them with a target", len(said), targets)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-run (":       "-run",
		"-run nothing": "no comparison matches",
		"create":       "unexpected argument",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		target *target
		value  float64
		said   string
		met    bool
	}{
		{atLeast(0.9), 0.9, "≥ 0.9", true},
		{atLeast(0.9), 0.89, "≥ 0.9", false},
		{atMost(1.15), 1.15, "≤ 1.15", true},
		{atMost(400), 401, "≤ 400", false},
	} {
		var f figures
		f.add("a", c.value, "×", c.target)
		if *f[0].Target != c.said || *f[0].Met != c.met {
			t.Errorf("%v of %s is met: %v", c.value, *f[0].Target, *f[0].Met)
		}
	}
}
