// Package taskmodel says what a task has to do, for tests that drive the real
// one with random events: the life of a task as its specifications and
// docs/architecture.md tell it, in as few words as possible. It shares no code
// with package task but the names of things.
package taskmodel

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// A Kind is a kind of request for input.
type Kind string

// The kinds, by what a client must have declared to be asked. Odd is a kind
// that no client can declare.
const (
	Form        Kind = "form"
	URL         Kind = "url"
	Sample      Kind = "sample"
	SampleTools Kind = "sample with tools"
	Roots       Kind = "roots"
	Odd         Kind = "odd"
)

// askedAgain is how often a request is made again because its answer was not
// acceptable.
const askedAgain = 2

// Kinds are all kinds.
var Kinds = []Kind{Form, URL, Sample, SampleTools, Roots, Odd}

// LargeKey begins the keys of requests of which only one may be outstanding:
// they take more than half of the room there is.
const LargeKey = "large"

// Request is a request of the kind under the tool's own key.
func (k Kind) Request(toolKey string) task.InputRequest {
	method, params := task.MethodElicit, `{"message":"Which?"}`
	switch k {
	case URL:
		params = `{"mode":"url","url":"https://example.com/","message":"Go there"}`
	case Sample:
		method, params = task.MethodSample, `{"messages":[],"maxTokens":1}`
	case SampleTools:
		method, params = task.MethodSample, `{"messages":[],"maxTokens":1,"tools":[]}`
	case Roots:
		method, params = task.MethodRoots, `{}`
	case Odd:
		method, params = "odd/ask", `{}`
	}
	if strings.HasPrefix(toolKey, LargeKey) {
		params = params[:len(params)-1] + `,"pad":"` + strings.Repeat("x", task.MaxInputsBytes/2) + `"}`
		params = strings.Replace(params, "{,", "{", 1)
	}
	return task.InputRequest{Key: toolKey, Method: method, Params: json.RawMessage(params)}
}

// Clients are what clients may declare, and the kinds of requests that each can
// be asked.
var Clients = []Client{
	{``, nil},
	{`null`, nil},
	{`{"Elicitation":{},"sampling":true,"roots":null}`, nil},
	{`{"elicitation":{}}`, []Kind{Form}},
	{`{"elicitation":{"url":{}},"sampling":{}}`, []Kind{URL, Sample}},
	{`{"elicitation":{"form":{}},"roots":{"listChanged":true}}`, []Kind{Form, Roots}},
	{`{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{},"experimental":{"odd/ask":{}}}`,
		[]Kind{Form, URL, Sample, SampleTools, Roots}},
}

// Client is what a client declares, and what it can be asked by that.
type Client struct {
	Declared string
	Serves   []Kind
}

// Asked is a request that waits for its answer.
type Asked struct {
	// Key is what the real task was seen to issue, once Issued.
	Key     string
	Issued  bool
	ToolKey string
	Kind    Kind
	Refused int
	// Reason is why the last answer was refused.
	Reason string
}

// Model is the task as it has to be. The zero value with a Client is one that
// was just created.
type Model struct {
	Client Client
	// Ended is how the task ended, "" before it has.
	Ended task.OutcomeKind
	// Running is set while a round runs.
	Running bool
	Rounds  int
	// Open are the outstanding requests, in the order in which they were made.
	Open []Asked
	// Idle counts the rounds in a row that ended with neither an end nor a request.
	Idle int

	// answers are those to the requests of the running round, or of the one
	// before; "cancel" is what a tool gets whose client found no acceptable one.
	answers map[string]string
	made    map[string]bool // the tool's keys asked under in this round
	state   string
	used    map[string]bool // every key ever issued

	last task.State // as seen before
}

// Status is the status the task has to have.
func (m *Model) Status() task.Status {
	switch {
	case m.Ended == task.OutcomeResult:
		return task.StatusCompleted
	case m.Ended == task.OutcomeCancelled:
		return task.StatusCancelled
	case m.Ended != "":
		return task.StatusFailed
	case len(m.Open) > 0:
		return task.StatusInputRequired
	default:
		return task.StatusWorking
	}
}

// WantsRound reports whether the next round is to be begun.
func (m *Model) WantsRound() bool { return m.Ended == "" && !m.Running && len(m.Open) == 0 }

