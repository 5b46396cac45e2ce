//go:build unix

package claims_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// A share whose server is gone keeps a read as a pipe does that nobody writes to.
// Whoever waits for it is released, and does not take the bytes for lost.
func TestDirThatHangs(t *testing.T) {
	d, root := openDir(t)
	set, c := task.ClaimSet{TaskID: "task", CreatedAt: time.Now()}, claims.NewClaim([]byte("stored"))
	name, err := claims.SetName(set)
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(root, name, c.SHA256)
	if err := os.Mkdir(filepath.Dir(pipe), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.Get(ctx, set, c)
		ended <- err
	}()
	// To open it for writing waits for the reader; then it hangs.
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // releases the read
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || errors.Is(err, task.ErrClaimMissing) || errors.Is(err, task.ErrClaimCorrupt) {
		t.Errorf("error %v", err)
	}
}
