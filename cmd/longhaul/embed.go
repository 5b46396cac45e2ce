//go:build !noembed

package main

// The embedded Temporal is most of the binary. Production, where Temporal runs
// elsewhere, is built with -tags noembed.
import _ "github.com/longhaul-mcp/longhaul/devserver"
