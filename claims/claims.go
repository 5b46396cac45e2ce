// Package claims keeps what is too large for Temporal: arguments of calls and
// results of tools. Temporal has a claim to them, of a size and a hash.
//
// The bytes are in a [Store] that all processes which share tasks share: a
// directory ([Dir]) or a bucket (package s3claims). They are checked against
// their claim whenever they are read, so nobody is ever handed other bytes
// than were stored.
package claims

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Threshold is the size above which JSON is kept here, in bytes as Temporal
// would store it. Temporal refuses payloads above 2 MiB and warns from 512 KiB
// on. What is in a history counts several times: arguments are in its first
// event and in one for each round, and a worker reads them all to replay it.
const Threshold = 256 << 10

// Large reports whether raw is above [Threshold].
func Large(raw json.RawMessage) bool {
	const longest = 6 // bytes that stand for one, as \u003c for <
	if len(raw) > Threshold || len(raw) <= Threshold/longest {
		return len(raw) > Threshold
	}
	encoded, err := json.Marshal(raw)
	return err == nil && len(encoded) > Threshold
}

// Store keeps bytes by their claims. An error that is neither
// [task.ErrClaimMissing] nor [task.ErrClaimCorrupt] says that the store cannot
// be used at the moment, and to try again is worth while.
type Store interface {
	// Put keeps data in a set, durably, before it returns. To put the same data
	// into the same set again changes nothing.
	Put(ctx context.Context, set task.ClaimSet, data []byte) (task.Claim, error)
	// Get returns the bytes that c stands for. [task.ErrClaimMissing] if they are
	// not in the store, [task.ErrClaimCorrupt] if others are in their place.
	Get(ctx context.Context, set task.ClaimSet, c task.Claim) ([]byte, error)
	// Delete removes a set, if it is there.
	Delete(ctx context.Context, set task.ClaimSet) error
	// Sets yields all sets. It ends with its first error.
	Sets(ctx context.Context) iter.Seq2[StoredSet, error]
}

// StoredSet is a set in a store.
type StoredSet struct {
	task.ClaimSet
	// StoredAt is when something was last put into it.
	StoredAt time.Time
}

// NewClaim is the claim to data.
func NewClaim(data []byte) task.Claim {
	sum := sha256.Sum256(data)
	return task.Claim{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// Check is [task.ErrClaimCorrupt] if data is not what c stands for.
func Check(c task.Claim, data []byte) error {
	if got := NewClaim(data); got != c {
		return fmt.Errorf("%w: %d bytes with the hash %s, instead of %d with %s",
			task.ErrClaimCorrupt, got.Size, got.SHA256, c.Size, c.SHA256)
	}
	return nil
}

// CheckName refuses a claim whose hash is none. A hash is the name of a file.
func CheckName(c task.Claim) error {
	if b, err := hex.DecodeString(c.SHA256); err != nil || len(b) != sha256.Size || c.Size < 0 {
		return fmt.Errorf("%w: the claim is invalid", task.ErrClaimCorrupt)
	}
	return nil
}

// maxName bounds the name of a set, which is that of a directory.
const maxName = 200

// SetName is the name of a set as a file system and a bucket can have it:
// the task's ID, with =XX for all bytes but a-z, 0-9, '-' and '_', a dot, and
// the time in milliseconds. The error is that of an ID that is too long.
func SetName(set task.ClaimSet) (string, error) {
	var b strings.Builder
	for _, c := range []byte(set.TaskID) {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	fmt.Fprintf(&b, ".%d", set.CreatedAt.UnixMilli())
	if b.Len() > maxName {
		return "", fmt.Errorf("%w: nothing large can be kept for a task with an ID of %d bytes", task.ErrTooLarge, len(set.TaskID))
	}
	return b.String(), nil
}

// ParseSetName is the inverse of [SetName]. It reports false for what is no
// name of a set.
func ParseSetName(name string) (task.ClaimSet, bool) {
	encoded, ms, ok := strings.Cut(name, ".")
	at, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil {
		return task.ClaimSet{}, false
	}
	id := make([]byte, 0, len(encoded))
	for i := 0; i < len(encoded); i++ {
		if encoded[i] != '=' {
			id = append(id, encoded[i])
			continue
		}
		if i+3 > len(encoded) {
			return task.ClaimSet{}, false
		}
		c, err := hex.DecodeString(encoded[i+1 : i+3])
		if err != nil {
			return task.ClaimSet{}, false
		}
		id = append(id, c[0])
		i += 2
	}
	set := task.ClaimSet{TaskID: string(id), CreatedAt: time.UnixMilli(at).UTC()}
	again, err := SetName(set)
	return set, err == nil && again == name
}
