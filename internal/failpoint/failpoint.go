// Package failpoint stops a program at an exact place, so that whoever watches
// can do there what is to be done: kill the process, stop it, cut a connection.
//
// Production code has only comments, which cost nothing:
//
//	//failpoint:task-started
//
// A build by package overlay puts calls of [Reach] in their place. A failpoint
// is armed while a Unix socket of its name is listened on, in the directory
// that the environment of the process names; so it is armed for processes that
// are not there yet, and one that is not armed is passed at the price of a
// system call. Whoever reaches an armed one waits for the word to go on.
package failpoint

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// What a process with failpoints has in its environment: the directory of the
// sockets, and its own name.
const (
	DirEnv     = "LONGHAUL_FAILPOINTS"
	ProcessEnv = "LONGHAUL_PROCESS"
)

// Reach waits here if the failpoint is armed.
func Reach(name string) {
	dir := os.Getenv(DirEnv)
	if dir == "" {
		return
	}
	conn, err := net.Dial("unix", filepath.Join(dir, name))
	if err != nil {
		return // not armed
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, os.Getenv(ProcessEnv)); err != nil {
		return
	}
	// A byte is the word to go on; the end of whoever watches is, too.
	_, _ = conn.Read(make([]byte, 1))
}

// Point is an armed failpoint.
type Point struct {
	listener net.Listener
	hits     chan *Hit
	done     chan struct{}
	disarm   sync.Once
	waiting  sync.WaitGroup
}

// Hit is a process that waits at a failpoint. Other goroutines of that process
// go on.
type Hit struct {
	// Process is its name.
	Process string

	released chan struct{}
	release  sync.Once
}

// Arm makes processes wait at a failpoint from now on. dir is what they have
// under [DirEnv]; it has to be short, for the name of a socket is.
func Arm(dir, name string) (*Point, error) {
	l, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("failpoint %s: %w", name, err)
	}
	p := &Point{listener: l, hits: make(chan *Hit), done: make(chan struct{})}
	p.waiting.Go(p.accept)
	return p, nil
}

// Hits delivers whoever waits at the failpoint, one by one.
func (p *Point) Hits() <-chan *Hit { return p.hits }

// Go lets the process go on. It may be dead by now.
func (h *Hit) Go() { h.release.Do(func() { close(h.released) }) }

// Disarm lets everybody go on who waits, and nobody wait any more. It may be
// called more than once.
func (p *Point) Disarm() {
	p.disarm.Do(func() {
		close(p.done)
		_ = p.listener.Close()
	})
	p.waiting.Wait()
}

func (p *Point) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.waiting.Go(func() { p.hold(conn) })
	}
}

func (p *Point) hold(conn net.Conn) {
	defer conn.Close()
	process, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	hit := &Hit{Process: strings.TrimSpace(process), released: make(chan struct{})}
	select {
	case p.hits <- hit:
	case <-p.done:
		return
	}
	select {
	case <-hit.released:
	case <-p.done:
	}
}
