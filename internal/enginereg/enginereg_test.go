package enginereg

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestStartWithoutAnEngineSaysWhatToDo(t *testing.T) {
	_, err := Start(context.Background(), Options{DataDir: t.TempDir()})
	if !errors.Is(err, ErrNotLinked) {
		t.Fatalf("err = %v, want ErrNotLinked", err)
	}
	for _, hint := range []string{"noembed", "TEMPORAL_ADDRESS"} {
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%q does not mention %s", err, hint)
		}
	}
}

func TestAddrErrorNamesTheTakenAddress(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	addr := lis.Addr().String()
	_, err = net.Listen("tcp", addr)
	got := (&AddrError{Listener: ListenerUI, Addr: addr, Err: err}).Error()
	if want := "Web UI address " + addr + " is already in use"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
