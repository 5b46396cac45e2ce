package task

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Service is everything that can be done with tasks. Every operation checks
// the owner; a foreign task is [ErrNotFound] like an unknown one. Engine
// trouble is [ErrUnavailable], never [ErrNotFound]. Several callers may be given
// the same [Task], which none of them changes.
type Service interface {
	// Create starts a task, durably, before it returns. With an idempotency key
	// it returns the task of the first such call, or [ErrKeyReused].
	Create(ctx context.Context, r CreateRequest) (*Task, error)
	// Get reads the current state. It does not depend on any worker.
	Get(ctx context.Context, ref Ref) (*Task, error)
	// GetOutcome is Get with the full outcome of an ended task.
	GetOutcome(ctx context.Context, ref Ref) (*Task, error)
	// Watch yields the current state and then every later one, in order and
	// without repeats; the last is terminal and has its full outcome. States
	// that follow one another faster than they are read are merged. It ends
	// early with an error, or when ctx is done (without one).
	Watch(ctx context.Context, ref Ref, o WatchOptions) iter.Seq2[*Task, error]
	// Answer hands over responses by key. Unknown and answered keys are
	// ignored; a response that is not acceptable uses its key up, and the
	// request is made again under another. [ErrTerminal] when the task ended.
	Answer(ctx context.Context, ref Ref, responses map[string]json.RawMessage) error
	// Cancel asks the task to stop and returns once its status is terminal:
	// usually cancelled, but whatever it became if it ended first. With
	// [ErrTerminal] and the task if it had ended before.
	Cancel(ctx context.Context, ref Ref, reason string) (*Task, error)
	// RequestCancel asks the task to stop and returns when it is sure to: when a
	// worker has taken that in or, if none does, the task has been ended without
	// one. A terminal task is no error.
	RequestCancel(ctx context.Context, ref Ref, reason string) error
	// List pages through the owner's tasks, newest first where the engine can
	// tell. Held calls are left out.
	List(ctx context.Context, r ListRequest) (*Page, error)
	// Delete removes an ended task. [ErrRunning] if it has not ended.
	Delete(ctx context.Context, ref Ref) error
	// Ready returns nil if the engine answers, else [ErrUnavailable].
	Ready(ctx context.Context) error
}

// Ref names a task and who asks.
type Ref struct {
	ID    string
	Owner Owner
	// Held addresses a held call instead of a task.
	Held bool
}

// WatchOptions says what a watcher wants to see.
type WatchOptions struct {
	// Progress yields the task also when only its Progress changed.
	Progress bool
}

// CreateRequest describes a task to be created.
type CreateRequest struct {
	Owner     Owner
	Tool      string
	Arguments json.RawMessage
	// TTL must be > 0; defaults and bounds are the caller's business.
	TTL time.Duration
	// IdempotencyKey, if not empty, makes the task ID a function of owner and key.
	IdempotencyKey string
	// HeldID, if not empty, makes this a held call under that workflow ID,
	// which may be used again once the call has ended, unless there is an
	// idempotency key: the ID is a function of owner and key then.
	HeldID string
	// Session, if not empty, names the session to which news of the task are to
	// be sent. It gives no rights.
	Session string
	// Capabilities are the creating request's client capabilities, verbatim.
	Capabilities json.RawMessage
	Policy       Policy
	// Workflow is [Tool.Workflow].
	Workflow string
	// Decided, if set, is the outcome of the task; no round is run.
	Decided *Outcome
}

// ListRequest asks for a page of the owner's tasks.
type ListRequest struct {
	Owner Owner
	// PageSize is at most 1000; 0 means 50.
	PageSize int
	// Token is where the page starts, from [Page.Next]; nil for the first.
	Token []byte
}

// Page is one page of a list.
type Page struct {
	Tasks []*Task
	// Next is nil on the last page.
	Next []byte
}
