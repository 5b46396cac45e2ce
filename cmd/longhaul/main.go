// Command longhaul puts durable tasks behind any MCP server.
package main

import (
	"os"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/demo"
)

// version is set by the linker in releases.
var version = ""

func main() {
	os.Exit(longhaul.Run(longhaul.Options{Version: version, Demo: demo.NewServer}))
}
