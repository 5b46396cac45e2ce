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
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
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
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", name, os.Getpid())))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
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
	log, err := s.log(roleName)
	if err != nil {
		return nil, err
	}
	cmd := s.command(s.env(roleName), s.self)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.onClose(func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	})
	p := &process{roleName, cmd.Process.Pid, json.NewEncoder(stdin), json.NewDecoder(stdout), log.Name()}
	return p, p.ask(request, reply)
}

// command is a command with additional environment, on the stage's cores.
func (s *stage) command(env []string, args ...string) *exec.Cmd {
	if s.cores != "" {
		args = append([]string{"taskset", "--cpu-list", s.cores}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
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
	log, err := s.log(name)
	if err != nil {
		return 0, "", err
	}
	cmd := s.command(env, command...)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, "", err
	}
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	s.onClose(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "MCP endpoint"); ok {
			endpoint = strings.TrimSpace(url)
		}
		if lines.Text() == "ready" {
			return cmd.Process.Pid, endpoint, nil
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
