package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/task"
)

// The corpora under testdata are checked by every go test. To search on:
//
//	go test -run '^$' -fuzz '^FuzzVerdict$' -fuzztime 10m ./engine
//	go test -run '^$' -fuzz FuzzVerdictAgrees -fuzztime 10m ./engine
//	go test -run 'Properties|Verdict' -rapid.checks=100000 ./engine

// planted is put at the end of every text in an answer: no verdict repeats it.
const planted = "s3cret-7f3a91"

// Whatever a tool asks and a client answers, there is a verdict, of a few words
// on one line, that does not repeat the answer.
func FuzzVerdict(f *testing.F) {
	methods := []string{task.MethodElicit, task.MethodSample, task.MethodRoots, "odd/ask"}
	f.Fuzz(func(t *testing.T, method byte, params, response []byte) {
		in := task.InputRequest{Key: "k", Method: methods[int(method)%len(methods)], Params: params}
		words := verdict(in, response)
		if again := verdict(in, response); again != words {
			t.Fatalf("the verdict is %q, then %q", words, again)
		}
		var answer any
		if json.Unmarshal(response, &answer) == nil && !bytes.Contains(params, []byte(planted)) {
			secret, err := json.Marshal(plant(answer))
			if err != nil {
				t.Fatal(err)
			}
			if words := verdict(in, secret); strings.Contains(words, planted) {
				t.Fatalf("the verdict on %s repeats it: %s", secret, words)
			}
		} else if words == "" {
			if _, ok := jsonObject(response); !ok {
				t.Fatalf("%q, which is no object, was accepted", response)
			}
		}
		if len(words) > 5<<10 || !utf8.ValidString(words) || strings.ContainsAny(words, "\n\r") {
			t.Fatalf("the verdict is %q", words)
		}
	})
}

// plant returns the value with the planted words in every text, except in the
// few that say of what kind an answer is.
func plant(value any) any {
	switch value := value.(type) {
	case string:
		return value + planted
	case []any:
		for i := range value {
			value[i] = plant(value[i])
		}
	case map[string]any:
		for name, member := range value {
			if name != "action" && name != "role" && name != "type" {
				value[name] = plant(member)
			}
		}
	}
	return value
}

// What the verdict and jsonschema-go can both judge they judge alike. Which
// that is, and why not all, is said in verdict.go.
func FuzzVerdictAgrees(f *testing.F) {
	f.Fuzz(func(t *testing.T, schema, content []byte) {
		schema, err := task.CanonicalJSON(schema) // of equal keys the last
		if err != nil {
			return
		}
		content, err = task.CanonicalJSON(content)
		if err != nil {
			return
		}
		var form, values map[string]any
		if json.Unmarshal(schema, &form) != nil || json.Unmarshal(content, &values) != nil || values == nil {
			return
		}
		exact, formats := bothJudge(form, values)
		if !exact || !exactNumbers(schema) || !exactNumbers(content) {
			return
		}
		var parsed jsonschema.Schema
		if json.Unmarshal(schema, &parsed) != nil {
			return
		}
		resolved, err := parsed.Resolve(nil)
		if err != nil {
			return
		}
		words := verdict(elicitation(string(schema)), json.RawMessage(accept(string(content))))
		err = resolved.Validate(values)
		if words == "" && err != nil {
			t.Fatalf("%s accepts %s, but %v", schema, content, err)
		}
		// The formats are rules here, and annotations there.
		if words != "" && err == nil && !formats {
			t.Fatalf("%s refuses %s: %s", schema, content, words)
		}
	})
}

// bothJudge reports whether the form keeps to the keywords that both know, with
// values they may have, and whether it has formats.
func bothJudge(form, content map[string]any) (both, formats bool) {
	if !onlyKeys(form, "type", "properties", "required", "title", "description") || form["type"] != "object" {
		return false, false
	}
	fields, ok := form["properties"].(map[string]any)
	if !ok {
		return false, false
	}
	for _, field := range fields {
		schema, ok := field.(map[string]any)
		if !ok || !plainSchema(schema, "minItems", "maxItems", "items") {
			return false, false
		}
		if _, ok := schema["format"]; ok {
			formats = true
		}
		if items, ok := schema["items"]; ok {
			schema, ok := items.(map[string]any)
			if !ok || !plainSchema(schema) {
				return false, false
			}
			if _, ok := schema["format"]; ok {
				formats = true
			}
		}
	}
	for name, value := range content {
		if _, known := fields[name]; !known {
			return false, false // of these the specification says more
		}
		if text, ok := value.(string); ok && len(text) > maxMatched {
			return false, false
		}
	}
	return true, formats
}

