package npm

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Everything is the script of server-everything, to be run with Node.
func (p *Packages) Everything() string {
	return p.Path("@modelcontextprotocol", "server-everything", "dist", "index.js")
}

// StartEverything runs server-everything over streamable HTTP until the test
// ends, and returns its address. It cannot choose a free port by itself, and one
// that was free may be taken again.
func (p *Packages) StartEverything(t testing.TB) string {
	t.Helper()
	for range 5 {
		if url := p.tryEverything(t); url != "" {
			return url
		}
	}
	t.Fatal("server-everything did not start")
	return ""
}

func (p *Packages) tryEverything(t testing.TB) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(p.Node, p.Everything(), "streamableHttp")
	cmd.Env = append(os.Environ(), "PORT="+port)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	listening := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(stderr)
		for said := false; lines.Scan(); {
			if !said && strings.Contains(lines.Text(), "listening") {
				said = true
				close(listening)
			}
		}
	}()
	select {
	case <-listening:
	case <-drained:
		return ""
	}
	return "http://127.0.0.1:" + port + "/mcp"
}
