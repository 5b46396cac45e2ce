package failpoint_test

import (
	"os"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/failpoint"
)

func setup(t *testing.T) (dir string) {
	t.Helper()
	// Not t.TempDir, which has the test's name in it.
	dir, err := os.MkdirTemp("", "failpoint-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv(failpoint.DirEnv, dir)
	t.Setenv(failpoint.ProcessEnv, "this")
	return dir
}

func arm(t *testing.T, dir, name string) *failpoint.Point {
	t.Helper()
	p, err := failpoint.Arm(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Disarm)
	return p
}

func TestReach(t *testing.T) {
	t.Run("waits where it is armed until it may go on", func(t *testing.T) {
		dir := setup(t)
		p := arm(t, dir, "here")
		passed := make(chan struct{})
		go func() {
			defer close(passed)
			failpoint.Reach("here")
		}()
		hit := <-p.Hits()
		if hit.Process != "this" {
			t.Errorf("it is process %q that waits", hit.Process)
		}
		select {
		case <-passed:
			t.Fatal("it has not waited")
		default:
		}
		hit.Go()
		<-passed
	})
	t.Run("goes on when the failpoint is disarmed", func(t *testing.T) {
		dir := setup(t)
		p := arm(t, dir, "here")
		passed := make(chan struct{})
		for range 2 {
			go func() {
				failpoint.Reach("here")
				passed <- struct{}{}
			}()
		}
		<-p.Hits() // one is held, the other one wants to be
		p.Disarm()
		<-passed
		<-passed
		failpoint.Reach("here")
	})
	t.Run("passes what is not armed", func(t *testing.T) {
		dir := setup(t)
		arm(t, dir, "elsewhere")
		failpoint.Reach("here")
	})
	t.Run("passes everything in an ordinary process", func(t *testing.T) {
		dir := setup(t)
		arm(t, dir, "here")
		t.Setenv(failpoint.DirEnv, "")
		failpoint.Reach("here")
	})
}
