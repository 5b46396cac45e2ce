package api

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// jsonschema-go follows references for as long as they lead on. A schema that
// is to be applied to a value because it is already being applied to it would
// overflow the stack, and end the process; one that doubles the work at every
// step would take for ever. So what there is to do is found out beforehand.
//
// A schema applies other ones to the value in hand (by allOf, $ref and the
// like: "in place") or to the values within it (by properties, items and the
// like). The values have an end, so a circle that leads through them has one
// too: that is a recursive schema. A circle of nothing but schemas in place has
// none ("A schema MUST NOT be run into an infinite loop": JSON Schema 2020-12,
// core, 9.4.1), and a schema with one cannot be used. How much work the others
// are depends on the value, for which it is counted.

// Bounds on schemas (basic, "Composition-Keyword Resource Use").
const (
	maxSchemaBytes   = 1 << 20
	maxSchemaObjects = 20_000
	maxSchemaLevels  = 100 // of JSON
	// maxReferences is how many ways a schema's references may lead. Almost
	// always it is one for each.
	maxReferences = 100_000
	// maxWork is how much may be done to check one value, in applications of a
	// schema, and maxNested how many of them may be in progress at a time. One
	// to a value of costlyBytes counts twice, and so on: when a value does not
	// fit, the complaint repeats it.
	maxWork     = 100_000
	maxNested   = 1000
	costlyBytes = 100
)

// applications says which schemas are applied because another one is: all of
// them, and perhaps more.
type applications struct {
	root *jsonschema.Schema
	// inPlace are the schemas that each one applies in place.
	inPlace map[*jsonschema.Schema][]*jsonschema.Schema
}

// applicationsOf works out what the schemas in root apply. It fails if there
// is no end to it.
func applicationsOf(root *jsonschema.Schema) (*applications, error) {
	a := &applications{root, make(map[*jsonschema.Schema][]*jsonschema.Schema)}
	refs := references{byFragment: make(map[string][]*jsonschema.Schema)}
	refs.add(root, "", nil)
	ways := 0
	for _, s := range refs.schemas {
		subs := inPlace(s)
		for _, ref := range []string{s.Ref, s.DynamicRef} {
			if ref == "" {
				continue
			}
			to, err := refs.targets(ref)
			if err != nil {
				return nil, err
			}
			if ways += len(to); ways > maxReferences {
				return nil, errors.New("its references are too many")
			}
			subs = append(subs, to...)
		}
		if len(subs) > 0 {
			a.inPlace[s] = subs
		}
	}
	return a, a.checkEnds()
}

// checkEnds fails if schemas in place lead in a circle.
func (a *applications) checkEnds() error {
	done := make(map[*jsonschema.Schema]bool) // false while it is being looked at
	var ends func(s *jsonschema.Schema) bool
	ends = func(s *jsonschema.Schema) bool {
		if ended, seen := done[s]; seen {
			return ended
		}
		done[s] = false
		for _, sub := range a.inPlace[s] {
			if !ends(sub) {
				return false
			}
		}
		done[s] = true
		return true
	}
	for s := range a.inPlace {
		if !ends(s) {
			return errors.New("following its references would never come to an end")
		}
	}
	return nil
}

// bearable reports whether value can be checked within the bounds on work.
func (a *applications) bearable(value any) bool {
	left := maxWork
	var apply func(s *jsonschema.Schema, v shape, nested int) bool
	apply = func(s *jsonschema.Schema, v shape, nested int) bool {
		if s == nil {
			return true
		}
		left -= 1 + v.size/costlyBytes + len(s.Properties) + len(s.Required) + len(s.Enum)
		if nested++; left < 0 || nested > maxNested {
			return false
		}
		for _, sub := range a.inPlace[s] {
			if !apply(sub, v, nested) {
				return false
			}
		}
		for name, member := range v.members {
			if own, ok := s.Properties[name]; ok {
				if !apply(own, member, nested) {
					return false
				}
			} else if !apply(s.AdditionalProperties, member, nested) || !apply(s.UnevaluatedProperties, member, nested) {
				return false
			}
			for _, sub := range s.PatternProperties {
				if !apply(sub, member, nested) {
					return false
				}
			}
			if !apply(s.PropertyNames, shape{size: len(name)}, nested) {
				return false
			}
		}
		for i, item := range v.items {
			for _, list := range [][]*jsonschema.Schema{s.PrefixItems, s.ItemsArray} {
				if i < len(list) && !apply(list[i], item, nested) {
					return false
				}
			}
			for _, sub := range []*jsonschema.Schema{s.Items, s.AdditionalItems, s.UnevaluatedItems, s.Contains} {
				if !apply(sub, item, nested) {
					return false
				}
			}
		}
		return true
	}
	return apply(a.root, shapeOf(value), 0)
}

