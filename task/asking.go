package task

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxInputsBytes bounds the outstanding requests of a task, which have to fit
// in a workflow memo together with everything else it holds.
const MaxInputsBytes = 128 << 10

// MaxInputs is how many requests may be outstanding: all may be answered
// together, and a workflow has no more than a second to take that in.
const MaxInputs = 1000

// maxAgainBytes bounds them once there are reasons in them why they are made
// again.
const maxAgainBytes = 2 * MaxInputsBytes

// maxRefused is how many unacceptable answers to one request are taken before
// the tool is told that there is none.
const maxRefused = 3

// Refusal tells of the answers to a request that were not acceptable.
type Refusal struct {
	Count int `json:"count"`
	// Message is the request's own message, to which each refusal adds.
	Message string `json:"message,omitempty"`
}

// ask takes in that the round ended with requests for input.
func (m *Machine) ask(now time.Time, r RoundResult, declared json.RawMessage) {
	m.Forget()
	m.RequestState = r.RequestState
	if len(r.Inputs) == 0 {
		m.Idle++
		return
	}
	m.Idle = 0
	if err := m.put(now, r.Inputs, declared); err != nil {
		m.end(now, ErrorOutcome(err))
	}
}

// Ask puts a request to the client while the round runs, under the tool's own
// key. A key that was asked under in this round is not asked under again: its
// answer is that of the first time. The error is for the tool: the client
// cannot serve the request, or it is too large.
func (m *Machine) Ask(now time.Time, in InputRequest, declared json.RawMessage) *RPCError {
	if m.Outcome != nil || m.wasAsked(in.Key) {
		return nil
	}
	return m.put(now, []InputRequest{in}, declared)
}

func (m *Machine) wasAsked(toolKey string) bool {
	for _, k := range m.Asked {
		if k == toolKey {
			return true
		}
	}
	return false
}

// Answered returns the answer to a request of the running round.
func (m *Machine) Answered(toolKey string) (json.RawMessage, bool) {
	answer, ok := m.Answers[toolKey]
	return answer, ok
}

// Withdraw takes back a request of the running round whose answer the tool no
// longer waits for.
func (m *Machine) Withdraw(now time.Time, toolKey string) {
	i := m.asking(toolKey)
	if i < 0 {
		return
	}
	delete(m.Asked, m.State.Inputs[i].Key)
	delete(m.Refused, toolKey)
	m.setInputs(now, slices.Delete(slices.Clone(m.State.Inputs), i, i+1))
}

// Asking reports whether a request of the running round is outstanding.
func (m *Machine) Asking(toolKey string) bool { return m.asking(toolKey) >= 0 }

func (m *Machine) asking(toolKey string) int {
	return slices.IndexFunc(m.State.Inputs, func(in InputRequest) bool { return m.Asked[in.Key] == toolKey })
}

func (m *Machine) withdrawAll(now time.Time) {
	if len(m.State.Inputs) > 0 {
		m.setInputs(now, nil)
	}
}

// put makes requests outstanding, all or none of them.
func (m *Machine) put(now time.Time, requests []InputRequest, declared json.RawMessage) *RPCError {
	if missing := Undeclared(declared, requests); missing != nil {
		return missing
	}
	if n := len(m.State.Inputs) + len(requests); n > MaxInputs {
		return &RPCError{
			Code:    CodeInternalError,
			Message: fmt.Sprintf("the tool makes %d requests for input at once; at most %d can be kept", n, MaxInputs),
		}
	}
	if size := inputsSize(m.State.Inputs) + inputsSize(requests); size > MaxInputsBytes {
		return InputsTooLarge(size)
	}
	inputs := slices.Clone(m.State.Inputs)
	if m.Asked == nil {
		m.Asked = make(map[string]string, len(requests))
	}
	for _, in := range requests {
		key := m.issue(in.Key)
		m.Asked[key] = in.Key
		inputs = append(inputs, InputRequest{Key: key, Method: in.Method, Params: in.Params})
	}
	m.setInputs(now, inputs)
	return nil
}

// InputsTooLarge is what a tool is told whose requests take so many bytes, more
// than [MaxInputsBytes].
func InputsTooLarge(size int) *RPCError {
	return &RPCError{
		Code:    CodeInternalError,
		Message: fmt.Sprintf("the tool's requests for input take %d bytes; at most %d can be kept", size, MaxInputsBytes),
	}
}

// issue makes the key under which a request is put to the client: the tool's
// own where it is still free.
func (m *Machine) issue(toolKey string) string {
	if m.Issued == nil {
		m.Issued = map[string]int{}
	}
	key := toolKey
	for m.Issued[key] > 0 {
		m.Issued[toolKey]++
		key = fmt.Sprintf("%s#%d", toolKey, m.Issued[toolKey])
	}
	m.Issued[key]++
	return key
}

