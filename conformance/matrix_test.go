package conformance_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// However a tool asks and whoever calls it, the same answers make the same
// outcome.
func TestMatrix(t *testing.T) {
	p := startDev(t, signOptions())
	accept := func(name any) object { return object{"action": "accept", "content": object{"name": name}} }
	tools := []string{signByRounds, signHeld, signByWorkflow}
	answers := []struct {
		name string
		says []object // at each asking
		want string
	}{
		{"accept", []object{accept("Ada")}, "signed by Ada"},
		{"decline", []object{{"action": "decline"}}, "not signed: decline"},
		{"cancel", []object{{"action": "cancel"}}, "not signed: cancel"},
		{"a bad answer, then a good one", []object{accept(5), accept("Ada")}, "signed by Ada"},
	}
	for _, tool := range tools {
		for _, kind := range callers {
			for _, a := range answers {
				t.Run(tool+"/"+kind.name+"/"+a.name, func(t *testing.T) {
					t.Parallel()
					asked := 0
					got, err := kind.connect(t, p.MCPURL).call(tool, object{}, func(method string, params json.RawMessage) object {
						message := decode[struct{ Message string }](t, params).Message
						switch {
						case method != "elicitation/create" || asked == len(a.says):
							t.Fatalf("asked too much: %s %s", method, params)
						case asked == 0 && message != whoSigns,
							asked > 0 && (!strings.HasPrefix(message, whoSigns) || !strings.Contains(message, "could not be accepted")):
							t.Errorf("asked %q", message)
						}
						asked++
						return a.says[asked-1]
					})
					if want := `{"outcome":"` + a.want + `"}`; err != nil || got != want {
						t.Errorf("got %q and error %v, want %q", got, err, want)
					}
					if asked != len(a.says) {
						t.Errorf("asked %d times, want %d", asked, len(a.says))
					}
				})
			}
		}
		// Elicitation came with 2025-06-18: whatever the client declares, the
		// tool is refused, and the call ends.
		t.Run(tool+"/2025-03-26 call", func(t *testing.T) {
			t.Parallel()
			c := plainCaller2025{openSession(t, p.MCPURL, "2025-03-26", everyCapability)}
			got, err := c.call(tool, object{}, func(method string, params json.RawMessage) object {
				t.Errorf("asked: %s %s", method, params)
				return object{"action": "cancel"}
			})
			var refused *rpcError
			switch {
			case tool == signHeld && err == nil && strings.Contains(got, "does not support elicitation"):
			case tool != signHeld && errors.As(err, &refused) && refused.Code == -32602 && strings.Contains(refused.Message, "capability"):
			default:
				t.Errorf("got %q and error %v", got, err)
			}
		})
	}
}
