package upstream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStarts(t *testing.T) {
	refused := func(t *testing.T, s *starts) bool {
		t.Helper()
		done, err := s.begin(t.Context())
		if err == nil {
			done()
			return false
		}
		var refusal *refusedError
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "out of cheese") {
			t.Fatal(err)
		}
		return true
	}
	fail := func(s *starts) {
		begun := time.Now()
		time.Sleep(time.Millisecond)
		s.failed(begun, "out of cheese")
	}
	t.Run("are refused for longer and longer, from the second failure on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStarts()
			for _, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
				fail(s)
				began := time.Now()
				for refused(t, s) {
					time.Sleep(100 * time.Millisecond)
				}
				if got := time.Since(began).Round(time.Second); got != want*time.Second {
					t.Errorf("refused for %s, want %d s", got, want)
				}
			}
			s.sound()
			fail(s)
			if refused(t, s) {
				t.Error("refused after one failure of a command that was sound")
			}
		})
	})
	t.Run("processes that fail together have failed once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStarts()
			begun := time.Now()
			for range 5 {
				time.Sleep(time.Millisecond)
				s.failed(begun, "out of cheese")
			}
			if refused(t, s) {
				t.Error("refused")
			}
		})
	})
	t.Run("are made one after the other after a failure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStarts()
			fail(s)
			done, err := s.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			others := make(chan bool, 3)
			for range cap(others) {
				go func() { others <- refused(t, s) }()
			}
			synctest.Wait()
			if len(others) != 0 {
				t.Error("another was begun meanwhile")
			}
			fail(s)
			done()
			for range cap(others) {
				if !<-others {
					t.Error("another was begun at once")
				}
			}
		})
	})
}
