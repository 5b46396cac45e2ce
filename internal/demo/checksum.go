package demo

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
)

type checksumInput struct {
	Path string `json:"path" jsonschema:"the directory to hash"`
}

type checksumOutput struct {
	Digest      string  `json:"digest" jsonschema:"SHA-256 over the sha256sum lines of all files, in hex"`
	Files       int64   `json:"files" jsonschema:"regular files hashed"`
	Bytes       int64   `json:"bytes" jsonschema:"bytes hashed"`
	Skipped     skipped `json:"skipped" jsonschema:"what the digest does not cover"`
	ResumedFrom int64   `json:"resumedFrom" jsonschema:"bytes that were already hashed when this attempt began"`
}

// skipped counts the entries of a tree that are not hashed.
type skipped struct {
	Symlinks   int64 `json:"symlinks" jsonschema:"symbolic links, never followed"`
	Special    int64 `json:"special" jsonschema:"sockets, pipes, devices"`
	Unreadable int64 `json:"unreadable" jsonschema:"files and directories that could not be opened"`
}

// checksumState is the checkpoint of checksum_tree. Its size does not depend
// on the tree's. Paths are bytes since a file name need not be UTF-8.
type checksumState struct {
	Total    int64        `json:"total"`          // bytes in the tree when the first attempt began
	Done     []byte       `json:"done"`           // the walk is complete up to this key
	Manifest []byte       `json:"manifest"`       // hash state of the lines up to Done
	Files    int64        `json:"files"`          // up to Done
	Bytes    int64        `json:"bytes"`          // up to Done
	Skipped  skipped      `json:"skipped"`        // up to Done
	File     *partialFile `json:"file,omitempty"` // the file after Done, if begun
}

// partialFile is a file hashed as far as Offset. The hash is of use only as
// long as the file has the size and time of change noted here.
type partialFile struct {
	Path    []byte `json:"path"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"modTime,string"` // nanoseconds since 1970; too large for a JSON number
	Offset  int64  `json:"offset"`
	Hash    []byte `json:"hash"`
}

func (d *demo) checksumTree(ctx context.Context, req *mcp.CallToolRequest, in checksumInput) (*mcp.CallToolResult, *checksumOutput, error) {
	tree, err := d.openDir(in.Path)
	if err != nil {
		return nil, nil, err
	}
	defer tree.Close()

	c := &checksum{tree: tree, manifest: sha256.New(), chunk: make([]byte, d.chunk), pacer: pacer{every: d.pace}}
	c.report = func(state *checksumState, hashed int64) error {
		total := max(state.Total, hashed) // the tree may have grown
		message := fmt.Sprintf("%d files hashed, %.1f of %.1f MB", state.Files, float64(hashed)/1e6, float64(total)/1e6)
		return longhaul.SaveCheckpoint(ctx, req, float64(hashed), float64(total), message, state)
	}

	state, resumed, err := longhaul.LoadCheckpoint[checksumState](req)
	if err == nil && resumed {
		err = c.resume(&state)
	}
	if err != nil {
		d.logger.Warn("cannot resume, starting over", "tool", "checksum_tree", "error", err)
		resumed = false
	}
	if !resumed {
		if err := c.measure(ctx); err != nil {
			return nil, nil, err
		}
	}
	resumedFrom := c.state.Bytes
	if c.state.File != nil {
		resumedFrom += c.state.File.Offset
	}
	c.pacer.last = float64(resumedFrom)

	if err := c.run(ctx); err != nil {
		return nil, nil, err
	}
	return nil, &checksumOutput{
		Digest:      hex.EncodeToString(c.manifest.Sum(nil)),
		Files:       c.state.Files,
		Bytes:       c.state.Bytes,
		Skipped:     c.state.Skipped,
		ResumedFrom: resumedFrom,
	}, nil
}

// checksum hashes one tree.
type checksum struct {
	tree     *os.Root
	state    checksumState // but for Manifest, which is taken from manifest when reported
	manifest hash.Hash     // of the lines so far
	chunk    []byte
	pacer    pacer
	report   func(state *checksumState, hashed int64) error
}

// resume makes c go on from a checkpoint. On an error c is as before.
func (c *checksum) resume(state *checksumState) error {
	manifest := sha256.New()
	if err := unmarshalHash(manifest, state.Manifest); err != nil {
		return err
	}
	if state.File != nil {
		if err := unmarshalHash(sha256.New(), state.File.Hash); err != nil {
			return err
		}
	}
	c.manifest, c.state = manifest, *state
	return nil
}

// measure finds how many bytes there are to hash.
func (c *checksum) measure(ctx context.Context) error {
	return walk(ctx, c.tree, "", "", func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // counted when its turn to be hashed comes
		}
		info, err := entry.Info()
		if err == nil {
			c.state.Total += info.Size()
		}
		return nil
	})
}

