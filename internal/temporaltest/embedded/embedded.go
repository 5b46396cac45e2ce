// Package embedded is the embedded engine of the programs of tests, registered on import: devserver
// or, if LONGHAUL_TEST_POSTGRES is set, Temporal on PostgreSQL.
//
// The variable is the URL of a PostgreSQL server and of a user who may create databases, as .ci/postgres
// sets it:
//
//	LONGHAUL_TEST_POSTGRES=postgres://user:password@127.0.0.1:5432
//
// Every data directory then has two databases of its own there, which stay when the engine stops or is
// killed and are used again by the next one on the same directory. The server and its settings are
// those of devserver, but for four history shards instead of one. There is no Web UI.
package embedded

import (
	"os"

	_ "github.com/longhaul-mcp/longhaul/devserver" // the default
	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

func init() {
	if server := os.Getenv("LONGHAUL_TEST_POSTGRES"); server != "" {
		enginereg.Replace(startOn(server))
	}
}
