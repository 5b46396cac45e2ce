package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/longhaul-mcp/longhaul/conformance/npm"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// rival is one of the servers that are compared, and the load on it.
type rival struct {
	name    string
	pid     int
	load    *process
	working string // a task that is in work
	pace    int    // reads that take it about a second
	all     samples
}

func (r *rival) round(o operation, n round) (out sample, err error) {
	return out, r.load.ask(loadRound{n, o}, &out)
}

// inMemory compares Longhaul with servers whose tasks are gone when the process
// is: mcp-go's and the TypeScript SDK's. The server has one core and the load the
// other, so that what is compared is what a request takes of the server. What
// Longhaul's api asks of others, Temporal and the worker, is not on that core.
func inMemory(ctx context.Context, s *stage) error {
	if runtime.NumCPU() < 2 {
		return errors.New("the servers and the load need a core each")
	}
	longhaul, err := s.startWatchedLonghaul(ctx)
	if err != nil {
		return err
	}
	mcpGo, err := s.startRival("mcp-go", 20_000, s.startMCPGo)
	if err != nil {
		return err
	}
	typeScript, err := s.startRival("TypeScript", 5_000, func() (int, string, error) { return s.startTypeScript("typescript") })
	if err != nil {
		return err
	}
	plain, err := s.startRival("TypeScript, plain HTTP", 8_000, func() (int, string, error) { return s.startTypeScript("typescript-plain", "--plain") })
	if err != nil {
		return err
	}
	rivals := []*rival{longhaul, mcpGo, typeScript, plain}

	rounds, seconds, operations, stored := 7, 2.0, 100, []int{1_000, 10_000}
	if s.short {
		rounds, seconds, operations, stored = 1, 0.02, 20, []int{20, 40}
	}
	for _, clients := range []int{8, 64} {
		if err := s.compare(rivals, fmt.Sprintf("get/%d", clients), rounds, func(r *rival) (operation, round) {
			return read(r.working, "working"), round{clients, int(seconds * float64(r.pace))}
		}); err != nil {
			return err
		}
		add := func(what string, value float64, unit string, t *target) {
			s.figures.add(fmt.Sprintf("in-memory/get/%d/%s", clients, what), value, unit, t)
		}
		add("throughput of mcp-go", longhaul.all.throughput()/mcpGo.all.throughput(), "×", atLeast(1.25))
		add("throughput of TypeScript", longhaul.all.throughput()/typeScript.all.throughput(), "×", atLeast(3.5))
		add("throughput of TypeScript, plain HTTP", longhaul.all.throughput()/plain.all.throughput(), "×", nil)
		add("p99 of mcp-go", ratio(longhaul.all.tail(0.99), mcpGo.all.tail(0.99)), "×", atMost(1))
		add("p99 of TypeScript", ratio(longhaul.all.tail(0.99), typeScript.all.tail(0.99)), "×", atMost(1))
		for _, r := range rivals {
			add(r.name+" server's CPU", micros(r.all.each(r.all.server)), "µs/read", nil)
			add(r.name+" load's CPU", micros(r.all.each(r.all.spent)), "µs/read", nil)
		}
	}

	// The rest is for information: the others write nothing to a disk.
	rounds = (rounds + 1) / 2
	have := 1 // The one that is read above.
	for _, n := range stored {
		for _, r := range rivals {
			// Tasks in work would all be in work in Longhaul's worker too. Those of
			// the others stay so, for the first to end turns all further replies of
			// mcp-go's session into streams, which take it longer.
			tool := toolWait
			if r == longhaul {
				tool = toolNothing
			}
			if _, err := r.round(create(tool), round{64, n - have}); err != nil {
				return err
			}
		}
		have = n
		if err := s.compare(rivals, fmt.Sprintf("list of %d", n), rounds, func(*rival) (operation, round) {
			return listed(""), round{8, operations}
		}); err != nil {
			return err
		}
	}
	return s.compare(rivals, "create-result", rounds, func(*rival) (operation, round) {
		return createAndResult(), round{8, 2 * operations}
	})
}

