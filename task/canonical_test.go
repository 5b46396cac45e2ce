package task_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestCanonicalJSON(t *testing.T) {
	for raw, want := range map[string]string{
		`{"b": [1, {"d":2,"c":1}], "a":null}`: `{"a":null,"b":[1,{"c":1,"d":2}]}`,
		`9007199254740993`:                    `9007199254740993`, // not a float64
		`1.0`:                                 `1.0`,
		` "x" `:                               `"x"`,
	} {
		if got, err := task.CanonicalJSON(json.RawMessage(raw)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v", raw, got, err)
		}
	}
	for _, raw := range []string{``, `{`, `{} {}`} {
		if got, err := task.CanonicalJSON(json.RawMessage(raw)); err == nil {
			t.Errorf("%q: got %s", raw, got)
		}
	}
}

// spelling is one of the ways to write a JSON value.
func spelling(t *rapid.T, v any) string {
	space := func() string { return rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space") }
	list := func(opening, closing string, elements []string) string {
		return opening + space() + strings.Join(elements, space()+","+space()) + space() + closing
	}
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for _, key := range rapid.Permutation(slices.Sorted(maps.Keys(v))).Draw(t, "order") {
			members = append(members, spelling(t, key)+space()+":"+space()+spelling(t, v[key]))
		}
		return list("{", "}", members)
	case []any:
		var entries []string
		for _, entry := range v {
			entries = append(entries, spelling(t, entry))
		}
		return list("[", "]", entries)
	case string:
		var b strings.Builder
		for _, unit := range utf16.Encode([]rune(v)) {
			if unit < 0x20 || unit > 0x7e || unit == '"' || unit == '\\' || rapid.Bool().Draw(t, "escape") {
				fmt.Fprintf(&b, `\u%04x`, unit)
			} else {
				b.WriteByte(byte(unit))
			}
		}
		return `"` + b.String() + `"`
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
}

func jsonValue() *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.SampledFrom([]any{nil, true, false, json.Number("1"), json.Number("1.0"), json.Number("-0"), json.Number("1e400")}),
		rapid.Map(rapid.Int64(), func(n int64) any { return json.Number(strconv.FormatInt(n, 10)) }),
		rapid.String().AsAny(),
	}
	inner := rapid.OneOf(append(scalars, rapid.Deferred(jsonValue))...)
	return rapid.OneOf(append(scalars,
		rapid.SliceOfN(inner, 0, 4).AsAny(),
		rapid.MapOfN(rapid.StringN(0, 3, 12), inner, 0, 4).AsAny())...)
}

// Two texts have the same canonical form exactly when they say the same.
func TestCanonicalJSONProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		canonical := func(raw string) string {
			c, err := task.CanonicalJSON(json.RawMessage(raw))
			if err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			return string(c)
		}
		a, b := jsonValue().Draw(t, "a"), jsonValue().Draw(t, "b")
		first, second := spelling(t, a), spelling(t, a)
		if canonical(first) != canonical(second) {
			t.Fatalf("%s and %s are told apart: %s, %s", first, second, canonical(first), canonical(second))
		}
		if other := spelling(t, b); !reflect.DeepEqual(a, b) && canonical(first) == canonical(other) {
			t.Fatalf("%s and %s are both %s", first, other, canonical(first))
		}
	})
}

// Whatever the text, its canonical form is JSON that says the same and is its
// own canonical form.
func FuzzCanonicalJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		canonical, err := task.CanonicalJSON(raw)
		if err != nil {
			if json.Valid(raw) {
				t.Fatalf("%q is JSON: %v", raw, err)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%q is not JSON, but has the canonical form %s", raw, canonical)
		}
		if again, err := task.CanonicalJSON(canonical); err != nil || !bytes.Equal(again, canonical) {
			t.Fatalf("%q: %s, then %s (%v)", raw, canonical, again, err)
		}
	})
}
