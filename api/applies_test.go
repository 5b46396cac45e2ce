package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
)

func compiled(t *testing.T, schema string) *schema {
	t.Helper()
	c, err := newSchemas().of(task.Tool{Name: "t", InputSchema: json.RawMessage(schema)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// "A schema MUST NOT be run into an infinite loop against an instance" (JSON
// Schema 2020-12, core, 9.4.1): one that would be cannot be used.
func TestSchemaRefusesEndlessReferences(t *testing.T) {
	for name, schema := range map[string]string{
		"to itself":                         `{"type":"object","$ref":"#"}`,
		"whatever its case":                 `{"type":"object","$REF":"#"}`,
		"dynamic":                           `{"$dynamicAnchor":"n","$dynamicRef":"#n"}`,
		"dynamic, whatever its case":        `{"$dynamicAnchor":"n","$DYNAMICREF":"#"}`,
		"to an anchor":                      `{"$anchor":"n","allOf":[{"$ref":"#n"}]}`,
		"to an identifier":                  `{"$id":"https://example.com/a","not":{"$ref":"https://example.com/a"}}`,
		"to the place they are in":          `{"$id":"https://example.com/a","$defs":{"b":{"$id":"b","$defs":{"c":{"$ref":"#/$defs/c"}},"$ref":"#/$defs/c"}},"$ref":"b"}`,
		"through definitions":               `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`,
		"through all, any and one":          `{"allOf":[{"anyOf":[{"oneOf":[{"$ref":"#"}]}]}]}`,
		"through not":                       `{"not":{"$ref":"#"}}`,
		"through if, then and else":         `{"if":{},"then":{"if":false,"else":{"$ref":"#"}}}`,
		"through dependent schemas":         `{"dependentSchemas":{"a":{"$ref":"#"}}}`,
		"through dependencies":              `{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":{"$ref":"#"}}}`,
		"below a property":                  `{"properties":{"a":{"$ref":"#/properties/a"}}}`,
		"to an escaped name":                `{"$defs":{"a/b%":{"$ref":"#/$defs/a~1b%25"}},"$ref":"#/$defs/a~1b%25"}`,
		"where an index is spelled so":      `{"allOf":[{"$ref":"#/allOf/+0"}]}`,
		"through an identifier of draft-07": `{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#n","definitions":{"n":{"$id":"#n","anyOf":[{"$ref":"#n"}]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newSchemas().of(task.Tool{Name: "t", InputSchema: json.RawMessage(schema)})
			if err == nil {
				_ = c.check(json.RawMessage(`{"a":{"a":1}}`))
				t.Error("it is used")
			}
		})
	}
}

func TestSchemaFollowsRecursiveReferences(t *testing.T) {
	for name, tt := range map[string]struct {
		schema, good, bad string
	}{
		"through properties": {
			`{"properties":{"n":{"type":"number"},"next":{"$ref":"#"}}}`,
			`{"next":{"next":{"n":1}}}`, `{"next":{"next":{"n":"x"}}}`,
		},
		"through items": {
			`{"properties":{"children":{"type":"array","items":{"$ref":"#"}},"n":{"type":"number"}}}`,
			`{"children":[{"children":[{"n":1}]}]}`, `{"children":[{"children":[{"n":"x"}]}]}`,
		},
		"through definitions": {
			`{"properties":{"e":{"$ref":"#/$defs/e"}},"$defs":{"e":{"anyOf":[{"type":"number"},{"$ref":"#/$defs/sum"}]},
				"sum":{"type":"array","items":{"$ref":"#/$defs/e"}}}}`,
			`{"e":[1,[2,[3]]]}`, `{"e":[1,[2,["x"]]]}`,
		},
		"through a dynamic anchor": {
			`{"$id":"https://example.com/a","$dynamicAnchor":"node","properties":{"n":{"type":"number"},"next":{"$dynamicRef":"#node"}}}`,
			`{"next":{"n":1}}`, `{"next":{"n":"x"}}`,
		},
		"through identifiers": {
			`{"$id":"https://example.com/a","properties":{"b":{"$ref":"b"}},
				"$defs":{"b":{"$id":"b","type":"array","prefixItems":[{"$ref":"#/$defs/c"}],"$defs":{"c":{"$ref":"a"}}}}}`,
			`{"b":[{"b":[]}]}`, `{"b":[{"b":1}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := compiled(t, tt.schema)
			if err := c.check(json.RawMessage(tt.good)); err != nil {
				t.Errorf("%s: %v", tt.good, err)
			}
			if c.check(json.RawMessage(tt.bad)) == nil {
				t.Errorf("%s fits", tt.bad)
			}
		})
	}
}

// basic, "Composition-Keyword Resource Use".
func TestSchemaBounds(t *testing.T) {
	doubling := `{"$defs":{"a0":{}`
	for i := range 64 {
		doubling += fmt.Sprintf(`,"a%d":{"anyOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}`, i+1, i, i)
	}
	doubling += `},"$ref":"#/$defs/a64"}`
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "{}" + strings.Repeat("}", n) }
	for name, tt := range map[string]struct{ schema, arguments string }{
		"references that double on the spot":    {doubling, `{}`},
		"references that double at every level": {`{"properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, nested(500)},
		"arguments of many levels":              {`{"additionalProperties":{"$ref":"#"}}`, nested(5000)},
		"complaints that repeat a long text": {
			`{"properties":{"a":{"anyOf":[{"type":"null"}` + strings.Repeat(`,{"type":"null"}`, 1000) + `]}}}`,
			`{"a":"` + strings.Repeat("x", 1<<20) + `"}`,
		},
		"many rules for many values": {
			`{"additionalProperties":{"items":{"allOf":[{}` + strings.Repeat(`,{}`, 10000) + `]}}}`, `{"a":[1` + strings.Repeat(",1", 500000) + `]}`},
	} {
		t.Run(name+" are left to the tool", func(t *testing.T) {
			if err := compiled(t, tt.schema).check(json.RawMessage(tt.arguments)); err != nil {
				t.Error(err)
			}
		})
	}
	for name, schema := range map[string]string{
		"too deep":            strings.Repeat(`{"not":`, 5000) + "{}" + strings.Repeat("}", 5000),
		"too large":           `{"description":"` + strings.Repeat("x", maxSchemaBytes) + `"}`,
		"too many subschemas": `{"allOf":[{}` + strings.Repeat(`,{}`, maxSchemaObjects) + `]}`,
		"too many references": `{"allOf":[{}` + strings.Repeat(`,{"$id":"https://a/","$defs":{"a":{"$ref":"#"}}}`, 5000) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newSchemas().of(task.Tool{Name: "t", InputSchema: json.RawMessage(schema)}); err == nil {
				t.Error("it is used")
			}
		})
	}
	t.Run("what is wrong is said briefly", func(t *testing.T) {
		err := compiled(t, `{"properties":{"a":{"type":"number"}}}`).check(json.RawMessage(`{"a":"` + strings.Repeat("é", 1<<20) + `"}`))
		if err == nil || len(err.Error()) > 2*maxComplaint {
			t.Errorf("%d bytes", len(err.Error()))
		}
	})
}
