// Command server is the Temporal of tests: the embedded engine in a process of
// its own, which ends when its standard input does.
//
//	server DATA-DIR ADDR
//
// It prints its address and its process ID when it is ready.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/internal/cpuprofile"
	"github.com/longhaul-mcp/longhaul/internal/enginereg"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	_ "github.com/longhaul-mcp/longhaul/internal/temporaltest/embedded"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Println(err) // for who waits for the address
		os.Exit(1)
	}
}

func run(dir, addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := enginereg.Start(ctx, enginereg.Options{
		DataDir:          dir,
		TemporalAddr:     addr,
		SearchAttributes: engine.SearchAttributes(),
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	if file := os.Getenv(temporaltest.ProfileEnv); file != "" {
		stop, err := cpuprofile.Start(file)
		if err != nil {
			return err
		}
		defer stop()
	}
	fmt.Println(s.TemporalAddr(), os.Getpid())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
