package upstream

import (
	"encoding/json"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// A tool of the 2025 protocol that cannot work before somebody has visited a
// URL may answer with an error that says so, to be called again afterwards
// (2025-11-25, elicitation, "URL Elicitation Required Error"). That is the end
// of a round that needs input, as later protocols put it. The error itself is
// the round's state: it is what the call ends with if somebody refuses.

// urlState begins the request state of such a round.
const urlState = "url-elicitation-required:"

// urlRequired is the round that ended with e; false if it is any other error,
// or the caller cannot be sent to URLs.
func (s *session) urlRequired(e *task.RPCError) (task.RoundResult, bool) {
	var data struct {
		Elicitations []json.RawMessage `json:"elicitations"`
	}
	if e.Code != mcp.CodeURLElicitationRequired || s.isStateless() ||
		json.Unmarshal(e.Data, &data) != nil || len(data.Elicitations) == 0 {
		return task.RoundResult{}, false
	}
	state, err := json.Marshal(e)
	if err != nil {
		return task.RoundResult{}, false
	}
	r := task.RoundResult{NeedsInput: true, RequestState: urlState + string(state)}
	seen := map[string]bool{}
	for _, params := range data.Elicitations {
		var p struct {
			Mode string `json:"mode"`
			ID   string `json:"elicitationId"`
		}
		if json.Unmarshal(params, &p) != nil || p.Mode != "url" || p.ID == "" || seen[p.ID] {
			return task.RoundResult{}, false
		}
		seen[p.ID] = true
		r.Inputs = append(r.Inputs, task.InputRequest{Key: p.ID, Method: task.MethodElicit, Params: params})
	}
	return r, task.Undeclared(s.caps, r.Inputs) == nil
}

// visited takes the answers to such a round out of the next one's call, which
// is the same call again. It returns the error the round ended with if anything
// was refused.
func visited(c *Call) (refused *task.RPCError) {
	state, ok := strings.CutPrefix(c.RequestState, urlState)
	var e task.RPCError
	if !ok || json.Unmarshal([]byte(state), &e) != nil {
		return nil
	}
	for _, answer := range c.Answers {
		var a struct {
			Action string `json:"action"`
		}
		if json.Unmarshal(answer, &a) != nil || a.Action != "accept" {
			return &e
		}
	}
	c.Answers, c.RequestState = nil, ""
	return nil
}
