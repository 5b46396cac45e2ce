package conformance_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
)

// scriptTimeout bounds one script, which hangs if the server does.
const scriptTimeout = 2 * time.Minute

// The official TypeScript clients, one of each generation, call every fixture
// tool and do with the tasks all that can be done.
func TestClients(t *testing.T) {
	t.Parallel()
	packages := npm.Need(t)
	dir := scripts(t, packages)
	s := startServer(t)
	for _, generation := range []string{"2025", "2026"} {
		t.Run(generation, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
			defer cancel()
			out, err := exec.CommandContext(ctx, packages.Node, filepath.Join(dir, "client"+generation+".mjs"), s.url).CombinedOutput()
			t.Logf("\n%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// scripts copies the scripts to where Node finds the packages they import.
func scripts(t *testing.T, packages *npm.Packages) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("clients")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(packages.Path(), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}
