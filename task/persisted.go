package task

import (
	"encoding/json"
	"time"
)

// Card is the part of a task that never changes, kept in the memo from the
// start, so that a task can be read before any worker has seen it.
type Card struct {
	Tool      string    `json:"tool"`
	ArgsHash  string    `json:"argsHash"`
	OwnerHash string    `json:"ownerHash"`
	CreatedAt time.Time `json:"createdAt"`
	TTLMillis int64     `json:"ttlMs"`
}

// TTL is the task's lifetime, counted from CreatedAt.
func (c Card) TTL() time.Duration { return time.Duration(c.TTLMillis) * time.Millisecond }

// State is the part of a task that changes, kept in the memo and upserted in
// the very workflow task that changes it.
type State struct {
	Rev       int64          `json:"rev"`
	Status    Status         `json:"status"`
	Message   string         `json:"message,omitempty"`
	UpdatedAt time.Time      `json:"updatedAt"`
	Inputs    []InputRequest `json:"inputs,omitempty"`
	// Outcome is the outcome's head once Status is terminal.
	Outcome *Outcome `json:"outcome,omitempty"`
}

// Projection is a task as the workflow sees it: the answer to [QueryTask].
type Projection struct {
	Card  Card  `json:"card"`
	State State `json:"state"`
}

// Snapshot is the projection as a [Task].
func (p Projection) Snapshot(id string) *Task {
	return &Task{
		ID:            id,
		Tool:          p.Card.Tool,
		Rev:           p.State.Rev,
		Status:        p.State.Status,
		StatusMessage: p.State.Message,
		CreatedAt:     p.Card.CreatedAt,
		UpdatedAt:     p.State.UpdatedAt,
		TTL:           p.Card.TTL(),
		Inputs:        p.State.Inputs,
		Outcome:       p.State.Outcome,
	}
}

// StartInput is the argument of the workflows [WorkflowTask] and [WorkflowCall].
type StartInput struct {
	Card      Card            `json:"card"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	// Capabilities are the client capabilities of the creating request: they
	// decide what the tool may ask for.
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	Policy       Policy          `json:"policy"`
	// Decided ends the task with this outcome without any round: a call whose
	// arguments do not fit the tool's schema, where the client asked for a task.
	Decided *Outcome `json:"decided,omitempty"`
	// Resume is the machine of the run before, after continue-as-new.
	Resume *Machine `json:"resume,omitempty"`
}

// Policy is how rounds of a tool are run.
type Policy struct {
	// Retry allows a lost round to be run again: the tool is read-only or
	// idempotent, or the operator says so.
	Retry bool `json:"retry,omitempty"`
	// TimeoutMillis bounds one round; 0 means the task's TTL alone does.
	TimeoutMillis int64 `json:"timeoutMs,omitempty"`
}

// Timeout is the bound on one round; 0 means none of its own.
func (p Policy) Timeout() time.Duration { return time.Duration(p.TimeoutMillis) * time.Millisecond }

// RoundInput is the argument of the activity [ActivityRound].
type RoundInput struct {
	// Round counts from 1.
	Round        int             `json:"round"`
	Tool         string          `json:"tool"`
	Arguments    json.RawMessage `json:"arguments,omitempty"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	Policy       Policy          `json:"policy"`
	// Answers are the responses to the last round's requests, under the tool's
	// own keys.
	Answers      map[string]json.RawMessage `json:"answers,omitempty"`
	RequestState string                     `json:"requestState,omitempty"`
}

// Heartbeat is the heartbeat detail of a running round: visible through
// Describe, and handed to the next attempt.
type Heartbeat struct {
	Progress *Progress `json:"progress,omitempty"`
	// Checkpoint is the last value the tool saved under [MetaCheckpoint].
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
}

// CancelSignal is the payload of [SignalCancel].
type CancelSignal struct {
	Reason string `json:"reason,omitempty"`
}

// InputSignal is the payload of [SignalInput]: the answers to one or more
// outstanding requests.
type InputSignal struct {
	Responses map[string]json.RawMessage `json:"responses"`
}