// shape is a JSON value without its scalars.
type shape struct {
	size    int // in bytes, about
	members map[string]shape
	items   []shape
}

func shapeOf(value any) shape {
	s := shape{size: 1}
	switch value := value.(type) {
	case string:
		s.size += len(value)
	case map[string]any:
		s.members = make(map[string]shape, len(value))
		for name, member := range value {
			s.members[name] = shapeOf(member)
			s.size += len(name) + s.members[name].size
		}
	case []any:
		s.items = make([]shape, len(value))
		for i, item := range value {
			s.items[i] = shapeOf(item)
			s.size += s.items[i].size
		}
	}
	return s
}

// references finds the schemas in a document that a reference may mean.
type references struct {
	schemas []*jsonschema.Schema // all there are
	// byFragment are the schemas by what a reference to them may have as its
	// fragment: an anchor, or a JSON Pointer from the document or from any schema
	// around them that has an $id. Which of these a reference begins at is not
	// worked out.
	byFragment map[string][]*jsonschema.Schema
}

func (r *references) name(fragment string, s *jsonschema.Schema) {
	r.byFragment[fragment] = append(r.byFragment[fragment], s)
}

// add takes in s, which is at pointer, and all that is in it. bases are the
// lengths of the pointers to the schemas around it that have an $id.
func (r *references) add(s *jsonschema.Schema, pointer string, bases []int) {
	r.schemas = append(r.schemas, s)
	if s.ID != "" && pointer != "" {
		bases = append(bases[:len(bases):len(bases)], len(pointer))
	}
	r.name(pointer, s)
	for _, base := range bases {
		r.name(pointer[base:], s)
	}
	// In draft-07 an $id may be an anchor.
	for _, anchor := range []string{s.Anchor, s.DynamicAnchor, strings.TrimPrefix(s.ID, "#")} {
		if anchor != "" {
			r.name(anchor, s)
		}
	}
	for step, sub := range subschemas(s) {
		r.add(sub, pointer+step, bases)
	}
}

// targets are the schemas that ref may mean. jsonschema-go has resolved it, so
// there is one; it may have been spelled in a way that is not known here.
func (r *references) targets(ref string) ([]*jsonschema.Schema, error) {
	u, err := url.Parse(ref)
	if err != nil {
		return nil, err
	}
	targets := r.byFragment[u.Fragment]
	if len(targets) == 0 {
		return nil, fmt.Errorf("the reference %q is not supported", ref)
	}
	return targets, nil
}

// inPlace are the schemas that s applies to the value it is applied to, but
// for its references.
func inPlace(s *jsonschema.Schema) []*jsonschema.Schema {
	subs := slices.Concat(s.AllOf, s.AnyOf, s.OneOf)
	for _, sub := range []*jsonschema.Schema{s.Not, s.If, s.Then, s.Else} {
		if sub != nil {
			subs = append(subs, sub)
		}
	}
	subs = slices.AppendSeq(subs, maps.Values(s.DependentSchemas))
	return slices.AppendSeq(subs, maps.Values(s.DependencySchemas))
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// subschemas are the schemas in s with the JSON Pointers to them.
func subschemas(s *jsonschema.Schema) iter.Seq2[string, *jsonschema.Schema] {
	return func(yield func(string, *jsonschema.Schema) bool) {
		for keyword, sub := range map[string]*jsonschema.Schema{
			"items": s.Items, "additionalItems": s.AdditionalItems, "unevaluatedItems": s.UnevaluatedItems, "contains": s.Contains,
			"additionalProperties": s.AdditionalProperties, "unevaluatedProperties": s.UnevaluatedProperties,
			"propertyNames": s.PropertyNames, "contentSchema": s.ContentSchema,
			"not": s.Not, "if": s.If, "then": s.Then, "else": s.Else,
		} {
			if sub != nil && !yield("/"+keyword, sub) {
				return
			}
		}
		for keyword, list := range map[string][]*jsonschema.Schema{
			"allOf": s.AllOf, "anyOf": s.AnyOf, "oneOf": s.OneOf, "prefixItems": s.PrefixItems, "items": s.ItemsArray,
		} {
			for i, sub := range list {
				if !yield("/"+keyword+"/"+strconv.Itoa(i), sub) {
					return
				}
			}
		}
		for keyword, named := range map[string]map[string]*jsonschema.Schema{
			"$defs": s.Defs, "definitions": s.Definitions, "properties": s.Properties, "patternProperties": s.PatternProperties,
			"dependentSchemas": s.DependentSchemas, "dependencies": s.DependencySchemas,
		} {
			for name, sub := range named {
				if !yield("/"+keyword+"/"+pointerEscapes.Replace(name), sub) {
					return
				}
			}
		}
	}
}
