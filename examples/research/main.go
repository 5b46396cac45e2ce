// Command research answers a question with the model of whoever asks: it has
// the model split the question, answers the parts one by one, and sums up.
//
//	go run ./examples/research dev
package main

import (
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
	_ "github.com/longhaul-mcp/longhaul/devserver" // the embedded Temporal
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

func main() {
	os.Exit(longhaul.Run(longhaul.Options{
		Name:    "research",
		Version: "1.0.0",
		WorkflowTools: []workflowtool.Tool{workflowtool.New(&mcp.Tool{
			Name:        "research",
			Description: "Answers a question thoroughly, part by part, with the caller's own model.",
		}, research)},
	}))
}
