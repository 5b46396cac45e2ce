package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// message is one JSON-RPC message as it arrived.
//
// The envelope and params are read key by key, exactly as spelled: a key that
// appears twice, or twice but for its case, is refused. Two readers that pick
// different ones of {"taskId": …, "TASKID": …} would act on different tasks.
type message struct {
	raw    json.RawMessage
	id     json.RawMessage // a string or an integer; nil on notifications
	method string          // empty on responses
	params map[string]json.RawMessage
	meta   map[string]json.RawMessage // params._meta
	// result and error are set on responses.
	result json.RawMessage
	error  json.RawMessage
}

func (m *message) isRequest() bool      { return m.method != "" && m.id != nil }
func (m *message) isNotification() bool { return m.method != "" && m.id == nil }
func (m *message) isResponse() bool     { return m.method == "" }

var (
	errNotObject = errors.New("must be an object")
	errNotJSON   = errors.New("invalid JSON")
)

// duplicateKeyError names a key that appears twice in one object.
type duplicateKeyError struct{ key string }

func (e *duplicateKeyError) Error() string { return fmt.Sprintf("duplicate key %q", e.key) }

// object reads one JSON object without folding case and without dropping
// duplicates. Keys that differ only in case are duplicates if fold is set. On
// a duplicate the members read so far are returned with the error.
func object(raw json.RawMessage, fold bool) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	tok, err := dec.Token()
	if err != nil {
		return nil, errNotJSON
	}
	if tok != json.Delim('{') {
		return nil, errNotObject
	}
	members := make(map[string]json.RawMessage)
	seen := make(map[string]bool)
	var duplicate error
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, errNotJSON
		}
		key := tok.(string) // object keys are strings
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errNotJSON
		}
		name := key
		if fold {
			name = foldCase(key)
		}
		if seen[name] {
			if duplicate == nil {
				duplicate = &duplicateKeyError{key}
			}
			continue
		}
		seen[name] = true
		members[key] = value
	}
	return members, duplicate
}

// foldCase is the same for strings that strings.EqualFold takes for equal, which
// are more than those of equal lower case: ſ is an s there, and to encoding/json.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

// parseMessage reads one JSON-RPC message (basic, "Messages"). On error the
// message may still carry the id, so that the reply can echo it.
func parseMessage(raw json.RawMessage) (*message, error) {
	m := &message{raw: raw}
	env, err := object(raw, true)
	if id, ok := env["id"]; ok && isRequestID(id) {
		m.id = id
	}
	if err != nil {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: %v", err)
	}
	if string(env["jsonrpc"]) != `"2.0"` {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, `Invalid request: jsonrpc must be "2.0"`)
	}
	if id, ok := env["id"]; ok && !isRequestID(id) {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: id must be a string or an integer")
	}
	if raw, ok := env["method"]; ok {
		if m.method, err = jsonString(raw); err != nil || m.method == "" {
			return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: method must be a string")
		}
		return m, m.readParams(env)
	}
	m.result, m.error = env["result"], env["error"]
	if m.id == nil || (m.result == nil) == (m.error == nil) {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: neither a request, a notification nor a response")
	}
	return m, nil
}

func (m *message) readParams(env map[string]json.RawMessage) (err error) {
	raw, ok := env["params"]
	if !ok {
		return nil
	}
	if m.params, err = object(raw, true); err != nil {
		return refuse(http.StatusBadRequest, codeInvalidParams, "Invalid params: %v", err)
	}
	if raw, ok := m.params["_meta"]; ok {
		if m.meta, err = object(raw, false); err != nil {
			return refuse(http.StatusBadRequest, codeInvalidParams, "Invalid params: _meta: %v", err)
		}
	}
	return nil
}

// isRequestID reports whether raw is a string or an integer ("Requests").
func isRequestID(raw json.RawMessage) bool {
	if len(raw) > 0 && raw[0] == '"' {
		return true
	}
	digits := strings.TrimPrefix(string(raw), "-")
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

// typedID is a request id with its type, spelled in one way: "1" and 1 are two
// requests, "a" and "\u0061" are one.
func typedID(id json.RawMessage) string {
	if s, err := jsonString(id); err == nil {
		return "s" + s
	}
	return "n" + string(id)
}

// jsonString reads a JSON string and nothing else; null is none.
func jsonString(raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("must be a string")
	}
	return s, nil
}

// str is the string under key in params.
func (m *message) str(key string) (string, error) {
	raw, ok := m.params[key]
	if !ok {
		return "", invalidParams("Invalid params: missing %s", key)
	}
	s, err := jsonString(raw)
	if err != nil {
		return "", invalidParams("Invalid params: %s %v", key, err)
	}
	return s, nil
}

// encode is json.Marshal without the escaping meant for HTML pages.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// edit returns the JSON object raw with change applied to its members. What is
// no object comes back as it is. It is for what the server itself sends on, so
// of a duplicate key the first is kept.
func edit(raw json.RawMessage, change func(members map[string]json.RawMessage)) json.RawMessage {
	members, err := object(raw, false)
	if errors.Is(err, errNotJSON) || errors.Is(err, errNotObject) {
		return raw
	}
	change(members)
	out, err := encode(members)
	if err != nil {
		return raw
	}
	return out
}

// response is a JSON-RPC response on its way out.
type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

// outgoing is a JSON-RPC request or notification on its way out.
type outgoing struct {
	JSONRPC string `json:"jsonrpc"`
	ID      string `json:"id,omitempty"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}
