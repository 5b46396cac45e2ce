// Package overlay builds programs of this module with changes that their
// sources do not have: the marked places made failpoints, and patches that
// break what tests are to find broken. The sources stay as they are; the go
// command reads other copies of the changed files (go build -overlay).
package overlay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Patch replaces a piece of a file. It has to be there exactly once, or the
// build fails: a patch that no longer fits would break nothing.
type Patch struct {
	File string // below the module's root
	Old  string
	New  string
}

// marker is the comment that names a failpoint, on a line of its own.
var marker = regexp.MustCompile(`(?m)^([ \t]*)//failpoint:([a-z0-9-]+)$`)

var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

// Build writes a program of this module to the file binary, with failpoints
// and patches.
func Build(ctx context.Context, pkg, binary string, patches ...Patch) error {
	root, err := Root(ctx)
	if err != nil {
		return err
	}
	changed, _, err := markedFiles(root)
	if err != nil {
		return err
	}
	for _, p := range patches {
		if err := p.apply(root, changed); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "longhaul-overlay-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := write(dir, root, changed)
	if err != nil {
		return err
	}
	// go run keeps the linked binary in the build cache; go build links it anew.
	cmd := exec.CommandContext(ctx, "go", "run", "-overlay", overlay, "-exec", "cp", pkg, binary)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s with an overlay: %w\n%s", pkg, err, out)
	}
	return nil
}

// Failpoints are the names of the marked places of the module, in order.
func Failpoints(ctx context.Context) ([]string, error) {
	root, err := Root(ctx)
	if err != nil {
		return nil, err
	}
	_, names, err := markedFiles(root)
	return names, err
}

// Root is the directory of this module, in which the process has to run.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module's directory: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// markedFiles are the files with failpoints, by their names below root, with
// the marks made calls, and the names of all failpoints.
func markedFiles(root string) (changed map[string][]byte, names []string, err error) {
	changed = make(map[string][]byte)
	at := make(map[string]string)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := marker.FindAllSubmatch(source, -1)
		if found == nil {
			return nil
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, m := range found {
			name := string(m[2])
			if other, twice := at[name]; twice {
				return fmt.Errorf("failpoint %s is both in %s and in %s", name, other, file)
			}
			at[name] = file
		}
		changed[file] = withCalls(source)
		return nil
	})
	return changed, slices.Sorted(maps.Keys(at)), err
}

// withCalls makes calls of a file's marks. No line gets another number.
func withCalls(source []byte) []byte {
	calls := marker.ReplaceAll(source, []byte(`${1}failpoint.Reach("$2")`))
	clause := packageClause.FindIndex(calls)
	return slices.Concat(calls[:clause[1]],
		[]byte(`; import "github.com/longhaul-mcp/longhaul/internal/failpoint"`), calls[clause[1]:])
}

func (p Patch) apply(root string, changed map[string][]byte) error {
	file := filepath.FromSlash(p.File)
	source, ok := changed[file]
	if !ok {
		var err error
		if source, err = os.ReadFile(filepath.Join(root, file)); err != nil {
			return err
		}
	}
	if n := bytes.Count(source, []byte(p.Old)); n != 1 {
		return fmt.Errorf("patch %s: what it replaces is there %d times, and has to be there once:\n%s", p.File, n, p.Old)
	}
	changed[file] = bytes.Replace(source, []byte(p.Old), []byte(p.New), 1)
	return nil
}

// write writes the changed files and the file that tells the go command of them.
func write(dir, root string, changed map[string][]byte) (overlay string, err error) {
	replace := make(map[string]string, len(changed))
	for file, source := range changed {
		copied := filepath.Join(dir, file)
		replace[filepath.Join(root, file)] = copied
		err = errors.Join(err, os.MkdirAll(filepath.Dir(copied), 0o700), os.WriteFile(copied, source, 0o600))
	}
	list, jsonErr := json.Marshal(map[string]any{"Replace": replace})
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(err, jsonErr, os.WriteFile(overlay, list, 0o600))
}
