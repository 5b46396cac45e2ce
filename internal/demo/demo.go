// Package demo is an MCP server with tools that take their time, to try
// durable tasks on: checksum_tree and countdown go on after a crash where they
// stopped, rename_files asks before it does its work.
//
// It is an ordinary go-sdk server. Nothing in it knows of tasks but the
// checkpoints it saves with its progress.
package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// errOutside says that a path leaves the served directory, be it by "..", as
// an absolute path, or through a symbolic link.
var errOutside = errors.New("leads outside the served directory (absolute symbolic links do, too)")

// demo is what the tools share.
type demo struct {
	root    *os.Root
	rootDir string // absolute name of root
	escape  error  // what os.Root fails with for a path that leaves it
	logger  *slog.Logger

	chunk int           // bytes hashed between two looks at the context
	pace  time.Duration // least time between two progress notifications
}

// NewServer returns a server with the demo tools, which see the files in the
// directory root and nothing else: os.Root holds every path inside, symbolic
// links included. The directory stays open for the life of the server.
func NewServer(root string, logger *slog.Logger) (*mcp.Server, error) {
	d, err := newDemo(root, logger)
	if err != nil {
		return nil, fmt.Errorf("demo tools: %w", err)
	}
	return d.server()
}

func newDemo(root string, logger *slog.Logger) (*demo, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	// The error for an escaping path is not exported; provoke it once.
	_, err = r.Lstat("..")
	return &demo{
		root:    r,
		rootDir: dir,
		escape:  cause(err),
		logger:  logger,
		chunk:   1 << 20,
		pace:    100 * time.Millisecond,
	}, nil
}

func (d *demo) server() (*mcp.Server, error) {
	s := mcp.NewServer(
		&mcp.Implementation{Name: "longhaul-demo", Title: "Longhaul demo tools", Version: "1.0.0"},
		nil,
	)

	mcp.AddTool(s, &mcp.Tool{
		Name:  "checksum_tree",
		Title: "Checksum a directory tree",
		Description: "Hashes every regular file under a directory with SHA-256 and returns one digest of them all. " +
			"The digest is that of the lines sha256sum prints for the files in byte order of their paths: " +
			`find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum. ` +
			"Symbolic links, special files and what cannot be opened are skipped and counted.",
		Annotations: &mcp.ToolAnnotations{
			ReadOnlyHint:   true,
			IdempotentHint: true,
			OpenWorldHint:  new(false),
		},
	}, d.checksumTree)

	seconds, err := countdownSchema()
	if err != nil {
		return nil, fmt.Errorf("demo tools: %w", err)
	}
	mcp.AddTool(s, &mcp.Tool{
		Name:        "countdown",
		Title:       "Count down",
		Description: "Waits for a number of seconds, up to a day, reporting every second how many are left.",
		InputSchema: seconds,
		Annotations: &mcp.ToolAnnotations{
			ReadOnlyHint:   true,
			IdempotentHint: true,
			OpenWorldHint:  new(false),
		},
	}, d.countdown)

	mcp.AddTool(s, &mcp.Tool{
		Name:  "rename_files",
		Title: "Rename files",
		Description: "Renames the regular files in one directory (not those below it) whose names match a regular expression. " +
			"First works out a plan and asks the user to confirm it; changes nothing without that, and never overwrites a file.",
		Annotations: &mcp.ToolAnnotations{
			DestructiveHint: new(true),
			OpenWorldHint:   new(false),
		},
	}, d.renameFiles)

	return s, nil
}

// openDir opens the directory that a tool's path argument names, relative to
// the served directory or as an absolute path inside it. What is done through
// the result stays in that directory.
func (d *demo) openDir(path string) (*os.Root, error) {
	name := path
	if filepath.IsAbs(path) {
		rel, err := filepath.Rel(d.rootDir, path)
		if err != nil {
			return nil, fmt.Errorf("path %q %w", path, errOutside)
		}
		name = rel
	}
	dir, err := d.root.OpenRoot(filepath.Clean(name))
	switch err := cause(err); {
	case err == nil:
		return dir, nil
	case errors.Is(err, d.escape):
		return nil, fmt.Errorf("path %q %w", path, errOutside)
	default:
		return nil, fmt.Errorf("path %q: %w", path, err)
	}
}

// cause strips the operation and the path from an error of package os, for
// messages that name the path in the caller's words.
func cause(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		return linkErr.Err
	}
	return err
}

// pacer says when progress is worth reporting: when it has grown, as the
// protocol requires, and enough time has passed.
type pacer struct {
	every time.Duration
	next  time.Time // earliest next report
	last  float64   // progress last reported
}

func (p *pacer) due(progress float64) bool {
	now := time.Now()
	if progress <= p.last || now.Before(p.next) {
		return false
	}
	p.last, p.next = progress, now.Add(p.every)
	return true
}

// flush makes the next growth due at once.
func (p *pacer) flush() { p.next = time.Time{} }
