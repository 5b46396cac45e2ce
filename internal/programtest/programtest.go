// Package programtest runs the program under test as a process of its own, so
// that tests see what a user sees: flags, output, signals and exit codes.
//
// The test binary itself is the program, if it is started by this package:
//
//	func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }
package programtest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// asProgram is set in the environment of a test binary that is the program.
const asProgram = "LONGHAUL_TEST_AS_PROGRAM"

// Main is the tests' main: it runs them or, in a process that one of them has
// started, the program. It returns the exit code, unless program exits.
func Main(m *testing.M, program func()) int {
	if os.Getenv(asProgram) == "" {
		return m.Run()
	}
	program()
	return 0
}

// Command is the program with the given arguments, not started yet.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// Fails runs the program, which has to exit with 1, and returns what it said.
func Fails(t testing.TB, args ...string) string {
	t.Helper()
	cmd := Command(t, args...)
	// One that starts after all would run for ever.
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Program is a started program that has said that it is ready.
type Program struct {
	*exec.Cmd
	announced string
}

// Start starts the program and waits until it is ready. It is killed when the
// test ends.
func Start(t testing.TB, args ...string) *Program {
	t.Helper()
	p := &Program{Cmd: Command(t, args...)}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	p.Stderr = &stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return p
		}
		p.announced += lines.Text() + "\n"
	}
	_ = p.Wait()
	t.Fatalf("%s ended before it was ready:\n%s%s", strings.Join(args, " "), p.announced, stderr.String())
	return nil
}

// DevArgs are arguments that run dev on free ports.
func DevArgs(dataDir string, more ...string) []string {
	return append([]string{
		"dev", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--temporal-addr", "127.0.0.1:0", "--ui-addr", "off",
	}, more...)
}

// Kill ends the program as kill -9 does. It may have ended already.
func (p *Program) Kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// URL is the address that the program has announced under a name, like
// "MCP endpoint".
func (p *Program) URL(t testing.TB, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` +(\S+)$`).FindStringSubmatch(p.announced)
	if m == nil {
		t.Fatalf("no %q in\n%s", name, p.announced)
	}
	return m[1]
}