func (c *checksum) run(ctx context.Context) error {
	err := walk(ctx, c.tree, "", string(c.state.Done), func(key string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			err = c.skipUnreadable(key, err)
		case entry.Type()&fs.ModeSymlink != 0:
			c.state.Skipped.Symlinks++
		case !entry.Type().IsRegular():
			c.state.Skipped.Special++
		default:
			err = c.hashFile(ctx, key)
		}
		if err != nil {
			return err
		}
		c.state.Done, c.state.File = []byte(key), nil
		return c.reportIfDue()
	})
	if err != nil {
		return err
	}
	c.pacer.flush()
	return c.reportIfDue()
}

// hashFile adds the line of one file to the manifest. It goes on in the middle
// if that is where the checkpoint was taken.
func (c *checksum) hashFile(ctx context.Context, path string) error {
	f, err := c.tree.Open(path)
	if err != nil {
		return c.skipUnreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("hashing %q: %w", path, cause(err))
	}

	sum := sha256.New()
	file := c.state.File
	if file != nil && string(file.Path) == path && file.Size == info.Size() && file.ModTime == info.ModTime().UnixNano() {
		if err := unmarshalHash(sum, file.Hash); err != nil {
			return err
		}
		if _, err := f.Seek(file.Offset, io.SeekStart); err != nil {
			return fmt.Errorf("hashing %q: %w", path, cause(err))
		}
	} else {
		file = &partialFile{Path: []byte(path), Size: info.Size(), ModTime: info.ModTime().UnixNano()}
		c.state.File = file
	}

	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(c.chunk)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("hashing %q: %w", path, cause(err))
		}
		sum.Write(c.chunk[:n])
		file.Offset += int64(n)
		if !c.pacer.due(float64(c.state.Bytes + file.Offset)) {
			continue
		}
		if file.Hash, err = marshalHash(sum); err != nil {
			return err
		}
		if err := c.send(); err != nil {
			return err
		}
	}
	_, _ = io.WriteString(c.manifest, manifestLine(sum.Sum(nil), path))
	c.state.Files++
	c.state.Bytes += file.Offset
	return nil
}

// skipUnreadable counts what cannot be opened for a reason that lies with the
// file. Other errors, such as having too many files open, are returned: they
// must not change the digest.
func (c *checksum) skipUnreadable(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening %q: %w", path, cause(err))
	}
	c.state.Skipped.Unreadable++
	return nil
}

// reportIfDue reports between two files.
func (c *checksum) reportIfDue() error {
	if !c.pacer.due(float64(c.state.Bytes)) {
		return nil
	}
	return c.send()
}

func (c *checksum) send() error {
	manifest, err := marshalHash(c.manifest)
	if err != nil {
		return err
	}
	c.state.Manifest = manifest
	hashed := c.state.Bytes
	if c.state.File != nil {
		hashed += c.state.File.Offset
	}
	return c.report(&c.state, hashed)
}

// walk visits what is in the directory dir of tree ("" for all of it) and comes
// after the key after, in byte order of the keys. The key of an entry is its
// slash-separated path. A directory is visited only if it cannot be read, with
// the error, a nil entry and a key that ends in a slash.
func walk(ctx context.Context, tree *os.Root, dir, after string, visit func(key string, entry fs.DirEntry, err error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := readDir(tree, dir)
	if err != nil && dir == "" {
		return fmt.Errorf("reading the directory: %w", cause(err))
	}
	if err != nil {
		return visit(dir, nil, err)
	}
	key := func(entry fs.DirEntry) string {
		if entry.IsDir() {
			return dir + entry.Name() + "/"
		}
		return dir + entry.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, entry := range entries {
		k := key(entry)
		switch {
		case entry.IsDir() && (k > after || k != after && strings.HasPrefix(after, k)):
			err = walk(ctx, tree, k, after, visit)
		case !entry.IsDir() && k > after:
			err = visit(k, entry, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readDir(tree *os.Root, dir string) ([]fs.DirEntry, error) {
	if dir == "" {
		dir = "."
	}
	f, err := tree.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// manifestLine is the line sha256sum prints for a file.
func manifestLine(sum []byte, path string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(path)
	if escaped != path {
		return fmt.Sprintf("\\%x  %s\n", sum, escaped)
	}
	return fmt.Sprintf("%x  %s\n", sum, path)
}

func marshalHash(h hash.Hash) ([]byte, error) {
	return h.(encoding.BinaryMarshaler).MarshalBinary()
}

func unmarshalHash(h hash.Hash, state []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}