// Begin begins a round and checks what is handed to it.
func (m *Model) Begin(round int, answers map[string]json.RawMessage, state string) error {
	if !m.WantsRound() {
		return fmt.Errorf("round %d begins, but the task is %s", round, m.Status())
	}
	m.Rounds++
	if round != m.Rounds {
		return fmt.Errorf("round %d is called %d", m.Rounds, round)
	}
	if state != m.state {
		return fmt.Errorf("round %d gets the state %q, want %q", round, state, m.state)
	}
	if len(answers) != len(m.answers) {
		return fmt.Errorf("round %d gets the answers %.300s, want %s", round, answers, m.answers)
	}
	for key, want := range m.answers {
		if err := sameAnswer(answers[key], want); err != nil {
			return fmt.Errorf("round %d, answer %q: %w", round, key, err)
		}
	}
	m.Running = true
	m.answers, m.made, m.state = nil, nil, ""
	return nil
}

// gaveUp stands for the answer the tool gets in place of the acceptable one
// that the client has not found.
const gaveUp = "cancel"

func sameAnswer(got json.RawMessage, want string) error {
	if want != gaveUp {
		if string(got) != want {
			return fmt.Errorf("is %s, want %s", got, want)
		}
		return nil
	}
	var answer struct {
		Action string         `json:"action"`
		Error  *task.RPCError `json:"error"`
	}
	if err := json.Unmarshal(got, &answer); err != nil || answer.Action != "cancel" || answer.Error == nil {
		return fmt.Errorf("is %s, want a cancel with an error", got)
	}
	return nil
}

// EndRound takes in how the running round ended.
func (m *Model) EndRound(r task.RoundResult, kinds []Kind) {
	m.Stop()
	switch {
	case m.Ended != "":
	case r.Unknown != "":
		m.End(task.OutcomeUnknown)
	case r.Error != nil:
		m.End(task.OutcomeError)
	case len(r.Inputs) > 0:
		m.answers, m.made, m.state, m.Idle = nil, nil, r.RequestState, 0
		if !m.ask(r.Inputs, kinds) {
			m.End(task.OutcomeError)
		}
	case r.NeedsInput:
		m.answers, m.made, m.state = nil, nil, r.RequestState
		m.Idle++
	default:
		m.End(task.OutcomeResult)
	}
}

// Stop takes in that the running round is over. What it asked is not asked any
// more.
func (m *Model) Stop() {
	m.Running = false
	if m.Ended == "" {
		m.Open = nil
	}
}

// End ends the task, unless it has.
func (m *Model) End(kind task.OutcomeKind) {
	if m.Ended == "" {
		m.Ended, m.Open = kind, nil
	}
}

// Ask takes in a request of the running round and reports whether it may be
// made. One under a key that the round has used is not made again.
func (m *Model) Ask(in task.InputRequest, kind Kind) bool {
	if m.Ended != "" || m.made[in.Key] {
		return true
	}
	return m.ask([]task.InputRequest{in}, []Kind{kind})
}

func (m *Model) ask(requests []task.InputRequest, kinds []Kind) bool {
	large := 0
	for _, a := range m.Open {
		if strings.HasPrefix(a.ToolKey, LargeKey) {
			large++
		}
	}
	for i, in := range requests {
		if !slices.Contains(m.Client.Serves, kinds[i]) {
			return false
		}
		if strings.HasPrefix(in.Key, LargeKey) {
			large++
		}
	}
	if large > 1 {
		return false
	}
	if m.made == nil {
		m.made = map[string]bool{}
	}
	for i, in := range requests {
		m.made[in.Key] = true
		m.Open = append(m.Open, Asked{ToolKey: in.Key, Kind: kinds[i]})
	}
	return true
}

// Withdraw takes back a request of the running round.
func (m *Model) Withdraw(toolKey string) {
	before := len(m.Open)
	m.Open = slices.DeleteFunc(m.Open, func(a Asked) bool { return a.ToolKey == toolKey })
	if len(m.Open) < before {
		delete(m.made, toolKey)
	}
}

// Answer takes in an answer, not acceptable for that reason if there is one,
// and reports whether it counts.
func (m *Model) Answer(key, response, reason string) bool {
	i := slices.IndexFunc(m.Open, func(a Asked) bool { return a.Issued && a.Key == key })
	if m.Ended != "" || i < 0 {
		return false
	}
	if a := &m.Open[i]; reason != "" && a.Refused < askedAgain {
		a.Refused++
		a.Issued, a.Reason = false, reason
		return true
	} else if reason != "" {
		response = gaveUp
	}
	if m.answers == nil {
		m.answers = map[string]string{}
	}
	m.answers[m.Open[i].ToolKey] = response
	m.Open = slices.Delete(m.Open, i, i+1)
	return true
}

