package conformance_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kills is how often a round is killed while somebody is asked.
const kills = 10

// A person is asked once, however often the process that holds the round is
// killed meanwhile, and whether or not the answer has reached the tool.
func TestKillWhileAsked(t *testing.T) {
	t.Parallel()
	t.Run("ten times over", func(t *testing.T) {
		t.Parallel()
		s, dir := startRecorder(t)
		c := connect2026(t, s.url).(client2026)
		id := c.create("repeatable", object{})
		awaitInput(t, c, id)
		key := onlyKey(t, c, id)
		same := func() {
			t.Helper()
			if got := onlyKey(t, c, id); got != key {
				t.Fatalf("the request %s has become %s", key, got)
			}
		}
		for n := range kills {
			s.crash()
			same()
			records(dir, "runs").await(t, n+2)
			same()
		}
		c.answer(id, whoSigns, "name", "Ada")
		// text fails when it is asked for anything.
		wantText(t, c, id, `{"outcome":"signed by Ada"}`)
		records(dir, "used").want(t, "Ada")
	})
	t.Run("with the answer not used yet", func(t *testing.T) {
		t.Parallel()
		s, dir := startRecorder(t)
		c := connect2026(t, s.url)
		stall := filepath.Join(dir, "stall")
		if err := os.WriteFile(stall, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		id := c.create("repeatable", object{})
		c.answer(id, whoSigns, "name", "Ada")
		records(dir, "answers").await(t, 1)
		s.kill()
		if err := os.Remove(stall); err != nil {
			t.Fatal(err)
		}
		s.start()
		wantText(t, c, id, `{"outcome":"signed by Ada"}`)
		records(dir, "answers").want(t, "Ada", "Ada")
		records(dir, "used").want(t, "Ada")
	})
	for _, g := range generations {
		t.Run("of a tool that may not be run twice, on "+g.name, func(t *testing.T) {
			t.Parallel()
			s, dir := startRecorder(t)
			c := g.connect(t, s.url)
			id := c.create("once", object{})
			awaitInput(t, c, id)
			s.crash()
			await(t, c, id, "failed", func(s taskState) bool { return s.Status == "failed" })
			if got := c.get(id).StatusMessage; !strings.Contains(strings.ToLower(got), "outcome is unknown") {
				t.Errorf("the task says %q", got)
			}
			if asks := connect2026(t, s.url).(client2026).detail(id).InputRequests; len(asks) > 0 {
				t.Errorf("the task still asks %v", asks)
			}
			records(dir, "runs").want(t, "once")
		})
	}
}

// startRecorder starts the [recorder], and returns the directory of its records.
func startRecorder(t *testing.T) (s *server, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	// env is a program, so that servers of tests that run at once have records of
	// their own.
	return startCommand(t, "env", recordsEnv+"="+dir, self, "dev", "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off"), dir
}

// onlyKey is the key of the one request that a task has outstanding.
func onlyKey(t *testing.T, c client2026, id string) string {
	t.Helper()
	d := c.detail(id)
	if len(d.InputRequests) != 1 {
		t.Fatalf("the task is %+v with %d requests outstanding", d.taskState, len(d.InputRequests))
	}
	for key := range d.InputRequests {
		return key
	}
	return ""
}

func (r recordFile) lines(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(string(r))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return slices.Collect(strings.FieldsSeq(string(data)))
}

// await waits until there are n records.
func (r recordFile) await(t *testing.T, n int) {
	t.Helper()
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(r.lines(t)) < n {
		select {
		case <-tick.C:
		case <-tooLong.C:
			t.Fatalf("%s has %q, not %d lines", filepath.Base(string(r)), r.lines(t), n)
		}
	}
}

func (r recordFile) want(t *testing.T, want ...string) {
	t.Helper()
	if got := r.lines(t); !slices.Equal(got, want) {
		t.Errorf("%s has %q, not %q", filepath.Base(string(r)), got, want)
	}
}
