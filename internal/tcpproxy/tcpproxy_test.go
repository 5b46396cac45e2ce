package tcpproxy_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/tcpproxy"
)

const patience = 10 * time.Second

// setup starts a proxy to a server that echoes.
func setup(t *testing.T) *tcpproxy.Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	p, err := tcpproxy.Listen(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *tcpproxy.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

func write(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

func wantEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func wantReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the error is %v", err)
	}
}

// wantRefused wants a new connection reset, which it may be while it is made.
func wantRefused(t *testing.T, p *tcpproxy.Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the error is %v", err)
	}
}

func TestProxy(t *testing.T) {
	t.Run("passes on, and ends one direction at a time", func(t *testing.T) {
		conn := dial(t, setup(t))
		write(t, conn)
		conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "x" || err != nil {
			t.Errorf("got %q, error %v", got, err)
		}
	})
	t.Run("cut resets what there is, and no more", func(t *testing.T) {
		p := setup(t)
		conn := dial(t, p)
		write(t, conn)
		wantEcho(t, conn)
		if n := p.Cut(); n != 1 {
			t.Errorf("%d connections were cut", n)
		}
		wantReset(t, conn)
		conn = dial(t, p)
		write(t, conn)
		wantEcho(t, conn)
	})
	t.Run("refuses until it is healed", func(t *testing.T) {
		p := setup(t)
		p.Refuse()
		wantRefused(t, p)
		p.Heal()
		conn := dial(t, p)
		write(t, conn)
		wantEcho(t, conn)
	})
	t.Run("holds what comes until it is healed", func(t *testing.T) {
		p := setup(t)
		conn := dial(t, p)
		write(t, conn)
		wantEcho(t, conn)
		p.Hold()
		write(t, conn)
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("something came through")
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		p.Heal()
		wantEcho(t, conn)
	})
	t.Run("delays", func(t *testing.T) {
		p := setup(t)
		conn := dial(t, p)
		p.Delay(20 * time.Millisecond)
		begin := time.Now()
		write(t, conn)
		wantEcho(t, conn)
		if took := time.Since(begin); took < 40*time.Millisecond { // there and back
			t.Errorf("it took %s", took)
		}
	})
	t.Run("changes its target", func(t *testing.T) {
		p, other := setup(t), setup(t)
		p.SetTarget("")
		wantRefused(t, p)
		p.SetTarget(other.Addr())
		conn := dial(t, p)
		write(t, conn)
		wantEcho(t, conn)
	})
}
