package task

import (
	"encoding/json"
	"fmt"
	"time"
)

// Machine is the state machine of one task: events go in, [Machine.Next] says
// what to do. It knows no clock, no Temporal and no wire, and it alone decides
// the outcome, once; whatever happens after that changes nothing.
//
// A task's life is a chain of rounds. A round is one call of the upstream
// tool; it ends with a result, an error, or requests for input. The answers
// to all of them start the next round:
//
//	        BeginRound            RoundEnded(needs input)
//	working ──────────► working ──────────────────────► input_required
//	   ▲                   │ RoundEnded(result | error)        │
//	   │                   ▼                                   │
//	   │               terminal ◄── Cancel, Expire, Lose ──────┤
//	   └──────────────────── Answer (the last one) ────────────┘
//
// A tool may also ask while its round runs (Ask); then the round goes on with
// the answer, and the task is input_required only meanwhile.
//
// A Machine is plain data and survives continue-as-new as JSON.
type Machine struct {
	State State `json:"state"`
	// Round is the number of rounds begun so far.
	Round int `json:"round"`
	// Running is set between BeginRound and the end of that round.
	Running bool `json:"running,omitempty"`
	// RequestState is what the tool wants back with the answers.
	RequestState string `json:"requestState,omitempty"`
	// Asked maps the key of every outstanding or answered request of the
	// current round, or that it ended with, to the tool's own key.
	Asked map[string]string `json:"asked,omitempty"`
	// Answers are the responses to these, by the tool's own key.
	Answers map[string]json.RawMessage `json:"answers,omitempty"`
	// Refused tells, by the tool's own key, of answers that were not acceptable.
	Refused map[string]Refusal `json:"refused,omitempty"`
	// Issued counts how often each of the tool's keys was asked under, so that
	// no key is ever used twice.
	Issued map[string]int `json:"issued,omitempty"`
	// Idle counts the rounds in a row that ended with neither an end nor a
	// request: the tool only wants to be called again later.
	Idle int `json:"idle,omitempty"`
	// Asks counts the requests of a workflow function.
	Asks int `json:"asks,omitempty"`
	// Outcome is the full outcome once there is one.
	Outcome *Outcome `json:"outcome,omitempty"`
}

// Step is what a [Machine] wants done next.
type Step int

const (
	// StepRun: call BeginRound and run the round, after [Machine.Delay].
	StepRun Step = iota
	// StepAwaitRound: a round is running; wait for its end or another event.
	StepAwaitRound
	// StepAwaitInput: wait for answers or another event.
	StepAwaitInput
	// StepEnd: there is an outcome.
	StepEnd
)

// maxMessage bounds a status message, in characters.
const maxMessage = 1000

// NewMachine is the machine of a task created at now.
func NewMachine(now time.Time) *Machine {
	return &Machine{State: InitialState(now)}
}

// InitialState is the state in which every task begins (2025-11-25, tasks,
// "Task Status Lifecycle": tasks MUST begin in the working status).
func InitialState(now time.Time) State {
	return State{Rev: 1, Status: StatusWorking, UpdatedAt: now.UTC()}
}

// Next says what to do next.
func (m *Machine) Next() Step {
	switch {
	case m.Outcome != nil:
		return StepEnd
	case m.Running:
		return StepAwaitRound
	case m.State.Status == StatusInputRequired:
		return StepAwaitInput
	default:
		return StepRun
	}
}

// Delay is how long to wait before the next round: zero, unless the tool ended
// rounds without asking anything, which it does to shed load.
func (m *Machine) Delay() time.Duration {
	if m.Idle == 0 {
		return 0
	}
	return min(time.Second<<min(m.Idle-1, 6), time.Minute)
}

// BeginRound starts the next round and returns what goes with its call: the
// answers to the last round's requests under the tool's own keys, and the
// tool's state. Call it only when Next returns StepRun.
func (m *Machine) BeginRound() (round int, answers map[string]json.RawMessage, requestState string) {
	m.Round++
	m.Running = true
	answers, requestState = m.Answers, m.RequestState
	m.Forget()
	m.RequestState = ""
	return m.Round, answers, requestState
}