// CheckAnswered checks what a request of the running round has as its answer.
func (m *Model) CheckAnswered(toolKey string, answer json.RawMessage, ok bool) error {
	want, answered := m.answers[toolKey]
	switch {
	case ok != answered:
		return fmt.Errorf("%q is answered: %v, want %v", toolKey, ok, answered)
	case ok:
		return sameAnswer(answer, want)
	default:
		return nil
	}
}

// Keys are all keys that were ever issued, in order.
func (m *Model) Keys() []string { return slices.Sorted(maps.Keys(m.used)) }

// Check compares a state of the real task with the model, and with the state
// that was seen before. Call it after every event: it takes note of the keys
// under which requests are put.
func (m *Model) Check(s task.State) error {
	if s.Status != m.Status() {
		return fmt.Errorf("the task is %s, want %s", s.Status, m.Status())
	}
	if len(s.Inputs) > task.MaxInputs {
		return fmt.Errorf("%d requests are outstanding", len(s.Inputs))
	}
	if len(s.Inputs) != len(m.Open) {
		return fmt.Errorf("%d requests are outstanding, want %d", len(s.Inputs), len(m.Open))
	}
	for i := range m.Open {
		if err := m.checkAsked(&m.Open[i], s.Inputs[i]); err != nil {
			return err
		}
	}
	switch {
	case (s.Outcome != nil) != (m.Ended != ""):
		return fmt.Errorf("the task is %s and has the outcome %+v", s.Status, s.Outcome)
	case s.Outcome != nil && s.Outcome.Kind != m.Ended:
		return fmt.Errorf("the task ended with %s, want %s", s.Outcome.Kind, m.Ended)
	case s.Outcome != nil && (s.Outcome.Result != nil || s.Outcome.Error != nil):
		return fmt.Errorf("the state carries the whole outcome %+v", s.Outcome)
	}
	before := m.last
	m.last = s
	if before.Rev == 0 {
		return nil
	}
	return follows(before, s)
}

func (m *Model) checkAsked(a *Asked, in task.InputRequest) error {
	if want := a.Kind.Request("").Method; in.Method != want {
		return fmt.Errorf("%q asks for %s, want %s", in.Key, in.Method, want)
	}
	if a.Issued {
		if in.Key != a.Key {
			return fmt.Errorf("%q is outstanding, want %q", in.Key, a.Key)
		}
		return nil
	}
	switch {
	case m.used[in.Key]:
		return fmt.Errorf("the key %q was issued twice", in.Key)
	case !m.used[a.ToolKey] && in.Key != a.ToolKey:
		return fmt.Errorf("%q was issued for %q, which is free", in.Key, a.ToolKey)
	}
	if m.used == nil {
		m.used = map[string]bool{}
	}
	m.used[in.Key] = true
	a.Key, a.Issued = in.Key, true
	if a.Reason == "" {
		return nil
	}
	var params struct {
		Message string            `json:"message"` // of elicitations
		Meta    map[string]string `json:"_meta"`
	}
	if err := json.Unmarshal(in.Params, &params); err != nil {
		return fmt.Errorf("%q is asked again with %.200s: %w", in.Key, in.Params, err)
	}
	if params.Meta[task.MetaRefused] != a.Reason {
		return fmt.Errorf("%q is asked again because of %q, want %q", in.Key, params.Meta[task.MetaRefused], a.Reason)
	}
	if (a.Kind == Form || a.Kind == URL) && strings.Count(params.Message, a.Reason) != 1 {
		return fmt.Errorf("%q does not say once why it is asked again: %q", in.Key, params.Message)
	}
	return nil
}

// follows checks that a state may come after another (2025-11-25, tasks, "Task
// Status Lifecycle").
func follows(before, after task.State) error {
	a, err := json.Marshal(before)
	if err != nil {
		return err
	}
	b, err := json.Marshal(after)
	if err != nil {
		return err
	}
	if string(a) == string(b) {
		return nil
	}
	switch {
	case before.Status.Terminal():
		return fmt.Errorf("an ended task changed from %.300s to %.300s", a, b)
	case before.Status != after.Status && !before.Status.CanBecome(after.Status):
		return fmt.Errorf("%s became %s", before.Status, after.Status)
	case after.Rev <= before.Rev:
		return fmt.Errorf("the state changed without a new revision: %.300s, then %.300s", a, b)
	case after.UpdatedAt.Before(before.UpdatedAt):
		return fmt.Errorf("time ran backwards: %s, then %s", before.UpdatedAt.Format(time.RFC3339Nano), after.UpdatedAt.Format(time.RFC3339Nano))
	default:
		return nil
	}
}
