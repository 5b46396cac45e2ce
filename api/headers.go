package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// Request metadata of the 2026 wire (2026-07-28, streamable-http, "Request
// Metadata"): headers that mirror body fields. A router in front of the server
// acts on the headers and the server on the body, so they have to agree.

const (
	headerVersion     = "Mcp-Protocol-Version"
	headerMethod      = "Mcp-Method"
	headerName        = "Mcp-Name"
	headerParamPrefix = "Mcp-Param-"
	headerSession     = "Mcp-Session-Id"

	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaClientInfo   = "io.modelcontextprotocol/clientInfo"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
)

// isModern reports whether the request belongs to the 2026 wire. Its own
// version in _meta decides; else the version header, where one of the 2025
// revisions makes it theirs; else the presence of headers 2025 does not have.
func isModern(h http.Header, m *message) bool {
	if m != nil && m.meta.get(metaVersion) != nil {
		return true
	}
	if v := h.Get(headerVersion); v != "" {
		return !slices.Contains(legacyVersions, v)
	}
	for name := range h {
		if name == headerMethod || name == headerName || strings.HasPrefix(name, headerParamPrefix) {
			return true
		}
	}
	return false
}

func headerMismatch(format string, args ...any) error {
	return rpcErrorf(codeHeaderMismatch, "Header mismatch: "+format, args...)
}

// checkMetadata validates the per-request protocol fields of a 2026 request
// and the headers that mirror it, and returns the client's capabilities.
func checkMetadata(h http.Header, m *message) (json.RawMessage, error) {
	version, err := jsonString(m.meta.get(metaVersion))
	if err != nil {
		return nil, missingMeta(metaVersion)
	}
	inHeader, present, err := single(h, headerVersion)
	switch {
	case err != nil:
		return nil, err
	case !present:
		return nil, headerMismatch("missing %s header", headerVersion)
	case inHeader != version:
		return nil, headerMismatch("%s header value '%s' does not match body value '%s'", headerVersion, inHeader, version)
	case version != version20260728:
		return nil, unsupportedVersion(version)
	}
	capabilities := m.meta.get(metaCapabilities)
	if capabilities == nil || capabilities[0] != '{' {
		return nil, missingMeta(metaCapabilities)
	}
	if info := m.meta.get(metaClientInfo); info != nil && info[0] != '{' {
		return nil, missingMeta(metaClientInfo)
	}
	return capabilities, checkStandardHeaders(h, m)
}

// missingMeta refuses a request that lacks a required field ("Per-request
// protocol fields": -32602 and 400).
func missingMeta(key string) error {
	return refuse(http.StatusBadRequest, codeInvalidParams, "Invalid params: missing or invalid _meta field %s", key)
}

func unsupportedVersion(requested string) error {
	e := rpcErrorf(codeUnsupportedVersion, "Unsupported protocol version")
	data, err := encode(map[string]any{"supported": supportedVersions, "requested": requested})
	if err == nil {
		e.Data = data
	}
	return &refusal{status: http.StatusBadRequest, rpc: *e}
}

// nameField is the params field that Mcp-Name mirrors ("Standard Request
// Headers"; for tasks/* ext-tasks, "Routing Headers").
func nameField(method string) string {
	switch method {
	case "tools/call", "prompts/get":
		return "name"
	case "resources/read":
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId"
	default:
		return ""
	}
}

func checkStandardHeaders(h http.Header, m *message) error {
	method, present, err := single(h, headerMethod)
	switch {
	case err != nil:
		return err
	case !present:
		return headerMismatch("missing %s header", headerMethod)
	case method != m.method:
		return headerMismatch("%s header value '%s' does not match body value '%s'", headerMethod, method, m.method)
	}
	field := nameField(m.method)
	if field == "" {
		return nil
	}
	name, err := m.str(field)
	if err != nil {
		return err
	}
	inHeader, present, err := single(h, headerName)
	if err != nil {
		return err
	}
	if !present {
		return headerMismatch("missing %s header", headerName)
	}
	if inHeader, err = decodeHeader(headerName, inHeader); err != nil {
		return err
	}
	if inHeader != name {
		return headerMismatch("%s header value '%s' does not match body value '%s'", headerName, inHeader, name)
	}
	return nil
}