// Answer takes in the response to one request and reports whether it was
// used. Only the first response to an outstanding request is; unknown and
// answered keys are ignored (ext-tasks, "Task Update Requests").
func (m *Machine) Answer(now time.Time, key string, response json.RawMessage) bool {
	i := m.outstanding(key)
	if i < 0 {
		return false
	}
	m.answer(m.Asked[key], response)
	m.setInputs(now, slices.Delete(slices.Clone(m.State.Inputs), i, i+1))
	return true
}

// Refuse takes in that the response to a request is not acceptable, and why,
// and reports whether it was used as Answer does. The request is put to the
// client again, under a new key and with the reason; after a few times, or when
// there is no more room for reasons, the tool is told that the client cancelled
// it.
func (m *Machine) Refuse(now time.Time, key, reason string) bool {
	i := m.outstanding(key)
	if i < 0 {
		return false
	}
	toolKey := m.Asked[key]
	refusal := m.Refused[toolKey]
	if refusal.Count++; refusal.Count == maxRefused {
		return m.Answer(now, key, unacceptable(refusal.Count, reason))
	}
	inputs := slices.Clone(m.State.Inputs)
	if refusal.Count == 1 {
		refusal.Message = messageOf(inputs[i])
	}
	inputs[i].Params = askAgain(inputs[i], refusal.Message, reason)
	if inputsSize(inputs) > maxAgainBytes {
		return m.Answer(now, key, unacceptable(refusal.Count, reason))
	}
	inputs[i].Key = m.issue(toolKey)
	delete(m.Asked, key)
	m.Asked[inputs[i].Key] = toolKey
	if m.Refused == nil {
		m.Refused = map[string]Refusal{}
	}
	m.Refused[toolKey] = refusal
	m.setInputs(now, inputs)
	return true
}

// outstanding is the index of the outstanding request with the key, or -1.
func (m *Machine) outstanding(key string) int {
	if m.Outcome != nil {
		return -1
	}
	return slices.IndexFunc(m.State.Inputs, func(in InputRequest) bool { return in.Key == key })
}

func (m *Machine) answer(toolKey string, response json.RawMessage) {
	if m.Answers == nil {
		m.Answers = map[string]json.RawMessage{}
	}
	m.Answers[toolKey] = response
}

// setInputs changes what is outstanding, and the status with it.
func (m *Machine) setInputs(now time.Time, inputs []InputRequest) {
	if len(inputs) == 0 {
		m.change(now, StatusWorking, "")
		return
	}
	m.change(now, StatusInputRequired, inputMessage(inputs))
	m.State.Inputs = inputs
}

// unacceptable is the answer the tool gets to a request whose client did not
// find an acceptable one.
func unacceptable(times int, reason string) json.RawMessage {
	answer, err := json.Marshal(map[string]any{"action": "cancel", "error": RPCError{
		Code:    CodeInvalidParams,
		Message: fmt.Sprintf("the client's answers (%d) were not acceptable, the last because %s", times, reason),
	}})
	if err != nil {
		panic(err) // strings and integers can always be encoded
	}
	return answer
}

// askAgain are the params of a request that is put to the client once more: an
// elicitation says why in its message, every request in its metadata.
func askAgain(in InputRequest, message, reason string) json.RawMessage {
	params := map[string]json.RawMessage{}
	if json.Unmarshal(in.Params, &params) != nil || params == nil {
		return in.Params
	}
	set := func(object map[string]json.RawMessage, key string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			panic(err) // it came from JSON
		}
		object[key] = encoded
	}
	if in.Method == MethodElicit {
		set(params, "message", strings.TrimLeft(message+"\n\n", "\n")+"The last answer could not be accepted: "+reason)
	}
	meta := map[string]json.RawMessage{}
	if json.Unmarshal(params["_meta"], &meta) != nil || meta == nil {
		meta = map[string]json.RawMessage{}
	}
	set(meta, MetaRefused, reason)
	set(params, "_meta", meta)
	encoded, err := json.Marshal(params)
	if err != nil {
		return in.Params
	}
	return encoded
}

func inputsSize(inputs []InputRequest) int {
	size := 0
	for _, in := range inputs {
		size += len(in.Key) + len(in.Method) + len(in.Params)
	}
	return size
}

// messageOf is the message of an elicitation, "" of other requests.
func messageOf(in InputRequest) string {
	var p struct {
		Message string `json:"message"`
	}
	// A request without a readable message is still a request.
	_ = json.Unmarshal(in.Params, &p)
	return p.Message
}

// Text says in a few words what is asked for.
func (in InputRequest) Text() string {
	switch in.Method {
	case MethodSample:
		return "a model's answer"
	case MethodRoots:
		return "the client's roots"
	default:
		return clip(messageOf(in), 200)
	}
}

// maxTold is of how many requests a status message tells.
const maxTold = 10

// inputMessage tells people what a task waits for.
func inputMessage(inputs []InputRequest) string {
	var asks []string
	for _, in := range inputs[:min(len(inputs), maxTold)] {
		asks = append(asks, in.Text())
	}
	if more := len(inputs) - maxTold; more > 0 {
		asks = append(asks, fmt.Sprintf("and %d more", more))
	}
	return clip("Waiting for input: "+strings.Join(asks, "; "), 500)
}
