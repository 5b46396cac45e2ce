package task

import (
	"encoding/json"
	"time"
)

// Card is the part of a task that never changes, kept in the memo from the
// start, so that a task can be read before any worker has seen it. CreatedAt is
// by the clock of the process that made it, which may be wrong: when the task's
// time is over is decided by Temporal's (see [StartInput].Started).
type Card struct {
	Tool      string    `json:"tool"`
	ArgsHash  string    `json:"argsHash"`
	OwnerHash string    `json:"ownerHash"`
	CreatedAt time.Time `json:"createdAt"`
	TTLMillis int64     `json:"ttlMs"`
	// Session is [CreateRequest].Session.
	Session string `json:"session,omitempty"`
}

// TTL is the task's lifetime.
func (c Card) TTL() time.Duration { return time.Duration(c.TTLMillis) * time.Millisecond }

// State is the part of a task that changes, kept in the memo and upserted in
// the very workflow task that changes it.
type State struct {
	Rev       int64          `json:"rev"`
	Status    Status         `json:"status"`
	Message   string         `json:"message,omitempty"`
	UpdatedAt time.Time      `json:"updatedAt"`
	Inputs    []InputRequest `json:"inputs,omitempty"`
	// Progress is what a workflow function reported last; that of rounds is in
	// their heartbeats.
	Progress *Progress `json:"progress,omitempty"`
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
		Session:       p.Card.Session,
		CreatedAt:     p.Card.CreatedAt,
		UpdatedAt:     p.State.UpdatedAt,
		TTL:           p.Card.TTL(),
		Progress:      p.State.Progress,
		Inputs:        p.State.Inputs,
		Outcome:       p.State.Outcome,
	}
}

// StartInput is the argument of the workflows [WorkflowTask] and [WorkflowCall].
type StartInput struct {
	Card      Card            `json:"card"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	// ArgumentsClaim stands for arguments that are too large to be here.
	ArgumentsClaim *Claim `json:"argumentsClaim,omitempty"`
	// Capabilities are the client capabilities of the creating request: they
	// decide what the tool may ask for.
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	Policy       Policy          `json:"policy"`
	// Decided ends the task with this outcome without any round: a call whose
	// arguments do not fit the tool's schema, where the client asked for a task.
	Decided *Outcome `json:"decided,omitempty"`
	// Workflow, if set, names the workflow function that the tool is: it runs in
	// place of rounds.
	Workflow string `json:"workflow,omitempty"`
	// Resume is the machine of the run before, after continue-as-new, and Started
	// when the first run began by Temporal's clock: the task's time counts from
	// then.
	Resume  *Machine  `json:"resume,omitempty"`
	Started time.Time `json:"started,omitzero"`
}

// Policy is how rounds of a tool are run.
type Policy struct {
	// Retry allows a lost round to be run again: the tool is read-only or
	// idempotent, or the operator says so.
	Retry bool `json:"retry,omitempty"`
	// TimeoutMillis bounds one round; 0 means the task's TTL alone does.
	TimeoutMillis int64 `json:"timeoutMs,omitempty"`
	// CleanupMillis bounds the time that a workflow function has to end once its
	// task is over; 0 means a default.
	CleanupMillis int64 `json:"cleanupMs,omitempty"`
}

// Cleanup is the bound on the end of a cancelled round; 0 means the default.
func (p Policy) Cleanup() time.Duration { return time.Duration(p.CleanupMillis) * time.Millisecond }

// Timeout is the bound on one round; 0 means none of its own.
func (p Policy) Timeout() time.Duration { return time.Duration(p.TimeoutMillis) * time.Millisecond }

// RoundInput is the argument of the activity [ActivityRound].
type RoundInput struct {
	// Round counts from 1.
	Round     int             `json:"round"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	// ArgumentsClaim is [StartInput.ArgumentsClaim], and CreatedAt the task's,
	// which is part of its [ClaimSet].
	ArgumentsClaim *Claim          `json:"argumentsClaim,omitempty"`
	CreatedAt      time.Time       `json:"createdAt,omitzero"`
	Capabilities   json.RawMessage `json:"capabilities,omitempty"`
	Policy         Policy          `json:"policy"`
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
	// Answered are the keys of the requests to whose answers the tool has come,
	// and CheckpointAnswered those it had come to when it saved the checkpoint:
	// an attempt that goes on from there does not make them again.
	Answered           []string `json:"answered,omitempty"`
	CheckpointAnswered []string `json:"checkpointAnswered,omitempty"`
	// UpstreamTask is the handle of the task of its own that the upstream has
	// made of the round's call: the next attempt rejoins that instead of calling
	// the tool again.
	UpstreamTask json.RawMessage `json:"upstreamTask,omitempty"`
	// UpstreamLosses is how often the round has lost its upstream. Attempts
	// that were lost with their worker are not among them.
	UpstreamLosses int `json:"upstreamLosses,omitempty"`
}

// AskInput is the argument of [UpdateAsk]: a request made by a running round.
type AskInput struct {
	// Round is the one that asks.
	Round int `json:"round"`
	// Request has the tool's own key, which stays the same when the round is
	// run again and asks the same.
	Request InputRequest `json:"request"`
}

// AskAnswer is the result of [UpdateAsk].
type AskAnswer struct {
	// Response is the client's answer, Error what the tool gets instead if the
	// request could not be put to it.
	Response json.RawMessage `json:"response,omitempty"`
	Error    *RPCError       `json:"error,omitempty"`
	// Over is set when there will be no answer: the round or its task ended.
	Over bool `json:"over,omitempty"`
}

// CancelSignal is the payload of [SignalCancel].
type CancelSignal struct {
	Reason string `json:"reason,omitempty"`
}

// InputSignal is the payload of [SignalInput]: the answers to one or more
// outstanding requests.
type InputSignal struct {
	Responses map[string]json.RawMessage `json:"responses"`
	// Refused says of some of them why they are not acceptable. It was judged
	// before the signal was sent: the workflow must not depend on rules that may
	// change between two replays.
	Refused map[string]string `json:"refused,omitempty"`
}

// SweepInput is the argument of the workflow [WorkflowSweep].
type SweepInput struct {
	GraceMillis int64 `json:"graceMs"`
}

// Grace is how long an expired task can still be read.
func (i SweepInput) Grace() time.Duration { return time.Duration(i.GraceMillis) * time.Millisecond }

// SweepRange is the argument of the activity [ActivitySweep]: what is to be
// deleted.
type SweepRange struct {
	// ExpiredBefore is when the time of a task was over, at the latest.
	ExpiredBefore time.Time `json:"expiredBefore"`
	// SweptBefore is when a sweep ended, at the latest, which is deleted as well.
	SweptBefore time.Time `json:"sweptBefore"`
}

// SweepBeat is the heartbeat detail of a running sweep: where the next attempt
// goes on.
type SweepBeat struct {
	Page   []byte      `json:"page,omitempty"`
	Result SweepResult `json:"result"`
}

// SweepResult is the result of [ActivitySweep] and [WorkflowSweep].
type SweepResult struct {
	// Deleted tasks and held calls, and Failed ones, which are left to the next
	// sweep.
	Deleted int `json:"deleted"`
	Failed  int `json:"failed,omitempty"`
}
