package demo

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// tree has files smaller and larger than the chunk of the tests, a name that
// sorts differently as a directory, and empty files.
var tree = map[string]string{
	"a/b/deep.txt": strings.Repeat("deep", 10),
	"a/x":          "x",
	"a.txt":        "sorts before a/x, as '.' is less than '/'",
	"b/empty":      "",
	"b/large":      strings.Repeat("0123456789", 20),
	"c":            "c",
	"z/last":       "the last one",
}

// digestOf computes what checksum_tree should return for files.
func digestOf(files map[string]string) string {
	manifest := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(manifest, "%x  %s\n", sha256.Sum256([]byte(files[path])), path)
	}
	return fmt.Sprintf("%x", manifest.Sum(nil))
}

func sizeOf(files map[string]string) (n int64) {
	for _, content := range files {
		n += int64(len(content))
	}
	return n
}

// setupTree is setup with files to hash in small steps.
func setupTree(t *testing.T, files map[string]string) *harness {
	t.Helper()
	h := setup(t)
	h.demo.chunk = 16
	write(t, h.dir, files)
	return h
}

func checksumCall(checkpoint any) *mcp.CallToolParams {
	return &mcp.CallToolParams{Meta: attempt(checkpoint), Name: "checksum_tree", Arguments: map[string]any{"path": "."}}
}

func TestChecksumTreeHashesEveryFile(t *testing.T) {
	h := setupTree(t, tree)
	got := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
	want := checksumOutput{Digest: digestOf(tree), Files: int64(len(tree)), Bytes: sizeOf(tree)}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	progress := h.reported(t)
	growing(t, progress)
	if len(progress) == 0 {
		t.Fatal("no progress")
	}
	if last := progress[len(progress)-1]; last.Progress != float64(want.Bytes) || last.Total != float64(want.Bytes) {
		t.Errorf("last progress is %v of %v, want %d bytes", last.Progress, last.Total, want.Bytes)
	}
}

func TestChecksumTreeReportsSparingly(t *testing.T) {
	h := setupTree(t, tree)
	h.demo.pace = time.Hour
	h.call(t, checksumCall(nil))
	progress := h.reported(t)
	if len(progress) != 2 || progress[1].Progress != float64(sizeOf(tree)) {
		t.Errorf("got %d notifications, want the first and the end", len(progress))
	}
}

func TestChecksumTreeOfNothing(t *testing.T) {
	h := setupTree(t, nil)
	got := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
	if want := (checksumOutput{Digest: digestOf(nil)}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestChecksumTreeWritesNamesAsSha256sumDoes(t *testing.T) {
	h := setupTree(t, nil)
	if err := os.WriteFile(filepath.Join(h.dir, "a\\b\nc"), []byte("x"), 0o644); err != nil {
		t.Skipf("no such file names here: %v", err)
	}
	got := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
	line := fmt.Sprintf("\\%x  a\\\\b\\nc\n", sha256.Sum256([]byte("x")))
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(line))); got.Digest != want {
		t.Errorf("digest %s, want that of %q", got.Digest, line)
	}
}

