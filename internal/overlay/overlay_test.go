package overlay_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/overlay"
)

const program = "./internal/cluster/program"

// A failpoint that nobody arms is a comment that says nothing, and the name of
// one that is not there a test that tests nothing (cluster.Arm refuses it).
func TestFailpoints(t *testing.T) {
	names, err := overlay.Failpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatal("no failpoints have been found")
	}
	users := sources(t)
	for _, name := range names {
		if !strings.Contains(users, `"`+name+`"`) {
			t.Errorf("no test names failpoint %s", name)
		}
	}
}

// sources are those of all tests, and of the programs that are tests.
func sources(t *testing.T) string {
	t.Helper()
	root, err := overlay.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		chaos := strings.Contains(filepath.ToSlash(path), "/internal/chaos/")
		if !strings.HasSuffix(path, "_test.go") && (!chaos || !strings.HasSuffix(path, ".go")) {
			return nil
		}
		source, err := os.ReadFile(path)
		all.Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestBuild(t *testing.T) {
	t.Run("refuses a patch that does not fit", func(t *testing.T) {
		err := overlay.Build(t.Context(), program, filepath.Join(t.TempDir(), "program"),
			overlay.Patch{File: "task/machine.go", Old: "no such line", New: ""})
		if err == nil || !strings.Contains(err.Error(), "0 times") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("refuses a patch that fits more than once", func(t *testing.T) {
		err := overlay.Build(t.Context(), program, filepath.Join(t.TempDir(), "program"),
			overlay.Patch{File: "task/machine.go", Old: "return", New: "return"})
		if err == nil || !strings.Contains(err.Error(), "times") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("fails with what the compiler says", func(t *testing.T) {
		err := overlay.Build(t.Context(), program, filepath.Join(t.TempDir(), "program"),
			overlay.Patch{File: "internal/cluster/program/tools.go", Old: "const answerSchema =", New: "const answerSchema int ="})
		if err == nil || !strings.Contains(err.Error(), "tools.go") {
			t.Errorf("the error is %v", err)
		}
	})
}
