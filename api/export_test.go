package api

import (
	"encoding/json"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// AgedSession is a session id of owner that was issued age ago.
func (a *API) AgedSession(owner task.Owner, age time.Duration) string {
	id, err := a.sessions.sealer.seal(&session{
		ID: "aged", Version: version20251125, Capabilities: json.RawMessage("{}"),
		OwnerHash: owner.Hash(), IssuedAt: time.Now().Add(-age),
	})
	if err != nil {
		panic(err)
	}
	return id
}

// SetMaxWait changes how long one round of a held 2026 call waits.
func (a *API) SetMaxWait(d time.Duration) { a.maxWait = d }