func TestChecksumTreeSkips(t *testing.T) {
	t.Run("symbolic links and special files", func(t *testing.T) {
		h := setupTree(t, tree)
		symlink(t, "a.txt", filepath.Join(h.dir, "link"))
		symlink(t, "b", filepath.Join(h.dir, "a", "dirlink"))
		symlink(t, "/nowhere", filepath.Join(h.dir, "dangling"))
		socket, err := net.Listen("unix", filepath.Join(h.dir, "s"))
		if err != nil {
			t.Skipf("no unix sockets here: %v", err)
		}
		defer socket.Close()
		got := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
		if got.Digest != digestOf(tree) || got.Skipped != (skipped{Symlinks: 3, Special: 1}) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("what cannot be opened", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root can open everything")
		}
		h := setupTree(t, tree)
		write(t, h.dir, map[string]string{"secret": "s", "closed/file": "f"})
		for _, name := range []string{"secret", "closed"} {
			name = filepath.Join(h.dir, name)
			if err := os.Chmod(name, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(name, 0o700) })
		}
		got := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
		if got.Digest != digestOf(tree) || got.Skipped != (skipped{Unreadable: 2}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestChecksumTreeResumesFromEveryCheckpoint(t *testing.T) {
	h := setupTree(t, tree)
	symlink(t, "c", filepath.Join(h.dir, "a", "link"))
	want := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
	first := h.reported(t)
	if len(first) < 20 {
		t.Fatalf("only %d checkpoints to resume from", len(first))
	}

	middle := 0
	for _, cut := range first {
		state, err := json.Marshal(checkpointOf(cut))
		if err != nil {
			t.Fatal(err)
		}
		if len(state) > 1000 {
			t.Errorf("a checkpoint has %d bytes", len(state))
		}
		if strings.Contains(string(state), `"offset"`) {
			middle++
		}
		h2 := setupClient(t, h.dir, wire2026, &mcp.ClientOptions{})
		h2.demo.chunk = 16
		got := structured[checksumOutput](t, h2.call(t, checksumCall(checkpointOf(cut))))
		want.ResumedFrom = int64(cut.Progress)
		if got != want {
			t.Errorf("resumed from %s\ngot  %+v\nwant %+v", state, got, want)
		}
		progress := h2.reported(t)
		growing(t, progress)
		if len(progress) > 0 && progress[0].Progress <= cut.Progress {
			t.Errorf("progress begins at %v, was %v", progress[0].Progress, cut.Progress)
		}
	}
	if middle == 0 {
		t.Error("no checkpoint was taken in the middle of a file")
	}
}

func TestChecksumTreeResumesWithNamesThatAreNotUTF8(t *testing.T) {
	files := map[string]string{"a\xff": strings.Repeat("a", 40), "a\xffb": strings.Repeat("b", 40)}
	h := setup(t)
	for name := range files {
		if err := os.WriteFile(filepath.Join(h.dir, name), nil, 0o644); err != nil {
			t.Skipf("no such file names here: %v", err)
		}
	}
	write(t, h.dir, files)
	h.demo.chunk = 16
	want := structured[checksumOutput](t, h.call(t, checksumCall(nil)))
	for _, cut := range h.reported(t) {
		h2 := setupClient(t, h.dir, wire2026, &mcp.ClientOptions{})
		want.ResumedFrom = int64(cut.Progress)
		if got := structured[checksumOutput](t, h2.call(t, checksumCall(checkpointOf(cut)))); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestChecksumTreeRehashesAFileThatChangedBetweenAttempts(t *testing.T) {
	h := setupTree(t, tree)
	h.call(t, checksumCall(nil))
	progress := h.reported(t)
	i := slices.IndexFunc(progress, func(p *mcp.ProgressNotificationParams) bool {
		file, ok := checkpointOf(p).(map[string]any)["file"].(map[string]any)
		return ok && file["offset"].(float64) == 160 // in b/large
	})
	if i < 0 {
		t.Fatal("no checkpoint in the middle of b/large")
	}

	changed := maps.Clone(tree)
	changed["b/large"] = strings.Repeat("9876543210", 20) // the same size
	write(t, h.dir, changed)
	if err := os.Chtimes(filepath.Join(h.dir, "b/large"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	h2 := setupClient(t, h.dir, wire2026, &mcp.ClientOptions{})
	got := structured[checksumOutput](t, h2.call(t, checksumCall(checkpointOf(progress[i]))))
	if got.Digest != digestOf(changed) || got.Bytes != sizeOf(changed) || got.Files != int64(len(changed)) {
		t.Errorf("got %+v, want digest %s", got, digestOf(changed))
	}
	growing(t, h2.reported(t))
}

func TestChecksumTreeStartsOverFromABadCheckpoint(t *testing.T) {
	for name, bad := range map[string]any{
		"of another shape":        "half way",
		"without a manifest":      map[string]any{"done": []byte("a.txt")},
		"with a broken manifest":  map[string]any{"manifest": []byte("sha")},
		"with a broken file hash": map[string]any{"manifest": manifestState(t), "file": map[string]any{"path": []byte("c"), "modTime": "0", "hash": []byte("sha")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := setupTree(t, tree)
			got := structured[checksumOutput](t, h.call(t, checksumCall(bad)))
			if got.Digest != digestOf(tree) || got.ResumedFrom != 0 {
				t.Errorf("got %+v", got)
			}
			h.reported(t)
			if !strings.Contains(h.log.String(), "starting over") {
				t.Error("nothing was logged")
			}
		})
	}
}

func manifestState(t *testing.T) []byte {
	t.Helper()
	state, err := marshalHash(sha256.New())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestChecksumTreeStopsWhenCancelledAndGoesOnLater(t *testing.T) {
	h := setupTree(t, tree)
	// Hold the tool in its fifth progress notification until it is cancelled.
	reached := make(chan any, 1)
	sent := 0
	h.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			p, ok := req.GetParams().(*mcp.ProgressNotificationParams)
			if !ok {
				return next(ctx, method, req)
			}
			if sent++; sent == 5 {
				reached <- checkpointOf(p)
				<-ctx.Done()
			}
			return nil, nil
		}
	})
	ended := h.results()

	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := h.session.CallTool(ctx, checksumCall(nil))
		failed <- err
	}()
	checkpoint := <-reached
	cancel()
	if err := <-failed; err == nil {
		t.Error("the cancelled call succeeded")
	}
	wantError(t, <-ended, context.Canceled.Error())
	if sent != 5 {
		t.Errorf("%d notifications were sent, want the 5 before the cancel", sent)
	}

	h2 := setupClient(t, h.dir, wire2026, &mcp.ClientOptions{})
	got := structured[checksumOutput](t, h2.call(t, checksumCall(checkpoint)))
	if got.Digest != digestOf(tree) || got.ResumedFrom == 0 {
		t.Errorf("got %+v", got)
	}
}

func TestPacerHoldsBackWhatComesTooSoon(t *testing.T) {
	p := pacer{every: time.Hour, last: 3}
	if p.due(3) {
		t.Error("due without growth")
	}
	if !p.due(4) || p.due(5) {
		t.Error("want the first growth due and the next one held back")
	}
	p.flush()
	if p.due(4) || !p.due(5) {
		t.Error("flush: want growth due, and only growth")
	}
}
