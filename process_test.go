package longhaul

import (
	"errors"
	"log/slog"
	"net"
	"testing"
)

// A start that cannot succeed says so at once. One that goes on does not let
// anybody connect before there is something to serve.
func TestEndpointIsNotListenedOnBeforehand(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	o := Options{DataDir: t.TempDir(), Listen: addr, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	prepare := func(p *Process) error {
		_, err := p.prepareEndpoint(o)
		return err
	}
	var taken *ListenError
	if _, err := start(o, prepare); !errors.As(err, &taken) || taken.Addr != addr {
		t.Errorf("at an address that is taken: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := start(o, prepare)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("it is listened on")
	}
}
