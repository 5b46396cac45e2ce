package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/longhaul-mcp/longhaul/task"
)

// schemas compiles each tool's input schema once: JSON Schema 2020-12, or
// draft-07 where $schema says so. A $ref that leads out of the schema is never
// followed; the tool cannot be called then (basic, "$ref Resolution"). Regular
// expressions that Go does not have, such as those with lookahead, are left to
// the tool to check.
type schemas struct {
	mu     sync.Mutex
	byTool map[string]*schema
}

type schema struct {
	raw      json.RawMessage
	resolved *jsonschema.Resolved
	headers  []paramHeader
	err      error
}

func newSchemas() *schemas { return &schemas{byTool: make(map[string]*schema)} }

// of returns the compiled schema of t, which may have changed since last time.
func (s *schemas) of(t task.Tool) (*schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.byTool[t.Name]
	if !ok || !bytes.Equal(c.raw, t.InputSchema) {
		c = compile(t.InputSchema)
		s.byTool[t.Name] = c
	}
	if c.err != nil {
		return nil, rpcErrorf(codeInternal, "The input schema of tool %s cannot be used: %v", t.Name, c.err)
	}
	return c, nil
}

func compile(raw json.RawMessage) *schema {
	c := &schema{raw: raw, headers: paramHeaders(raw)}
	if len(raw) == 0 {
		c.resolved, c.err = (&jsonschema.Schema{}).Resolve(nil)
		return c
	}
	var document any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if c.err = dec.Decode(&document); c.err != nil {
		return c
	}
	if c.err = checkDialect(document); c.err != nil {
		return c
	}
	dropForeignPatterns(document)
	var portable []byte
	if portable, c.err = encode(document); c.err != nil {
		return c
	}
	var parsed jsonschema.Schema
	if c.err = json.Unmarshal(portable, &parsed); c.err == nil {
		c.resolved, c.err = parsed.Resolve(nil)
	}
	return c
}

// checkDialect refuses dialects whose rules would not be applied (basic,
// "Implementation Requirements").
func checkDialect(document any) error {
	root, _ := document.(map[string]any)
	dialect, ok := root["$schema"].(string)
	if !ok {
		return nil // 2020-12
	}
	_, name, _ := strings.Cut(strings.TrimSuffix(dialect, "#"), "://")
	switch name {
	case "json-schema.org/draft/2020-12/schema", "json-schema.org/draft-07/schema":
		return nil
	default:
		return fmt.Errorf("the JSON Schema dialect %q is not supported", dialect)
	}
}

// dropForeignPatterns deletes from a schema what depends on regular
// expressions that do not compile.
func dropForeignPatterns(node any) {
	switch node := node.(type) {
	case []any:
		for _, item := range node {
			dropForeignPatterns(item)
		}
	case map[string]any:
		if pattern, ok := node["pattern"].(string); ok && !compiles(pattern) {
			delete(node, "pattern")
		}
		if byPattern, ok := node["patternProperties"].(map[string]any); ok {
			for pattern := range byPattern {
				if !compiles(pattern) {
					delete(byPattern, pattern)
					// What it allowed would otherwise count as additional.
					delete(node, "additionalProperties")
					delete(node, "unevaluatedProperties")
				}
			}
		}
		for keyword, value := range node {
			switch keyword {
			case "const", "enum", "default", "examples": // data, not schemas
			default:
				dropForeignPatterns(value)
			}
		}
	}
}

func compiles(pattern string) bool {
	_, err := regexp.Compile(pattern)
	return err == nil
}

// check returns why arguments, a JSON object, do not fit.
func (c *schema) check(arguments json.RawMessage) error {
	var value map[string]any
	if err := json.Unmarshal(arguments, &value); err != nil {
		return err
	}
	if err := c.resolved.Validate(value); err != nil {
		return fmt.Errorf("invalid arguments: %w", err)
	}
	return nil
}
