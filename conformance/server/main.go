// Command server is Longhaul with the fixture tools, for the official
// conformance suite and the official clients to be run against:
//
//	go run ./conformance/server --listen 127.0.0.1:8080 --data-dir data
//
// It is what "longhaul dev" is, but without a Web UI and with its Temporal on
// a free port. It prints the URL of its endpoint, then "ready".
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/conformance/fixture"
	_ "github.com/longhaul-mcp/longhaul/internal/temporaltest/embedded"
	"github.com/longhaul-mcp/longhaul/upstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` of the MCP endpoint; port 0 is any free one")
	dataDir := flag.String("data-dir", "", "`directory` of the database, which outlives the process")
	verbose := flag.Bool("verbose", false, "log everything")
	flag.Parse()

	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	p, err := longhaul.Dev(ctx, longhaul.Options{
		Servers: []upstream.Server{upstream.InProcess("", fixture.NewServer())},
		Tools:   fixture.Tools(),
		Listen:  *listen,
		DataDir: *dataDir,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}, longhaul.EngineOptions{TemporalAddr: "127.0.0.1:0", UIAddr: "off"})
	if err != nil {
		return err
	}
	defer p.Stop()
	fmt.Println(p.MCPURL)
	fmt.Println("ready")
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.Failed():
		return err
	}
}
