package task

import "encoding/json"

// OutcomeKind says how a task ended. The values are persisted.
type OutcomeKind string

const (
	// OutcomeResult: the tool returned a result, possibly with isError.
	OutcomeResult OutcomeKind = "result"
	// OutcomeError: the call ended in a JSON-RPC error.
	OutcomeError OutcomeKind = "error"
	// OutcomeCancelled: the task was cancelled by request.
	OutcomeCancelled OutcomeKind = "cancelled"
	// OutcomeExpired: the task's TTL ran out first.
	OutcomeExpired OutcomeKind = "expired"
	// OutcomeUnknown: a round was lost and may not be run again, so whether its
	// effects happened cannot be told.
	OutcomeUnknown OutcomeKind = "unknown"
)

// Outcome is the one, final, neutral outcome of a task; each wire words it in
// its own way. It is persisted as the workflow's result.
type Outcome struct {
	Kind OutcomeKind `json:"kind"`
	// Result is the tool result as the upstream sent it (OutcomeResult only).
	Result json.RawMessage `json:"result,omitempty"`
	// ResultClaim stands for a result that is too large to be here. Readers of
	// [Service] get the result itself.
	ResultClaim *Claim `json:"resultClaim,omitempty"`
	// IsError repeats the result's isError.
	IsError bool `json:"isError,omitempty"`
	// Error is the JSON-RPC error as the upstream sent it (OutcomeError only).
	Error *RPCError `json:"error,omitempty"`
	// Message explains the outcome to people, for every kind but OutcomeResult.
	Message string `json:"message,omitempty"`
}

// Status is the terminal status that follows from the outcome.
func (o *Outcome) Status() Status {
	switch o.Kind {
	case OutcomeResult:
		return StatusCompleted
	case OutcomeCancelled:
		return StatusCancelled
	default:
		return StatusFailed
	}
}

// Head is the outcome without its payload: what lists and status reads need.
func (o *Outcome) Head() *Outcome {
	return &Outcome{Kind: o.Kind, IsError: o.IsError, Message: o.Message}
}

// ResultOutcome is the outcome of a tool that returned result.
func ResultOutcome(result json.RawMessage, isError bool) *Outcome {
	return &Outcome{Kind: OutcomeResult, Result: result, IsError: isError}
}

// ErrorOutcome is the outcome of a call that ended in a JSON-RPC error.
func ErrorOutcome(e *RPCError) *Outcome {
	return &Outcome{Kind: OutcomeError, Error: e, Message: e.Message}
}
