package main

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// Call is one piece of work that a client wants done. All that belongs to it,
// whoever saw it, carries its label.
type Call struct {
	Label     string `json:"label"`
	Tool      string `json:"tool"`
	Owner     string `json:"owner"`
	Millis    int    `json:"ms,omitempty"`
	Questions int    `json:"questions,omitempty"`
	// Key is the idempotency key it is sent with, every time it is.
	Key string `json:"key,omitempty"`
	// Held: the caller waits, and no task is made.
	Held bool `json:"held,omitempty"`
}

// Kind is what a client did.
type Kind string

// The kinds of operations.
const (
	OpCreate   Kind = "create"
	OpReuse    Kind = "reuse" // of an idempotency key for another call
	OpHeld     Kind = "held"
	OpGet      Kind = "get"
	OpResult   Kind = "result"
	OpList     Kind = "list"
	OpAnswer   Kind = "answer"
	OpCancel   Kind = "cancel"
	OpStranger Kind = "stranger"
)

// Outcome is how an operation went, as far as its client can tell.
type Outcome string

// The outcomes of operations. What failed has had no effect; what is unknown,
// because the connection broke or the server could not say, may have had its
// effect, may have it yet, or not.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Unknown Outcome = "unknown"
)

// Wires are the generations of MCP.
const (
	Wire2025 = "2025"
	Wire2026 = "2026"
)

// Op is an operation of a client.
type Op struct {
	Kind    Kind      `json:"kind"`
	Wire    string    `json:"wire"`
	Client  int       `json:"client"`
	API     string    `json:"api"`
	Label   string    `json:"label,omitempty"`
	TaskID  string    `json:"task,omitempty"`
	Begin   time.Time `json:"begin"`
	End     time.Time `json:"end"`
	Outcome Outcome   `json:"outcome"`
	// Error says why it is not OK.
	Error string `json:"error,omitempty"`

	// Status is the task's status in the reply.
	Status string `json:"status,omitempty"`
	// Final is what the task ended with, in the same words on both wires.
	Final string `json:"final,omitempty"`

	// Key, Question, Value: the answer under Key to what the tool calls
	// Question. Invalid ones do not fit what was asked for.
	Key      string `json:"key,omitempty"`
	Question string `json:"question,omitempty"`
	Value    string `json:"value,omitempty"`
	Invalid  bool   `json:"invalid,omitempty"`

	// Owner is who listed, and Listed the tasks of the page.
	Owner  string   `json:"owner,omitempty"`
	Listed []string `json:"listed,omitempty"`

	// Foreign and Nobodys are the replies to a stranger, on a task that is not
	// theirs and on one that is not there.
	Foreign string `json:"foreign,omitempty"`
	Nobodys string `json:"nobodys,omitempty"`
}

// History is what Temporal has recorded of one workflow.
type History struct {
	ID    string `json:"id"`
	Type  string `json:"type"`
	Label string `json:"label"`
	// Closed is how it was closed, as Temporal calls it; empty if it runs.
	Closed   string    `json:"closed"`
	ClosedAt time.Time `json:"closedAt"`
	// Cancels is how many signals asked for it to be cancelled.
	Cancels int `json:"cancels"`
	// Answers are the responses, in the order of their signals.
	Answers []RecordedAnswer `json:"answers"`
	// Unfinished is how many updates were accepted and never completed.
	Unfinished int `json:"unfinished"`
	// Failures are the causes of failed workflow tasks, except those that
	// Temporal brings about itself.
	Failures []string `json:"failures"`
	// Events is how many there are.
	Events int `json:"events"`
}

// RecordedAnswer is a response in a history.
type RecordedAnswer struct {
	Key     string          `json:"key"`
	Answer  json.RawMessage `json:"answer"`
	Refused bool            `json:"refused,omitempty"`
}

// Record is all that is known of a run, once it has settled.
type Record struct {
	Calls     map[string]Call
	Ops       []Op
	Effects   []effects.Effect
	Histories []History
	// Logs are lines of the processes' logs that should not be there, and Leaks
	// what surviving processes have kept of what they opened.
	Logs  []string
	Leaks []string
}

// ops is the log of operations while clients write it.
type ops struct {
	mu    sync.Mutex
	all   []Op
	calls map[string]Call
}

func (l *ops) add(o Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, o)
}

func (l *ops) plan(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[c.Label] = c
}
