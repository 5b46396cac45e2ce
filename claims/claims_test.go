package claims_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/internal/storetest"
	"github.com/longhaul-mcp/longhaul/task"
)

func TestLargeCountsWhatTemporalWouldStore(t *testing.T) {
	for text, want := range map[string]bool{
		strings.Repeat("x", claims.Threshold-2):   false, // and the quotes
		strings.Repeat("x", claims.Threshold-1):   true,
		strings.Repeat("<", claims.Threshold/6):   false,
		strings.Repeat("<", claims.Threshold/6+1): true,
	} {
		if got := claims.Large(json.RawMessage(`"` + text + `"`)); got != want {
			t.Errorf("%d times %q: got %t", len(text), text[:1], got)
		}
	}
}

func openDir(t *testing.T) (*claims.Dir, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "data", "claims")
	d, err := claims.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	return d, root
}

func TestDir(t *testing.T) {
	d, root := openDir(t)
	storetest.Run(t, d, func(t *testing.T, set task.ClaimSet, c task.Claim, data []byte) {
		name, err := claims.SetName(set)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(root, name, c.SHA256)
		if data == nil {
			err = os.Remove(file)
		} else {
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestDirIsForItsOwnerAlone(t *testing.T) {
	d, root := openDir(t)
	if _, err := d.Put(t.Context(), task.ClaimSet{TaskID: "task", CreatedAt: time.Now()}, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDirAway takes the directory away, as a share that is not mounted: the
// mount point is there, and empty.
func TestDirAway(t *testing.T) {
	d, root := openDir(t)
	set := task.ClaimSet{TaskID: "task", CreatedAt: time.Now()}
	c, err := d.Put(t.Context(), set, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	away := root + "-away"
	for name, leave := range map[string]func() error{
		"an empty directory": func() error { return os.Mkdir(root, 0o700) },
		"nothing":            func() error { return nil },
	} {
		if err := errors.Join(os.Rename(root, away), leave()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Get(t.Context(), set, c); err == nil || errors.Is(err, task.ErrClaimMissing) {
			t.Errorf("%s: Get says %v", name, err)
		}
		if _, err := d.Put(t.Context(), set, []byte("data")); err == nil {
			t.Errorf("%s: Put succeeds", name)
		}
		if err := d.Delete(t.Context(), set); err == nil {
			t.Errorf("%s: Delete succeeds", name)
		}
		for _, err := range d.Sets(t.Context()) {
			if err == nil {
				t.Errorf("%s: Sets succeeds", name)
			}
		}
		if err := errors.Join(os.RemoveAll(root), os.Rename(away, root)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Get(t.Context(), set, c); err != nil {
			t.Errorf("%s, and back: %v", name, err)
		}
	}
}

func TestOpenDirSaysThatItCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := claims.OpenDir(filepath.Join(file, "claims")); err == nil || !strings.Contains(err.Error(), "cannot be written to") {
		t.Errorf("got %v", err)
	}
}