// RoundEnded takes in how the running round ended. declared are the client
// capabilities of the creating request: a request of a kind the client cannot
// serve never becomes outstanding (2026-07-28, mrtr, "Server Requirements":
// servers MUST NOT send input requests the client has not declared).
func (m *Machine) RoundEnded(now time.Time, r RoundResult, declared json.RawMessage) {
	m.Suspend(now)
	if m.Outcome != nil {
		return
	}
	switch {
	case r.Unknown != "":
		m.end(now, &Outcome{Kind: OutcomeUnknown, Message: r.Unknown})
	case r.Error != nil:
		m.end(now, ErrorOutcome(r.Error))
	case !r.Ends():
		m.ask(now, r, declared)
	default:
		m.end(now, &Outcome{Kind: OutcomeResult, Result: r.Result, ResultClaim: r.ResultClaim, IsError: r.IsError})
	}
}

// Cancel ends the task as cancelled.
func (m *Machine) Cancel(now time.Time, reason string) {
	message := "The task was cancelled by request."
	if reason != "" {
		message += " Reason: " + reason
	}
	m.end(now, &Outcome{Kind: OutcomeCancelled, Message: message})
}

// Expire ends the task because its TTL is over.
func (m *Machine) Expire(now time.Time, ttl time.Duration) {
	m.end(now, &Outcome{
		Kind:    OutcomeExpired,
		Message: fmt.Sprintf("The task expired: it had not ended when its time to live of %s was over.", ttl),
	})
}

// Lose ends the task because its running round was lost and may not be
// repeated.
func (m *Machine) Lose(now time.Time, message string) {
	m.Suspend(now)
	m.end(now, &Outcome{Kind: OutcomeUnknown, Message: message})
}

// Suspend takes in that the running round ended without an end of the task: it
// is to go on in another.
func (m *Machine) Suspend(now time.Time) {
	m.Running = false
	if m.Outcome == nil {
		m.withdrawAll(now)
	}
}

// Forget drops what was asked in a round, and the answers. A workflow function
// that goes on in a new run does not ask for them again, and together they may be
// more than that can be started with.
func (m *Machine) Forget() {
	m.Asked, m.Answers, m.Refused = nil, nil, nil
}

// Report takes in the progress of a workflow function.
func (m *Machine) Report(now time.Time, p Progress) {
	if m.Outcome != nil {
		return
	}
	m.touch(now)
	m.State.Progress = &p
}

// Decide ends the task with an outcome known from the start.
func (m *Machine) Decide(now time.Time, o *Outcome) { m.end(now, o) }

func (m *Machine) end(now time.Time, o *Outcome) {
	if m.Outcome != nil {
		return
	}
	// The message goes into the memo; an error's own text is kept whole in the
	// outcome.
	o.Message = clip(o.Message, maxMessage)
	m.Outcome = o
	m.Forget()
	m.RequestState = ""
	m.State.Progress = nil
	m.change(now, o.Status(), o.Message)
	m.State.Outcome = o.Head()
}

func (m *Machine) change(now time.Time, s Status, message string) {
	m.touch(now)
	m.State.Status = s
	m.State.Message = message
	m.State.Inputs = nil
}

func (m *Machine) touch(now time.Time) {
	m.State.Rev++
	// Time never runs backwards within a task, whatever the clock does.
	if now = now.UTC(); now.After(m.State.UpdatedAt) {
		m.State.UpdatedAt = now
	}
}

// ClipMessage shortens a message to what a task shows of it: 1000 characters.
func ClipMessage(s string) string { return clip(s, maxMessage) }

func clip(s string, runes int) string {
	r := []rune(s)
	if len(r) <= runes {
		return s
	}
	return string(r[:runes-1]) + "…"
}
