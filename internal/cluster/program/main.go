// Command program is the Longhaul of package cluster: one with tools that leave
// effects behind (package effects), whose processes end with their parent.
//
// The directory of the effects is in LONGHAUL_EFFECTS. On the Unix socket named
// by LONGHAUL_DEBUG it serves net/http/pprof.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof" // on http.DefaultServeMux
	"os"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/internal/failpoint"
)

func main() {
	// Whoever started this process holds the other end.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	if socket := os.Getenv("LONGHAUL_DEBUG"); socket != "" {
		if err := debug(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	t := tools{log: effects.In(os.Getenv("LONGHAUL_EFFECTS")), process: os.Getenv(failpoint.ProcessEnv)}
	os.Exit(longhaul.Run(t.options()))
}

// debug serves on the socket, which a process before this one may have left.
func debug(socket string) error {
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprintln(os.Stderr, "the debug server ended:", http.Serve(l, nil))
	}()
	return nil
}
