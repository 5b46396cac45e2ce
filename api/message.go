package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	params object
	meta   object // params._meta
	// result and error are set on responses.
	result json.RawMessage
	error  json.RawMessage
}

func (m *message) isRequest() bool      { return m.method != "" && m.id != nil }
func (m *message) isNotification() bool { return m.method != "" && m.id == nil }
func (m *message) isResponse() bool     { return m.method == "" }

var (
	errNotObject = errors.New("must be an object")
	errNotString = errors.New("must be a string")
	errNotJSON   = errors.New("invalid JSON")
)

// duplicateKeyError names a key that appears twice in one object.
type duplicateKeyError struct{ key string }

func (e *duplicateKeyError) Error() string { return fmt.Sprintf("duplicate key %q", e.key) }

// object is a JSON object: its members, in the order in which they came. Requests
// have so few that they are looked for one by one. A map of them takes several
// times the memory, of which each request would leave two or three as garbage.
type object []member

type member struct {
	key   string
	value json.RawMessage // part of what the object was read from; not to be changed
}

// get is the value under key, or nil if there is none.
func (o object) get(key string) json.RawMessage {
	for i := range o {
		if o[i].key == key {
			return o[i].value
		}
	}
	return nil
}

// byKey are the members as a map.
func (o object) byKey() map[string]json.RawMessage {
	m := make(map[string]json.RawMessage, len(o))
	for _, member := range o {
		m[member.key] = member.value
	}
	return m
}

// readObject reads one JSON object without folding case and without dropping
// duplicates. Keys that differ only in case are duplicates if fold is set. On
// a duplicate the members are returned with the error, each key's first.
//
// Every request is read by it, several times over: with the decoder of
// encoding/json, that was more than half of what it cost to answer one.
func readObject(raw json.RawMessage, fold bool) (object, error) {
	if !json.Valid(raw) {
		return nil, errNotJSON
	}
	return appendMembers(object{}, raw, fold)
}

// appendMembers is readObject for what is known to be JSON. It appends to o,
// which is empty.
func appendMembers(o object, raw json.RawMessage, fold bool) (object, error) {
	at := afterSpace(raw, 0)
	if raw[at] != '{' {
		return nil, errNotObject
	}
	known := keys{fold: fold}
	var duplicate error
	for at = afterSpace(raw, at+1); raw[at] != '}'; at = afterSpace(raw, at) {
		if raw[at] == ',' {
			at = afterSpace(raw, at+1)
		}
		end := afterValue(raw, at)
		key, err := jsonString(raw[at:end])
		if err != nil {
			return nil, errNotJSON
		}
		at = afterSpace(raw, afterSpace(raw, end)+len(":"))
		end = afterValue(raw, at)
		value := raw[at:end:end]
		at = end

		if known.add(o, key) {
			o = append(o, member{key, value})
		} else if duplicate == nil {
			duplicate = &duplicateKeyError{key}
		}
	}
	return o, duplicate
}

// fewMembers is up to how many members' keys are compared one by one.
const fewMembers = 16

// keys are those of an object that is being read.
type keys struct {
	fold bool
	many map[string]struct{} // as foldCase spells them, if fold is set
}

// add reports whether none of o's members has the key yet, to which a member with
// it is added then.
func (k *keys) add(o object, key string) bool {
	if len(o) < fewMembers {
		return !slices.ContainsFunc(o, func(m member) bool {
			return m.key == key || k.fold && strings.EqualFold(m.key, key)
		})
	}
	if k.many == nil {
		k.many = make(map[string]struct{})
		for _, m := range o {
			k.many[k.spell(m.key)] = struct{}{}
		}
	}
	name := k.spell(key)
	if _, twice := k.many[name]; twice {
		return false
	}
	k.many[name] = struct{}{}
	return true
}

func (k *keys) spell(key string) string {
	if k.fold {
		return foldCase(key)
	}
	return key
}

// afterSpace is where in valid JSON the white space at i ends.
func afterSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r') {
		i++
	}
	return i
}

// afterValue is where in valid JSON the value that begins at i ends.
func afterValue(raw []byte, i int) int {
	switch raw[i] {
	case '"':
		return afterString(raw, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch raw[i] {
			case '"':
				i = afterString(raw, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default: // a number or a literal
		n := bytes.IndexAny(raw[i:], ",:]} \t\n\r")
		if n < 0 {
			return len(raw)
		}
		return i + n
	}
}

func afterString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// foldCase is the same for strings that strings.EqualFold takes for equal, which
// are more than those of equal lower case: ſ is an s there, and to encoding/json.
// It leaves lower case as it is.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, s)
}

// parseMessage reads one JSON-RPC message (basic, "Messages") from what is known
// to be JSON. On error the message may still carry the id, so that the reply can
// echo it.
func parseMessage(raw json.RawMessage) (*message, error) {
	m := &message{raw: raw}
	var room [4]member // a request has so many, and they stay on the stack
	env, err := appendMembers(room[:0], raw, true)
	id := env.get("id")
	if isRequestID(id) {
		m.id = id
	}
	if err != nil {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: %v", err)
	}
	if string(env.get("jsonrpc")) != `"2.0"` {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, `Invalid request: jsonrpc must be "2.0"`)
	}
	if id != nil && m.id == nil {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: id must be a string or an integer")
	}
	if raw := env.get("method"); raw != nil {
		if m.method, err = jsonString(raw); err != nil || m.method == "" {
			return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: method must be a string")
		}
		return m, m.readParams(env)
	}
	m.result, m.error = env.get("result"), env.get("error")
	if m.id == nil || (m.result == nil) == (m.error == nil) {
		return m, refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: neither a request, a notification nor a response")
	}
	return m, nil
}

func (m *message) readParams(env object) (err error) {
	raw := env.get("params")
	if raw == nil {
		return nil
	}
	if m.params, err = appendMembers(object{}, raw, true); err != nil {
		return refuse(http.StatusBadRequest, codeInvalidParams, "Invalid params: %v", err)
	}
	if raw := m.params.get("_meta"); raw != nil {
		if m.meta, err = appendMembers(object{}, raw, false); err != nil {
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
	if len(raw) == 0 || raw[0] != '"' {
		return "", errNotString
	}
	if last := len(raw) - 1; last > 0 && raw[last] == '"' && isPlain(raw[1:last]) {
		return string(raw[1:last]), nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errNotString
	}
	return s, nil
}

// isPlain reports whether a JSON string says what is between its quotes.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// str is the string under key in params.
func (m *message) str(key string) (string, error) {
	raw := m.params.get(key)
	if raw == nil {
		return "", invalidParams("Invalid params: missing %s", key)
	}
	s, err := jsonString(raw)
	if err != nil {
		return "", invalidParams("Invalid params: %s %v", key, err)
	}
	return s, nil
}

// encode is json.Marshal without the escaping meant for HTML pages.
func encode(v any) ([]byte, error) { return encodeIn(new(bytes.Buffer), v) }

// encodeIn is encode by means of b, which is empty. What it returns is part of b.
func encodeIn(b *bytes.Buffer, v any) ([]byte, error) {
	enc := json.NewEncoder(b)
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
	o, err := readObject(raw, false)
	if errors.Is(err, errNotJSON) || errors.Is(err, errNotObject) {
		return raw
	}
	members := o.byKey()
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
