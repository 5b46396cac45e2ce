// Command existing-server puts durable tasks behind an MCP server that was
// written without a thought of them: server.go knows the go-sdk alone.
//
//	go run ./examples/existing-server dev
package main

import (
	"os"

	"github.com/longhaul-mcp/longhaul"
	_ "github.com/longhaul-mcp/longhaul/devserver" // the embedded Temporal
)

func main() {
	os.Exit(longhaul.Run(longhaul.Options{
		Name:   "rooms",
		Server: newServer(),
		// Since book_room asks while it runs, as tools of this version do.
		Protocol: "2025-11-25",
	}))
}