func onlyKeys(object map[string]any, names ...string) bool {
	for name := range object {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

// plainSchema reports whether a field's schema keeps to the subset.
func plainSchema(schema map[string]any, more ...string) bool {
	if !onlyKeys(schema, slices.Concat(entryKeywords, more, []string{"title", "description"})...) {
		return false
	}
	for name, value := range schema {
		switch name {
		case "type":
			if names, ok := value.([]any); !ok && kinds[fmt.Sprint(value)] == "" || slices.ContainsFunc(names, func(name any) bool {
				return kinds[fmt.Sprint(name)] == ""
			}) || ok && len(names) == 0 {
				return false
			}
		case "minLength", "maxLength", "minItems", "maxItems":
			if n, ok := value.(float64); !ok || n < 0 || n != math.Trunc(n) {
				return false
			}
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
			if _, ok := value.(float64); !ok {
				return false
			}
		case "enum":
			if !scalars(value) {
				return false
			}
		case "const":
			if !scalars([]any{value}) {
				return false
			}
		case "pattern":
			pattern, ok := value.(string)
			if _, err := regexp.Compile(pattern); !ok || err != nil {
				return false
			}
		case "oneOf", "anyOf":
			var choices []any
			options, _ := value.([]any)
			for _, option := range options {
				object, _ := option.(map[string]any)
				choice, ok := object["const"]
				if !ok || !onlyKeys(object, "const", "title") || slices.Contains(choices, choice) {
					return false
				}
				choices = append(choices, choice)
			}
			if !scalars(choices) {
				return false
			}
		}
	}
	return true
}

// scalars reports whether value is a list, not empty, of neither lists nor
// objects, nor null, which jsonschema-go takes for the lack of a const.
func scalars(value any) bool {
	list, _ := value.([]any)
	for _, entry := range list {
		switch entry.(type) {
		case string, bool, float64:
		default:
			return false
		}
	}
	return len(list) > 0
}

// exactNumbers reports whether all numbers in raw are what a double says.
func exactNumbers(raw json.RawMessage) bool {
	var walk func(value any) bool
	walk = func(value any) bool {
		switch value := value.(type) {
		case json.Number:
			f, err := value.Float64()
			if err != nil {
				return false
			}
			double, err := json.Marshal(f)
			return err == nil && parseDecimal(json.Number(double)) == parseDecimal(value)
		case []any:
			return !slices.ContainsFunc(value, func(e any) bool { return !walk(e) })
		case map[string]any:
			return !slices.ContainsFunc(slices.Collect(maps.Values(value)), func(e any) bool { return !walk(e) })
		default:
			return true
		}
	}
	return walk(decodeExact(raw))
}

// The ID of a task is a function of owner and key, of both apart.
func TestKeyedIDProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		engine := func(name string) *Engine {
			return &Engine{o: Options{Key: rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name)}}
		}
		e := engine("key")
		text := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "owner and key")
		i := rapid.IntRange(0, len(text)).Draw(t, "owner's length")
		j := rapid.IntRange(0, len(text)).Draw(t, "other owner's length")
		id := e.keyedID(task.Owner(text[:i]), string(text[i:]))
		if other := e.keyedID(task.Owner(text[:j]), string(text[j:])); (id == other) != (i == j) {
			t.Fatalf("%q and %q, %q and %q: %s, %s", text[:i], text[i:], text[:j], text[j:], id, other)
		}
		if !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(id) {
			t.Fatalf("the ID is %q", id)
		}
		if other := engine("other key"); !bytes.Equal(other.o.Key, e.o.Key) && other.keyedID(task.Owner(text[:i]), string(text[i:])) == id {
			t.Fatal("servers with different keys give the same ID")
		}
	})
}
