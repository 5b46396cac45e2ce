package task

import "encoding/json"

// InputRequest is one request from the tool to the task's owner: an
// elicitation, a sampling request or a question for the client's roots
// (2026-07-28, "InputRequests").
type InputRequest struct {
	// Key identifies the request over the whole life of the task; it is never
	// used twice.
	Key string `json:"key"`
	// Method is elicitation/create, sampling/createMessage or roots/list.
	Method string `json:"method"`
	// Params are the request's params as the tool sent them.
	Params json.RawMessage `json:"params,omitempty"`
}

// RoundResult is what one call of the upstream tool ended with: exactly one of
// a result, an error, or input that is needed before the next call.
type RoundResult struct {
	Result json.RawMessage `json:"result,omitempty"`
	// ResultClaim stands for a result that is too large to be here.
	ResultClaim *Claim    `json:"resultClaim,omitempty"`
	IsError     bool      `json:"isError,omitempty"`
	Error       *RPCError `json:"error,omitempty"`
	// Inputs are the requests under the tool's own keys.
	Inputs []InputRequest `json:"inputs,omitempty"`
	// RequestState goes back to the tool, unread, with the answers.
	RequestState string `json:"requestState,omitempty"`
	// NeedsInput is set when the tool ended the round to ask. Inputs may be
	// empty even so: a tool may ask to be called again with its state alone.
	NeedsInput bool `json:"needsInput,omitempty"`
	// Unknown is set when the round was lost after its call had been sent and
	// may not be run again; the text says what happened.
	Unknown string `json:"unknown,omitempty"`
}

// Ends reports whether the task ends with the round, as it asks for nothing.
func (r RoundResult) Ends() bool {
	return r.Unknown != "" || r.Error != nil || !r.NeedsInput && len(r.Inputs) == 0
}
