package task_test

import (
	"encoding/json"
	"testing"

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