// single is the value of a header that may be sent once and has to be visible
// ASCII, space or tab ("Value Encoding").
func single(h http.Header, name string) (value string, present bool, err error) {
	values := h.Values(name)
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", true, headerMismatch("%s header sent more than once", name)
	}
	for _, c := range []byte(values[0]) {
		if c != '\t' && (c < 0x20 || c > 0x7e) {
			return "", true, headerMismatch("%s header contains invalid characters", name)
		}
	}
	return values[0], true, nil
}

// decodeHeader undoes the =?base64?…?= form ("Value Encoding").
func decodeHeader(name, value string) (string, error) {
	encoded, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value, nil
	}
	if encoded, ok = strings.CutSuffix(encoded, "?="); !ok {
		return value, nil
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", headerMismatch("%s header is not valid Base64", name)
	}
	return string(decoded), nil
}

// paramHeader is one x-mcp-header annotation of a tool's input schema.
type paramHeader struct {
	path   []string
	header string
}

// maxHeaderPath bounds how deep annotations are looked for.
const maxHeaderPath = 16

// paramHeaders collects the annotations of a schema, reachable through
// properties alone ("Schema Extension").
func paramHeaders(schema json.RawMessage) []paramHeader {
	var out []paramHeader
	var walk func(raw json.RawMessage, path []string)
	walk = func(raw json.RawMessage, path []string) {
		node, err := readObject(raw, false)
		if err != nil || len(path) > maxHeaderPath {
			return // true and false are schemas too
		}
		if header, err := jsonString(node.get("x-mcp-header")); err == nil && header != "" && len(path) > 0 {
			out = append(out, paramHeader{path, headerParamPrefix + header})
		}
		properties, err := readObject(node.get("properties"), false)
		if err != nil {
			return
		}
		for _, property := range properties {
			walk(property.value, append(slices.Clone(path), property.key))
		}
	}
	walk(schema, nil)
	return out
}

// checkParamHeaders compares the Mcp-Param-* headers of a tools/call with its
// arguments ("Server Behavior for Custom Headers"). A header stands for a
// value that is there and not null, and for nothing else.
func checkParamHeaders(h http.Header, annotations []paramHeader, arguments json.RawMessage) error {
	for _, a := range annotations {
		value, found, err := lookup(arguments, a.path)
		if err != nil {
			return headerMismatch("%s header cannot be compared with the body: %v", a.header, err)
		}
		inHeader, present, err := single(h, a.header)
		switch {
		case err != nil:
			return err
		case !found && !present:
			continue
		case !found:
			return headerMismatch("%s header sent without a value in the body", a.header)
		case !present:
			return headerMismatch("missing %s header", a.header)
		}
		if inHeader, err = decodeHeader(a.header, inHeader); err != nil {
			return err
		}
		if !sameValue(inHeader, value) {
			return headerMismatch("%s header value '%s' does not match the body", a.header, inHeader)
		}
	}
	return nil
}

// lookup follows path through nested objects to a value that is not null. Where
// an object on the way has a key twice, readers may disagree on what the value is.
func lookup(raw json.RawMessage, path []string) (value json.RawMessage, found bool, err error) {
	for _, key := range path {
		o, err := readObject(raw, false)
		if duplicate, ok := errors.AsType[*duplicateKeyError](err); ok {
			return nil, false, duplicate
		}
		if raw = o.get(key); raw == nil {
			return nil, false, nil
		}
	}
	return raw, string(raw) != "null", nil
}

// sameValue compares numbers as numbers, and everything else as text.
func sameValue(header string, value json.RawMessage) bool {
	if s, err := jsonString(value); err == nil {
		return header == s
	}
	if header == string(value) {
		return true
	}
	// Rat reads "1e999999999" at length; no header needs that many characters.
	if len(header) > 32 || len(value) > 32 || strings.ContainsAny(header+string(value), "eE/") {
		return false
	}
	a, okA := new(big.Rat).SetString(header)
	b, okB := new(big.Rat).SetString(string(value))
	return okA && okB && a.Cmp(b) == 0
}
