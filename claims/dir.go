package claims

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"

	"github.com/longhaul-mcp/longhaul/task"
)

// marker is a file in the root of a [Dir]. Where it is missing, so is the
// directory: a share that is not mounted looks like one that is empty.
const marker = "longhaul-claims"

// Dir is a [Store] in a directory, which may be on a file system shared by
// several machines. Only its owner can read it.
//
// A set is a directory in it, and the bytes are in a file named after their
// hash. A file is written under another name first, so it is there whole or
// not at all, even after a crash.
//
// A share whose server is gone may keep a call in the file system for ever. Who
// waits for it is released when its context ends; the call itself is left behind.
type Dir struct{ root string }

// OpenDir opens the store in the directory root, which is made if missing. The
// error says that it cannot be written to.
func OpenDir(root string) (*Dir, error) {
	d := &Dir{root: root}
	err := os.MkdirAll(root, 0o700)
	if err == nil {
		err = write(root, marker, []byte("Large arguments and results of Longhaul's tasks.\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("the directory of large arguments and results cannot be written to: %w", err)
	}
	return d, nil
}

// await waits for f as long as ctx lasts.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("the directory of large arguments and results does not answer: %w", context.Cause(ctx))
	}
}

// Put implements [Store].
func (d *Dir) Put(ctx context.Context, set task.ClaimSet, data []byte) (task.Claim, error) {
	return await(ctx, func() (task.Claim, error) { return d.put(set, data) })
}

func (d *Dir) put(set task.ClaimSet, data []byte) (task.Claim, error) {
	name, err := SetName(set)
	if err != nil {
		return task.Claim{}, err
	}
	if err := d.here(); err != nil {
		return task.Claim{}, err
	}
	dir := filepath.Join(d.root, name)
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := syncDir(d.root); err != nil {
			return task.Claim{}, err
		}
	case !errors.Is(err, fs.ErrExist):
		return task.Claim{}, err
	}
	c := NewClaim(data)
	return c, write(dir, c.SHA256, data)
}

// write writes a file in dir that is there whole or not at all.
func write(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "tmp-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes new names in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // It does so by itself, and has no way to ask.
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// here reports why nothing can be said of what is in the store, if it is away.
func (d *Dir) here() error {
	if _, err := os.Stat(filepath.Join(d.root, marker)); err != nil {
		return fmt.Errorf("the directory of large arguments and results is not there: %w", err)
	}
	return nil
}

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, set task.ClaimSet, c task.Claim) ([]byte, error) {
	return await(ctx, func() ([]byte, error) { return d.get(set, c) })
}

func (d *Dir) get(set task.ClaimSet, c task.Claim) ([]byte, error) {
	name, err := SetName(set)
	if err != nil {
		return nil, err
	}
	if err := CheckName(c); err != nil {
		return nil, err
	}
	file := filepath.Join(d.root, name, c.SHA256)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.here(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", task.ErrClaimMissing, file)
	}
	if err != nil {
		return nil, err
	}
	if err := Check(c, data); err != nil {
		return nil, err
	}
	return data, nil
}

// Delete implements [Store].
func (d *Dir) Delete(ctx context.Context, set task.ClaimSet) error {
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, d.delete(set) })
	return err
}

func (d *Dir) delete(set task.ClaimSet) error {
	name, err := SetName(set)
	if err != nil {
		return nil // There is no such set.
	}
	if err := d.here(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(d.root, name))
}

// Sets implements [Store].
func (d *Dir) Sets(ctx context.Context) iter.Seq2[StoredSet, error] {
	return func(yield func(StoredSet, error) bool) {
		entries, err := await(ctx, func() ([]fs.DirEntry, error) {
			entries, err := os.ReadDir(d.root)
			if err == nil {
				err = d.here()
			}
			return entries, err
		})
		if err != nil {
			yield(StoredSet{}, err)
			return
		}
		for _, e := range entries {
			set, ok := ParseSetName(e.Name())
			if !ok {
				continue
			}
			info, err := await(ctx, e.Info)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(StoredSet{}, err)
				return
			}
			if !yield(StoredSet{ClaimSet: set, StoredAt: info.ModTime()}, nil) {
				return
			}
		}
	}
}
