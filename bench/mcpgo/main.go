// Command mcpgo is what Longhaul is compared with: the tasks of mcp-go, which
// are kept in memory. It is a module of its own, so that whoever imports
// Longhaul does not get the dependency.
//
// It says where its endpoint is and ends when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

func main() {
	s := server.NewMCPServer("mcpgo", "1", server.WithTaskCapabilities(true, true, true), server.WithPaginationLimit(pageSize))
	s.AddTool(mcp.NewTool("nothing", mcp.WithTaskSupport(mcp.TaskSupportRequired)), nothing)
	s.AddTool(mcp.NewTool("wait", mcp.WithTaskSupport(mcp.TaskSupportRequired)), wait)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, server.NewStreamableHTTPServer(s))) }()
	fmt.Printf("MCP endpoint http://%s/mcp\nready\n", listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// pageSize is that of Longhaul's tasks/list. By default all tasks are on one page.
const pageSize = 50

func nothing(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return mcp.NewToolResultText("done"), nil
}

// wait never ends. It does not heed its context, which mcp-go cancels as soon
// as the request that created the task is answered.
func wait(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	select {}
}
