package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const headerAnnotation = "x-mcp-header"

// headerName is an HTTP field name (RFC 9110, section 5.1).
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checkHeaders reports whether an input schema has x-mcp-header annotations,
// and what is wrong with them (2026-07-28, transports, streamable HTTP,
// "Schema Extension": clients MUST exclude a tool that violates it).
func checkHeaders(inputSchema json.RawMessage) (annotated bool, err error) {
	if !strings.Contains(string(inputSchema), headerAnnotation) {
		return false, nil
	}
	var schema any
	if err := json.Unmarshal(inputSchema, &schema); err != nil {
		return false, err
	}
	seen := map[string]bool{}
	err = walkHeaders(schema, true, false, seen)
	return len(seen) > 0, err
}

// walkHeaders walks through a schema. It is reachable if only "properties"
// lead to it, and a property if the last of them did.
func walkHeaders(schema any, reachable, property bool, seen map[string]bool) error {
	object, ok := schema.(map[string]any)
	if !ok {
		if list, ok := schema.([]any); ok {
			for _, s := range list {
				if err := walkHeaders(s, false, false, seen); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if annotation, ok := object[headerAnnotation]; ok {
		if err := checkHeader(annotation, object["type"], reachable && property, seen); err != nil {
			return err
		}
	}
	for keyword, value := range object {
		switch keyword {
		case headerAnnotation, "const", "enum", "default", "examples":
			// Values, not schemas.
		case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
			named, _ := value.(map[string]any)
			for _, s := range named {
				properties := keyword == "properties"
				if err := walkHeaders(s, reachable && properties, properties, seen); err != nil {
					return err
				}
			}
		default:
			if err := walkHeaders(value, false, false, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkHeader(annotation, schemaType any, reachable bool, seen map[string]bool) error {
	name, ok := annotation.(string)
	switch {
	case !reachable:
		return errors.New(headerAnnotation + " is used elsewhere than on a property that only properties lead to")
	case !ok || !headerName.MatchString(name):
		return fmt.Errorf("%s %q is not the name of an HTTP header", headerAnnotation, fmt.Sprint(annotation))
	case schemaType != "string" && schemaType != "integer" && schemaType != "boolean":
		return fmt.Errorf("%s %q is on a property that is neither string nor integer nor boolean", headerAnnotation, name)
	case seen[strings.ToLower(name)]:
		return fmt.Errorf("%s %q is used twice", headerAnnotation, name)
	}
	seen[strings.ToLower(name)] = true
	return nil
}
