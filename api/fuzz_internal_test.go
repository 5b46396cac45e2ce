package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/internal/taskmodel"
	"github.com/longhaul-mcp/longhaul/task"
)

// What a client declares becomes what its version has of it, and never more
// than that; the session ID that carries it fits into a header.
func FuzzCapabilities(f *testing.F) {
	sessions, err := newSessions(make([]byte, KeySize))
	if err != nil {
		f.Fatal(err)
	}
	lacks := map[string][]taskmodel.Kind{
		version20250326: {taskmodel.Form, taskmodel.URL, taskmodel.SampleTools},
		version20250618: {taskmodel.URL, taskmodel.SampleTools},
	}
	f.Fuzz(func(t *testing.T, version byte, declared []byte) {
		if _, err := readObject(declared, true); err != nil || !json.Valid(declared) {
			return // such params are refused
		}
		v := legacyVersions[int(version)%len(legacyVersions)]
		has := capabilitiesIn(v, declared)
		if again := capabilitiesIn(v, has); string(again) != string(has) {
			t.Fatalf("%s has %s, and of that %s", v, has, again)
		}
		serves := func(capabilities json.RawMessage, kind taskmodel.Kind) bool {
			return task.Undeclared(capabilities, []task.InputRequest{kind.Request("k")}) == nil
		}
		for _, kind := range taskmodel.Kinds {
			if kind == taskmodel.Form && v == version20250618 {
				continue // there, whoever has elicitation has forms
			}
			if serves(has, kind) && !serves(declared, kind) && !duplicated(declared) {
				t.Fatalf("%s makes %s, by which the client can be asked for %s, of %s", v, has, kind, declared)
			}
		}
		for _, kind := range lacks[v] {
			if serves(has, kind) {
				t.Fatalf("by %s a client of %s can be asked for %s", has, v, kind)
			}
		}
		id, err := sessions.open(v, declared, "ann")
		if err != nil {
			return // it is told why
		}
		s, err := sessions.lookup(id, "ann")
		if err != nil || len(id) > 8<<10 {
			t.Fatalf("a session ID of %d bytes: %v", len(id), err)
		}
		for _, kind := range taskmodel.Kinds {
			if s.serves(kind.Request("k")) != serves(has, kind) {
				t.Fatalf("the session can be asked for %s, or not, other than %s says", kind, has)
			}
		}
	})
}

// duplicated reports whether an object in raw, at any depth, has a key twice;
// readers differ on which counts.
func duplicated(raw json.RawMessage) bool {
	members, err := readObject(raw, false)
	if err == errNotObject { //nolint:errorlint // it is this very one
		return false
	}
	if err != nil {
		return true
	}
	for _, member := range members {
		if duplicated(member.value) {
			return true
		}
	}
	return false
}

// Whatever a tool's schema and a call's arguments are, there is a verdict, soon.
func FuzzArguments(f *testing.F) {
	f.Fuzz(func(t *testing.T, schema, arguments []byte) {
		if len(schema) > 0 && !json.Valid(schema) || !json.Valid(arguments) {
			return // both have been read as JSON before
		}
		s, err := newSchemas().of(task.Tool{Name: "t", InputSchema: schema})
		if err != nil {
			return
		}
		first := s.check(arguments)
		if second := s.check(arguments); (first == nil) != (second == nil) {
			t.Fatalf("first %v, then %v", first, second)
		}
		for _, h := range s.headers {
			if _, found, err := lookup(arguments, h.path); found && err == nil && !strings.HasPrefix(h.header, headerParamPrefix) {
				t.Fatalf("the header %q", h.header)
			}
		}
	})
}

// A lifetime is what was asked for, in milliseconds, brought within the bounds.
func TestRequestedTTLProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "minimum")) * time.Millisecond
		hi := lo + time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "more"))*time.Millisecond
		a := &API{opts: Options{MinTTL: lo, TTL: lo, MaxTTL: hi}}
		asked := func(ms float64) time.Duration {
			raw, err := json.Marshal(map[string]float64{"ttl": ms})
			if err != nil {
				t.Fatal(err)
			}
			ttl, err := a.requestedTTL(raw)
			if (err != nil) != (ms < 0) {
				t.Fatalf("%g ms: %v", ms, err)
			}
			return ttl
		}
		drawn := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int64Range(-5, 2e11), func(n int64) float64 { return float64(n) }))
		x, y := drawn.Draw(t, "x"), drawn.Draw(t, "y")
		if x > y {
			x, y = y, x
		}
		short, long := asked(x), asked(y)
		if x < 0 {
			return
		}
		if short < lo || short > hi || short > long {
			t.Fatalf("of %s to %s: %g ms are %s, %g ms %s", lo, hi, x, short, y, long)
		}
		if exact := time.Duration(x) * time.Millisecond; x == float64(int64(x)) && x < 1e15 && lo <= exact && exact <= hi && short != exact {
			t.Fatalf("%g ms, which is within %s to %s, became %s", x, lo, hi, short)
		}
	})
}
