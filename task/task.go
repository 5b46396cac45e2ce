package task

import (
	"encoding/json"
	"time"
)

// Status is a task's state in the words both MCP generations share.
//
// A tool result with isError set is [StatusCompleted] here, as the 2026
// extension has it; the 2025 wire words it as "failed" (2025-11-25, tasks,
// "Task Execution Errors").
type Status string

const (
	// StatusWorking: a round is running or about to run. Every task begins here.
	StatusWorking Status = "working"
	// StatusInputRequired: the tool waits for answers to [Task.Inputs].
	StatusInputRequired Status = "input_required"
	// StatusCompleted: the tool returned a result. Terminal.
	StatusCompleted Status = "completed"
	// StatusFailed: a JSON-RPC error, an expired task or one whose outcome is
	// unknown. Terminal.
	StatusFailed Status = "failed"
	// StatusCancelled: cancelled by request. Terminal.
	StatusCancelled Status = "cancelled"
)

// Terminal reports whether no other status can follow s.
func (s Status) Terminal() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// CanBecome reports whether the lifecycle of MCP tasks allows s to be
// followed by next (2025-11-25, tasks, "Task Status Lifecycle").
func (s Status) CanBecome(next Status) bool {
	switch s {
	case StatusWorking:
		return next == StatusInputRequired || next.Terminal()
	case StatusInputRequired:
		return next == StatusWorking || next.Terminal()
	default:
		return false
	}
}

// Task is a snapshot of one task, as [Service] reads it.
type Task struct {
	// ID is the task ID, which is also the Temporal workflow ID.
	ID string
	// Tool is the name under which the tool is exposed.
	Tool string
	// Session is [CreateRequest].Session.
	Session string
	// Rev counts the changes of status; a later snapshot never has a smaller one.
	Rev int64
	// Status is the state, and StatusMessage its explanation for people.
	Status        Status
	StatusMessage string
	// Progress is the newest progress of the tool, if it reported any.
	Progress *Progress
	// CreatedAt and UpdatedAt are in UTC; UpdatedAt is the last change of status.
	CreatedAt time.Time
	UpdatedAt time.Time
	// TTL bounds the task's life, counted from CreatedAt. It is always > 0.
	TTL time.Duration
	// Inputs are the outstanding requests, in the order in which they were
	// issued. Non-empty exactly when Status is StatusInputRequired.
	Inputs []InputRequest
	// Outcome is set exactly when Status is terminal. [Service.Get] fills Kind,
	// IsError and Message only; [Service.GetOutcome] and [Service.Watch] also
	// Result and Error.
	Outcome *Outcome
}

// ExpiresAt is when the task's time is up.
func (t *Task) ExpiresAt() time.Time { return t.CreatedAt.Add(t.TTL) }

// Progress is what a tool reported by notifications/progress.
type Progress struct {
	Progress float64 `json:"progress"`
	Total    float64 `json:"total,omitempty"` // 0 when unknown
	Message  string  `json:"message,omitempty"`
}

// RPCError is a JSON-RPC error object, kept as the upstream sent it.
type RPCError struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *RPCError) Error() string { return e.Message }
