package api

import (
	"encoding/json"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestSchemas(t *testing.T) {
	for name, tt := range map[string]struct {
		schema, good, bad string
	}{
		"2020-12 by default":        {`{"properties":{"a":{"prefixItems":[{"type":"string"}]}}}`, `{"a":["x"]}`, `{"a":[1]}`},
		"draft-07 where it says":    {`{"$schema":"http://json-schema.org/draft-07/schema#","required":["a"]}`, `{"a":1}`, `{}`},
		"draft-07 without its hash": {`{"$schema":"http://json-schema.org/draft-07/schema","required":["a"]}`, `{"a":1}`, `{}`},
		"2020-12 over http":         {`{"$schema":"http://json-schema.org/draft/2020-12/schema","required":["a"]}`, `{"a":1}`, `{}`},
		"a $ref inside":             {`{"$defs":{"n":{"type":"number"}},"properties":{"a":{"$ref":"#/$defs/n"}}}`, `{"a":1}`, `{"a":"x"}`},
		"a foreign pattern":         {`{"properties":{"a":{"type":"string","pattern":"^(?!x)"}}}`, `{"a":"x"}`, `{"a":1}`},
		"foreign pattern properties": {
			`{"patternProperties":{"^(?!x)":{"type":"string"}},"additionalProperties":false,"required":["a"]}`, `{"a":1}`, `{}`},
		"no schema": {``, `{"a":1}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newSchemas().of(task.Tool{Name: "t", InputSchema: json.RawMessage(tt.schema)})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.check(json.RawMessage(tt.good)); err != nil {
				t.Errorf("%s: %v", tt.good, err)
			}
			if tt.bad != "" && c.check(json.RawMessage(tt.bad)) == nil {
				t.Errorf("%s fits", tt.bad)
			}
		})
	}
}

// basic, "$ref Resolution": never dereferenced, and not permissive either.
func TestSchemaRefusesNetworkRef(t *testing.T) {
	for _, schema := range []string{
		`{"$ref":"https://example.com/schema.json"}`,
		`{"properties":{"a":{"$ref":"http://127.0.0.1:1/x"}}}`,
		`{"$schema":"http://json-schema.org/draft-04/schema#"}`,
	} {
		if _, err := newSchemas().of(task.Tool{Name: "t", InputSchema: json.RawMessage(schema)}); err == nil {
			t.Errorf("%s is used", schema)
		}
	}
}

func TestSchemaFollowsTheTool(t *testing.T) {
	s := newSchemas()
	for _, schema := range []string{`{"required":["a"]}`, `{"required":["b"]}`} {
		c, err := s.of(task.Tool{Name: "t", InputSchema: json.RawMessage(schema)})
		if err != nil {
			t.Fatal(err)
		}
		if string(c.raw) != schema {
			t.Errorf("got %s, want %s", c.raw, schema)
		}
	}
}
