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

// Undeclared returns nil if the declared client capabilities cover all
// requests, and otherwise the error MCP has for it, naming what is missing
// (2026-07-28, basic, "MissingRequiredClientCapabilityError").
func Undeclared(declared json.RawMessage, requests []InputRequest) *RPCError {
	c := members(declared)
	for _, r := range requests {
		if missing := missing(c, r); missing != "" {
			return &RPCError{
				Code:    CodeMissingCapability,
				Message: "the tool needs a client capability that was not declared for this call",
				Data:    json.RawMessage(`{"requiredCapabilities":` + missing + `}`),
			}
		}
	}
	return nil
}

// missing is the capability that the request needs and c lacks, "" if none.
func missing(c map[string]json.RawMessage, r InputRequest) string {
	p := members(r.Params)
	switch r.Method {
	case MethodElicit:
		modes := members(c["elicitation"])
		var mode string
		_ = json.Unmarshal(p["mode"], &mode)
		// An empty elicitation capability means form mode (2025-11-25,
		// elicitation, "Capabilities").
		if mode == "url" {
			if !has(modes, "url") {
				return `{"elicitation":{"url":{}}}`
			}
		} else if !has(c, "elicitation") || !has(modes, "form") && has(modes, "url") {
			return `{"elicitation":{"form":{}}}`
		}
	case MethodSample:
		if !has(c, "sampling") {
			return `{"sampling":{}}`
		}
		if (p["tools"] != nil || p["toolChoice"] != nil) && !has(members(c["sampling"]), "tools") {
			return `{"sampling":{"tools":{}}}`
		}
	case MethodRoots:
		if !has(c, "roots") {
			return `{"roots":{}}`
		}
	default:
		return `{}`
	}
	return ""
}

// members are those of a JSON object, none of anything else: what has a shape
// nobody knows declares nothing. Their names are case-sensitive, which those of
// a struct would not be.
func members(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	_ = json.Unmarshal(raw, &m)
	return m
}

// has reports whether a capability is declared: capabilities are objects.
func has(m map[string]json.RawMessage, name string) bool {
	raw := m[name]
	return len(raw) > 0 && raw[0] == '{'
}
