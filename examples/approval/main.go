// Command approval releases software: it plans, asks a person, who may take
// days, and then brings the version to one region after the other. release.go
// is that process, a workflow; steps.go is what it does, as activities.
//
//	go run ./examples/approval dev
//
// What is "running" in a region is the content of a file in $RELEASES_DIR.
package main

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/worker"

	"github.com/longhaul-mcp/longhaul"
	_ "github.com/longhaul-mcp/longhaul/devserver" // the embedded Temporal
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

func main() {
	regions := &steps{dir: cmp.Or(os.Getenv("RELEASES_DIR"), filepath.Join(os.TempDir(), "releases"))}

	os.Exit(longhaul.Run(longhaul.Options{
		Name:    "approval",
		Version: "1.0.0",
		WorkflowTools: []workflowtool.Tool{workflowtool.New(&mcp.Tool{
			Name:        "release",
			Description: "Releases a version to some regions, once a person has approved.",
		}, release)},
		RegisterSteps: func(w worker.Registry) { w.RegisterActivity(regions) },
	}))
}