// startRival has a server started on one core and the load on another, and has a
// task made that stays in work.
func (s *stage) startRival(name string, pace int, serve func() (pid int, endpoint string, err error)) (*rival, error) {
	s.cores = "0"
	pid, endpoint, err := serve()
	if err != nil {
		return nil, err
	}
	s.cores = "1"
	load, err := s.start(roleLoad, served{endpoint}, nil)
	if err != nil {
		return nil, err
	}
	r := &rival{name: name, pid: pid, load: load, pace: pace}
	made, err := r.round(create(toolWait), round{1, 1})
	r.working = made.LastID
	return r, err
}

// startWatchedLonghaul starts an api with a task in work that somebody waits for.
func (s *stage) startWatchedLonghaul(ctx context.Context) (*rival, error) {
	temporal, err := s.startTemporal()
	if err != nil {
		return nil, err
	}
	if _, _, err := s.startCommand(temporal, "worker"); err != nil {
		return nil, err
	}
	var endpoint string
	r, err := s.startRival("Longhaul", 20_000, func() (pid int, _ string, err error) {
		pid, endpoint, err = s.startCommand(temporal, "api", "--hot-reads")
		return pid, endpoint, err
	})
	if err != nil {
		return nil, err
	}
	c, err := taskclient.Connect(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { _, _ = c.Cancel(context.WithoutCancel(ctx), r.working) })
	watch, err := taskclient.Subscribe(ctx, endpoint, r.working)
	if err != nil {
		return nil, err
	}
	s.onClose(watch.Close)
	return r, nil
}

// compare has the rivals make rounds of an operation in turn, each after one to
// warm up, and adds what they show.
func (s *stage) compare(rivals []*rival, name string, rounds int, turn func(*rival) (operation, round)) error {
	for _, r := range rivals {
		r.all = samples{}
		o, n := turn(r)
		if _, err := r.round(o, n); err != nil {
			return err
		}
	}
	for range rounds {
		for _, r := range rivals {
			o, n := turn(r)
			one, err := measureUse(r.pid, r.load.pid, func() (sample, error) { return r.round(o, n) })
			if err != nil {
				return err
			}
			r.all.add(one)
		}
	}
	for _, r := range rivals {
		add := func(what string, value float64, unit string) {
			s.figures.add("in-memory/"+name+"/"+r.name+" "+what, value, unit, nil)
		}
		add("throughput", r.all.throughput(), "/s")
		add("p50", millis(r.all.quantile(0.5)), "ms")
		add("p99", millis(r.all.tail(0.99)), "ms")
	}
	return nil
}

// startMCPGo starts the server on mcp-go, which is a module of its own.
func (s *stage) startMCPGo() (pid int, endpoint string, err error) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/longhaul-mcp/longhaul/bench").Output()
	if err != nil {
		return 0, "", fmt.Errorf("find the source of the server on mcp-go: %w", err)
	}
	binary := filepath.Join(s.dir, "mcpgo")
	out, err := exec.Command("go", "-C", filepath.Join(strings.TrimSpace(string(dir)), "mcpgo"), "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		return 0, "", fmt.Errorf("build the server on mcp-go: %w\n%s", err, out)
	}
	return s.startProgram("mcpgo", nil, binary)
}

//go:embed typescript/server.mjs
var typeScriptServer []byte

// startTypeScript starts the server on the TypeScript SDK, where Node finds it.
func (s *stage) startTypeScript(name string, args ...string) (pid int, endpoint string, err error) {
	packages, err := npm.Install()
	if err != nil {
		return 0, "", err
	}
	script := filepath.Join(s.dir, name, "server.mjs")
	if err := errors.Join(
		os.MkdirAll(filepath.Dir(script), 0o755),
		os.WriteFile(script, typeScriptServer, 0o644),
		os.Symlink(packages.Path(), filepath.Join(filepath.Dir(script), "node_modules")),
	); err != nil {
		return 0, "", err
	}
	return s.startProgram(name, nil, append([]string{packages.Node, script}, args...)...)
}
