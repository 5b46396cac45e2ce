// Package tcpproxy stands between two processes and fails as networks do.
//
// A proxy passes connections on until it is told otherwise: [Proxy.Cut] breaks
// those there are, [Proxy.Refuse] also all that come, [Proxy.Hold] lets nothing
// through but breaks nothing, as a network that drops packets, and
// [Proxy.Delay] makes everything late. [Proxy.Heal] ends all of it.
package tcpproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy is a listening proxy on loopback.
type Proxy struct {
	listener net.Listener
	done     chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	target  string
	refuses bool
	held    chan struct{} // closed when nothing is held any more; nil if nothing is
	delay   time.Duration
	conns   map[*pair]struct{}
}

// pair is a connection of a client and the one it is passed on to.
type pair struct{ client, server *net.TCPConn }

// Listen starts a proxy to the address target, on any free port. An empty
// target, until [Proxy.SetTarget], is one that refuses.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, done: make(chan struct{}), target: target, conns: make(map[*pair]struct{})}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, as long as it lives.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetTarget makes new connections go to another address.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Cut resets all connections there are, and returns how many.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut()
}

// Refuse resets all connections there are and all that come.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = true
	p.cut()
}

// Hold passes nothing on, in either direction, until [Proxy.Heal]. Connections
// stay open, and new ones are taken.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Delay passes everything on that much later, in either direction.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Heal passes everything on again, what was held first.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses, p.delay = false, 0
	p.release()
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	close(p.done)
	_ = p.listener.Close()
	p.refuses = true
	p.cut()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) release() {
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

func (p *Proxy) cut() int {
	n := len(p.conns)
	for c := range p.conns {
		c.reset()
		delete(p.conns, c)
	}
	return n
}

// reset closes a pair so that both sides see a reset and not an end.
func (c *pair) reset() {
	for _, conn := range []*net.TCPConn{c.client, c.server} {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // out of descriptors, say: the next one may work
		}
		p.running.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	c := p.connect(client)
	if c == nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, c.server, c.client) })
	both.Go(func() { p.pass(c, c.client, c.server) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.client.Close()
	_ = c.server.Close()
}

// connect makes a pair of a client's connection, or returns nil.
func (p *Proxy) connect(client *net.TCPConn) *pair {
	p.mu.Lock()
	target, refuses := p.target, p.refuses
	p.mu.Unlock()
	if refuses || target == "" {
		return nil
	}
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return nil
	}
	c := &pair{client, server.(*net.TCPConn)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses {
		_ = server.Close()
		return nil
	}
	p.conns[c] = struct{}{}
	return c
}

// pass copies one direction of a pair until it ends.
func (p *Proxy) pass(c *pair, to, from *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.wait() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				p.give(c)
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if p.wait() {
				_ = to.CloseWrite()
			}
			return
		case err != nil:
			p.give(c)
			return
		}
	}
}

// give resets a pair one of whose sides is gone.
func (p *Proxy) give(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.reset()
	delete(p.conns, c)
}

// wait waits as long as what was read is held or delayed. It reports false when
// the proxy is closed.
func (p *Proxy) wait() bool {
	p.mu.Lock()
	held, delay := p.held, p.delay
	p.mu.Unlock()
	if delay > 0 {
		late := time.NewTimer(delay)
		defer late.Stop()
		select {
		case <-late.C:
		case <-p.done:
			return false
		}
	}
	if held != nil {
		select {
		case <-held:
		case <-p.done:
			return false
		}
	}
	return true
}
