package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
)

// tools are what all comparisons of a run have between them.
type tools struct {
	dir      string // temporary
	logs     string
	profiles string // "" if there are to be none
	temporal string // the program of the Temporal server
	self     string // this program
}

func newTools(ctx context.Context, logs, profiles string) (*tools, error) {
	t := &tools{logs: logs, profiles: profiles}
	var err error
	if t.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", "longhaul-bench-*"); err != nil {
		return nil, err
	}
	if t.logs == "" {
		// Not in dir: they are wanted when something has failed.
		if t.logs, err = os.MkdirTemp("", "longhaul-bench-logs-*"); err != nil {
			t.close()
			return nil, err
		}
	}
	for _, dir := range []string{t.logs, t.profiles} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.close()
			return nil, err
		}
	}
	t.temporal = filepath.Join(t.dir, "temporal")
	if err := temporaltest.Build(ctx, t.temporal); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tools) close() { _ = os.RemoveAll(t.dir) }

// stage is where a comparison is made. What it starts ends with it.
type stage struct {
	*tools
	name    string
	short   bool
	figures figures
	closers []func()
	// cores are those that what is started from now on has, as taskset names
	// them; "" are all. Temporal always has all.
	cores string
}

func (s *stage) onClose(f func()) { s.closers = append(s.closers, f) }

func (s *stage) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
}

// startTemporal starts a Temporal with an empty database.
func (s *stage) startTemporal() (*temporal, error) {
	dir, err := os.MkdirTemp(s.dir, "database-*")
	if err != nil {
		return nil, err
	}
	log, err := s.log("temporal")
	if err != nil {
		return nil, err
	}
	var env []string
	if s.profiles != "" {
		env = append(env, temporaltest.ProfileEnv+"="+filepath.Join(s.profiles, "temporal-"+filepath.Base(dir)+".pprof"))
	}
	server, err := temporaltest.StartBinary(s.temporal, dir, "", log, env...)
	if err != nil {
		return nil, err
	}
	s.onClose(server.Stop)
	return &temporal{server.Addr, server.PID(), dir}, nil
}

// log is the file that a process of this stage logs to.
func (s *stage) log(process string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.logs, s.name+"-"+process+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { _ = f.Close() })
	return f, nil
}

// temporal is a running Temporal server.
type temporal struct {
	addr     string
	pid      int
	database string // its directory
}
