package devserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const lockName = "temporal.lock"

// dirLock is the exclusive use of a data directory. It is an flock, so it ends with the process
// even if that is killed. The file is never removed: a process that opened it just before would
// then hold a lock on a file nobody else sees.
type dirLock struct{ file *os.File }

// lockDir fails at once if another process, or another server in this one, uses dir.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
		}
		return nil, fmt.Errorf("data directory %s is in use by %s", dir, holder(f))
	}
	l := &dirLock{file: f}
	// The id is a courtesy to whoever finds the directory locked; the lock holds without it.
	if err := l.write(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return l, nil
}

// holder reads what the holder wrote, which may be nothing yet.
func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

func (l *dirLock) write(s string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(s), 0)
	return err
}

func (l *dirLock) release() {
	_ = l.write("") // a stale id is harmless: it is read only while somebody holds the lock
	l.file.Close()
}
