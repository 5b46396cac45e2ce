// Package storetest is what every [claims.Store] has to do, as a test.
package storetest

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// Run tests an empty store. spoil replaces what is stored under a claim, or
// removes it if data is nil.
func Run(t *testing.T, s claims.Store, spoil func(t *testing.T, set task.ClaimSet, c task.Claim, data []byte)) {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	set := func(id string) task.ClaimSet { return task.ClaimSet{TaskID: id, CreatedAt: at} }
	put := func(t *testing.T, set task.ClaimSet, data []byte) task.Claim {
		t.Helper()
		c, err := s.Put(t.Context(), set, data)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	has := func(t *testing.T, set task.ClaimSet, c task.Claim, data []byte) {
		t.Helper()
		got, err := s.Get(t.Context(), set, c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes and error %v, want %d bytes", set.TaskID, len(got), err, len(data))
		}
	}
	lacks := func(t *testing.T, set task.ClaimSet, c task.Claim, want error) {
		t.Helper()
		if got, err := s.Get(t.Context(), set, c); got != nil || !errors.Is(err, want) {
			t.Errorf("%s: got %d bytes and error %v, want %v", set.TaskID, len(got), err, want)
		}
	}
	sets := func(t *testing.T) (ids []string) {
		t.Helper()
		for got, err := range s.Sets(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if age := time.Since(got.StoredAt); age < -time.Minute || age > time.Hour {
				t.Errorf("%s was stored at %s", got.TaskID, got.StoredAt)
			}
			ids = append(ids, got.TaskID)
		}
		slices.Sort(ids)
		return ids
	}

	t.Run("returns what was put", func(t *testing.T) {
		large := bytes.Repeat([]byte("0123456789"), task.MaxBytes/10)
		for _, data := range [][]byte{{}, []byte("x"), large} {
			has(t, set("task"), put(t, set("task"), data), data)
		}
		again := put(t, set("task"), large)
		has(t, set("task"), again, large)
		if err := s.Delete(t.Context(), set("task")); err != nil {
			t.Fatal(err)
		}
		lacks(t, set("task"), again, task.ErrClaimMissing)
	})

	t.Run("keeps sets apart", func(t *testing.T) {
		data := []byte("the same")
		later := task.ClaimSet{TaskID: "a", CreatedAt: at.Add(time.Millisecond)}
		c := put(t, set("a"), data)
		for _, other := range []task.ClaimSet{set("b"), set("A"), set("a/b"), later} {
			lacks(t, other, c, task.ErrClaimMissing)
			put(t, other, data)
		}
		if err := s.Delete(t.Context(), set("a")); err != nil {
			t.Fatal(err)
		}
		lacks(t, set("a"), c, task.ErrClaimMissing)
		for _, other := range []task.ClaimSet{set("b"), set("A"), set("a/b"), later} {
			has(t, other, c, data)
		}
		if got, want := sets(t), []string{"A", "a", "a/b", "b"}; !slices.Equal(got, want) {
			t.Errorf("sets %q, want %q", got, want)
		}
		for _, other := range []task.ClaimSet{set("b"), set("A"), set("a/b"), later} {
			if err := s.Delete(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		if got := sets(t); got != nil {
			t.Errorf("%q are left", got)
		}
	})

	t.Run("takes any ID", func(t *testing.T) {
		for _, id := range []string{"../..", "a b\\c:d*e?f", "%41=41.1", "é", ".", "-", strings.Repeat("x", 180)} {
			c := put(t, set(id), []byte(id))
			has(t, set(id), c, []byte(id))
			if got := sets(t); !slices.Equal(got, []string{id}) {
				t.Errorf("sets %q, want %q", got, id)
			}
			if err := s.Delete(t.Context(), set(id)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Put(t.Context(), set(strings.Repeat("x", 500)), nil); !errors.Is(err, task.ErrTooLarge) {
			t.Errorf("an ID that is too long for a name: %v", err)
		}
	})

	t.Run("never returns other bytes than were put", func(t *testing.T) {
		c := put(t, set("task"), []byte("right"))
		for _, data := range []string{"wrong", "righ", "right!", ""} {
			spoil(t, set("task"), c, []byte(data))
			lacks(t, set("task"), c, task.ErrClaimCorrupt)
		}
		spoil(t, set("task"), c, nil)
		lacks(t, set("task"), c, task.ErrClaimMissing)
		lacks(t, set("task"), task.Claim{Size: 1, SHA256: "../../../etc/passwd"}, task.ErrClaimCorrupt)
		has(t, set("task"), put(t, set("task"), []byte("right")), []byte("right"))
	})

	t.Run("is used by many at once", func(t *testing.T) {
		data := bytes.Repeat([]byte("x"), 1<<20)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				c, err := s.Put(t.Context(), set("task"), data)
				if err != nil {
					t.Error(err)
					return
				}
				has(t, set("task"), c, data)
			})
		}
		wg.Wait()
	})
}
