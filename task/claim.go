package task

import (
	"fmt"
	"time"
)

// MaxBytes bounds the arguments of a call and the result of a tool, in bytes as
// they were sent.
const MaxBytes = 50 << 20

// Claim stands for bytes that are too large for Temporal: they are kept
// elsewhere, in the [ClaimSet] of their task.
type Claim struct {
	// Size is their number.
	Size int64 `json:"size"`
	// SHA256 is their hash, in hex: who reads them can tell that they are the
	// ones that were stored.
	SHA256 string `json:"sha256"`
}

// ClaimSet names all that is kept for one task. An idempotency key or a held
// call may use a task ID again once the task is gone; the time tells the two
// apart, so that what is removed with one is not taken from the other.
type ClaimSet struct {
	TaskID string
	// CreatedAt is that of the task's [Card]; milliseconds count.
	CreatedAt time.Time
}

// SizeError is an [ErrTooLarge] with the figures.
type SizeError struct {
	// What is too large, in the plural.
	What string
	// Size and Max are in bytes.
	Size, Max int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the %s have %d bytes; at most %d can be stored", e.What, e.Size, e.Max)
}

// Is reports whether target is [ErrTooLarge].
func (*SizeError) Is(target error) bool { return target == ErrTooLarge }
