package api

import (
	"bytes"
	"encoding/json"
	"errors"
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
// the tool to check, and so are arguments that would take too much work.
type schemas struct {
	mu     sync.Mutex
	byTool map[string]*schema
}

type schema struct {
	raw      json.RawMessage
	resolved *jsonschema.Resolved
	applies  *applications
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
	c := &schema{raw: raw}
	parsed := &jsonschema.Schema{}
	if len(raw) > 0 {
		if parsed, c.err = parse(raw); c.err != nil {
			return c
		}
		c.headers = paramHeaders(raw)
	}
	if c.resolved, c.err = parsed.Resolve(nil); c.err == nil {
		c.applies, c.err = applicationsOf(parsed)
	}
	return c
}

// parse reads a schema that is not too large and that jsonschema-go can resolve.
func parse(raw json.RawMessage) (*jsonschema.Schema, error) {
	if len(raw) > maxSchemaBytes {
		return nil, fmt.Errorf("it has %d bytes, and at most %d are supported", len(raw), maxSchemaBytes)
	}
	var document any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&document); err != nil {
		return nil, err
	}
	if objects, levels := extent(document); objects > maxSchemaObjects || levels > maxSchemaLevels {
		return nil, fmt.Errorf("it has %d objects on %d levels, and at most %d on %d are supported",
			objects, levels, maxSchemaObjects, maxSchemaLevels)
	}
	if err := settleDialect(document); err != nil {
		return nil, err
	}
	dropForeignPatterns(document)
	portable, err := encode(document)
	if err != nil {
		return nil, err
	}
	var parsed jsonschema.Schema
	err = json.Unmarshal(portable, &parsed)
	return &parsed, err
}

// extent is how many objects a JSON value has, and how many levels.
func extent(value any) (objects, levels int) {
	take := func(sub any) {
		o, l := extent(sub)
		objects, levels = objects+o, max(levels, l)
	}
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			take(item)
		}
	case map[string]any:
		objects++
		for _, member := range value {
			take(member)
		}
	default:
		return 0, 0
	}
	return objects, levels + 1
}

// settleDialect spells the dialect as jsonschema-go knows it, and refuses those
// whose rules would not be applied (basic, "Implementation Requirements").
func settleDialect(document any) error {
	root, _ := document.(map[string]any)
	dialect, ok := root["$schema"].(string)
	if !ok {
		return nil // 2020-12
	}
	_, name, _ := strings.Cut(strings.TrimSuffix(dialect, "#"), "://")
	switch name {
	case "json-schema.org/draft/2020-12/schema":
		delete(root, "$schema")
	case "json-schema.org/draft-07/schema":
		root["$schema"] = "http://json-schema.org/draft-07/schema#"
	default:
		return fmt.Errorf("the JSON Schema dialect %q is not supported", dialect)
	}
	return nil
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

// maxComplaint is how much is said of arguments that do not fit, in bytes: the
// complaint may repeat them.
const maxComplaint = 2000

// check returns why arguments, a JSON object, do not fit.
func (c *schema) check(arguments json.RawMessage) error {
	var value map[string]any
	if err := json.Unmarshal(arguments, &value); err != nil {
		return err
	}
	if !c.applies.bearable(value) {
		return nil
	}
	err := c.resolved.Validate(value)
	if err == nil {
		return nil
	}
	complaint := err.Error()
	if len(complaint) > maxComplaint {
		complaint = strings.ToValidUTF8(complaint[:maxComplaint], "") + "…"
	}
	return errors.New("invalid arguments: " + complaint)
}
