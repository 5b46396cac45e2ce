// Command hello is a Longhaul program with one tool of its own.
//
//	go run ./examples/hello dev
package main

import (
	"context"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
	_ "github.com/longhaul-mcp/longhaul/devserver" // the embedded Temporal
)

type input struct {
	Name string `json:"name" jsonschema:"whom to greet"`
}

type output struct {
	Greeting string `json:"greeting"`
}

// greet takes its time. If the process is killed meanwhile, the call goes on
// after the restart where it was, for the tool says that it may be repeated.
func greet(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, output, error) {
	const steps = 5
	done, _, err := longhaul.LoadCheckpoint[int](req)
	if err != nil {
		return nil, output{}, err
	}
	for ; done < steps; done++ {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, output{}, ctx.Err()
		}
		if err := longhaul.SaveCheckpoint(ctx, req, float64(done+1), steps, "thinking of something nice", done+1); err != nil {
			return nil, output{}, err
		}
	}
	return nil, output{Greeting: "Hello, " + in.Name + "!"}, nil
}

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "hello", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "greet",
		Description: "Greets somebody, after long thought.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, greet)

	os.Exit(longhaul.Run(longhaul.Options{Name: "hello", Version: "1.0.0", Server: server}))
}
