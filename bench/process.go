package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cpuprofile"
)

// The environment of a process that is this program again: its role, and the
// directory for a CPU profile of it, if there is to be one.
const (
	roleEnv    = "LONGHAUL_BENCH_ROLE"
	profileEnv = "LONGHAUL_BENCH_PROFILE"
)

// role is a process's own side of a measurement: it reads requests and writes
// replies, one JSON value each, until there are no more.
type role struct {
	in  *json.Decoder
	out *json.Encoder
}

func playRole(ctx context.Context, name string) error {
	play, ok := roles()[name]
	if !ok {
		return fmt.Errorf("there is no role %q", name)
	}
	if dir := os.Getenv(profileEnv); dir != "" {
		stop, err := cpuprofile.Start(filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", name, os.Getpid())))
		if err != nil {
			return err
		}
		defer stop()
	}
	return play(ctx, &role{json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)})
}

// process is a running role.
type process struct {
	name string
	pid  int
	in   *json.Encoder
	out  *json.Decoder
	log  string // the file
}

// start starts a process in a role, hands it its first request and decodes its
// first reply, unless that is nil. It ends with the stage.
func (s *stage) start(roleName string, request, reply any) (*process, error) {
	l, err := s.launch(roleName, s.env(roleName), s.self)
	if err != nil {
		return nil, err
	}
	s.onClose(l.end)
	p := &process{roleName, l.cmd.Process.Pid, json.NewEncoder(l.stdin), json.NewDecoder(l.stdout), l.log}
	return p, p.ask(request, reply)
}

// launched is a process that was started, which is to end with its input.
type launched struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	log    string // the file of its standard error
}

// launch starts a command with additional environment, on the stage's cores. The
// caller has to end it.
func (s *stage) launch(name string, env []string, args ...string) (*launched, error) {
	log, err := s.log(name)
	if err != nil {
		return nil, err
	}
	if s.cores != "" {
		args = append([]string{"taskset", "--cpu-list", s.cores}, args...)
	}
	l := &launched{cmd: exec.Command(args[0], args[1:]...), log: log.Name()}
	l.cmd.Env = append(os.Environ(), env...)
	l.cmd.Stderr = log
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if l.stdout, err = l.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return l, l.cmd.Start()
}

// end waits for the process to end, which it does with its input.
func (l *launched) end() {
	_ = l.stdin.Close()
	_, _ = io.Copy(io.Discard, l.stdout)
	_ = l.cmd.Wait()
}

// env is the environment of a role.
func (s *stage) env(roleName string) []string {
	return []string{roleEnv + "=" + roleName, profileEnv + "=" + s.profiles}
}

// ask hands the process a request and decodes its reply, unless that is nil.
func (p *process) ask(request, reply any) error {
	if err := p.in.Encode(request); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if reply == nil {
		reply = &struct{}{}
	}
	if err := p.out.Decode(reply); err != nil {
		return fmt.Errorf("%s has not replied: %w; %s", p.name, err, lastLine(p.log))
	}
	return nil
}

// lastLine is what a process that ended has said last.
func lastLine(log string) string {
	said, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	said = bytes.TrimSpace(said)
	return string(said[bytes.LastIndexByte(said, '\n')+1:])
}

// serve answers the requests that follow with what do returns, until they end.
func serve[Request, Reply any](r *role, do func(Request) (Reply, error)) error {
	for {
		var request Request
		switch err := r.in.Decode(&request); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		reply, err := do(request)
		if err != nil {
			return err
		}
		if err := r.out.Encode(reply); err != nil {
			return err
		}
	}
}

// startProgram starts a program that says on standard output where its MCP
// endpoint is, if it has one, and then "ready", as all of Longhaul's commands
// do. It ends with the stage.
func (s *stage) startProgram(name string, env []string, command ...string) (pid int, endpoint string, err error) {
	l, err := s.launch(name, env, command...)
	if err != nil {
		return 0, "", err
	}
	s.onClose(func() {
		_ = l.cmd.Process.Signal(os.Interrupt)
		l.end()
	})
	lines := bufio.NewScanner(l.stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "MCP endpoint"); ok {
			endpoint = strings.TrimSpace(url)
		}
		if lines.Text() == "ready" {
			return l.cmd.Process.Pid, endpoint, nil
		}
	}
	return 0, "", fmt.Errorf("%s ended before it was ready: %w", name, lines.Err())
}

// usage is what a process has used so far, or has now.
type usage struct {
	cpu         time.Duration // user and system
	rss         int64         // bytes
	descriptors int
}

// clockTick is the unit of CPU time in /proc, on every Linux there is.
const clockTick = 10 * time.Millisecond

// use reads what a process uses, from /proc.
func use(pid int) (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	// The second field is a name in parentheses, which may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	u.cpu = time.Duration(user+system) * clockTick
	u.rss = pages * int64(os.Getpagesize())
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	u.descriptors = len(open)
	return u, err
}
