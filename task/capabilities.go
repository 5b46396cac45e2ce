package task

import "encoding/json"

// The requests a tool can put to its caller (2026-07-28, mrtr,
// "InputRequests").
const (
	MethodElicit = "elicitation/create"
	MethodSample = "sampling/createMessage"
	MethodRoots  = "roots/list"
)

// JSON-RPC error codes the domain itself gives out.
const (
	CodeInvalidParams     = -32602
	CodeInternalError     = -32603
	CodeMissingCapability = -32021
)

// clientCapabilities is the part of MCP's client capabilities that decides
// which requests a client can serve.
type clientCapabilities struct {
	Roots    *struct{} `json:"roots"`
	Sampling *struct {
		Tools *struct{} `json:"tools"`
	} `json:"sampling"`
	Elicitation *struct {
		Form *struct{} `json:"form"`
		URL  *struct{} `json:"url"`
	} `json:"elicitation"`
}

// Undeclared returns nil if the declared client capabilities cover all
// requests, and otherwise the error MCP has for it, naming what is missing
// (2026-07-28, basic, "MissingRequiredClientCapabilityError").
func Undeclared(declared json.RawMessage, requests []InputRequest) *RPCError {
	var c clientCapabilities
	if len(declared) > 0 {
		// Capabilities of a shape nobody knows declare nothing.
		_ = json.Unmarshal(declared, &c)
	}
	for _, r := range requests {
		if missing := c.missing(r); missing != "" {
			return &RPCError{
				Code:    CodeMissingCapability,
				Message: "the tool needs a client capability that was not declared for this call",
				Data:    json.RawMessage(`{"requiredCapabilities":` + missing + `}`),
			}
		}
	}
	return nil
}

func (c clientCapabilities) missing(r InputRequest) string {
	var p struct {
		Mode  string            `json:"mode"`
		Tools []json.RawMessage `json:"tools"`
	}
	_ = json.Unmarshal(r.Params, &p)
	switch r.Method {
	case MethodElicit:
		// An empty elicitation capability means form mode (2025-11-25,
		// elicitation, "Capabilities").
		if p.Mode == "url" {
			if c.Elicitation == nil || c.Elicitation.URL == nil {
				return `{"elicitation":{"url":{}}}`
			}
		} else if c.Elicitation == nil || (c.Elicitation.Form == nil && c.Elicitation.URL != nil) {
			return `{"elicitation":{"form":{}}}`
		}
	case MethodSample:
		if c.Sampling == nil {
			return `{"sampling":{}}`
		}
		if len(p.Tools) > 0 && c.Sampling.Tools == nil {
			return `{"sampling":{"tools":{}}}`
		}
	case MethodRoots:
		if c.Roots == nil {
			return `{"roots":{}}`
		}
	default:
		return `{}`
	}
	return ""
}
