package task

import (
	"crypto/sha256"
	"encoding/hex"
)

// Owner is the authenticated caller a task is bound to. The zero value is the
// single user of a server without authentication.
type Owner string

// Hash is what is persisted of the owner: 128 bits of a SHA-256, in hex. The
// name itself never reaches Temporal.
func (o Owner) Hash() string {
	sum := sha256.Sum256([]byte("longhaul owner\x00" + string(o)))
	return hex.EncodeToString(sum[:16])
}
