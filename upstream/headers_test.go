package upstream

import (
	"encoding/json"
	"strings"
	"testing"
)

// 2026-07-28, transports, streamable HTTP, "Schema Extension".
func TestCheckHeaders(t *testing.T) {
	for name, test := range map[string]struct {
		properties string
		annotated  bool
		want       string // of the error; empty for none
	}{
		"no annotation":              {`{"a":{"type":"string"}}`, false, ""},
		"a property of that name":    {`{"x-mcp-header":{"type":"string"}}`, false, ""},
		"a value that looks like it": {`{"a":{"const":{"x-mcp-header":"A"}}}`, false, ""},
		"primitive types":            {`{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"integer","x-mcp-header":"B"},"c":{"type":"boolean","x-mcp-header":"C"}}`, true, ""},
		"nested properties":          {`{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"B"}}}}`, true, ""},
		"a number":                   {`{"a":{"type":"number","x-mcp-header":"A"}}`, false, "neither string nor integer nor boolean"},
		"an empty name":              {`{"a":{"type":"string","x-mcp-header":""}}`, false, "not the name of an HTTP header"},
		"a name that is no token":    {`{"a":{"type":"string","x-mcp-header":"A:\r\nB"}}`, false, "not the name of an HTTP header"},
		"a name that is no string":   {`{"a":{"type":"string","x-mcp-header":1}}`, false, "not the name of an HTTP header"},
		"a name in use":              {`{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}`, true, "is used twice"},
		"inside items":               {`{"a":{"items":{"properties":{"b":{"type":"string","x-mcp-header":"B"}}}}}`, false, "only properties lead to"},
		"inside anyOf":               {`{"a":{"anyOf":[{"type":"string","x-mcp-header":"A"}]}}`, false, "only properties lead to"},
	} {
		t.Run(name, func(t *testing.T) {
			annotated, err := checkHeaders(json.RawMessage(`{"type":"object","properties":` + test.properties + `}`))
			if annotated != test.annotated {
				t.Errorf("annotated is %v", annotated)
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v", err)
			}
		})
	}
	t.Run("the root itself", func(t *testing.T) {
		if _, err := checkHeaders(json.RawMessage(`{"type":"string","x-mcp-header":"A"}`)); err == nil {
			t.Error("no error")
		}
	})
}
