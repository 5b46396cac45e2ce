package api

import (
	"encoding/json"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
)

// ClientCapabilities in the schemas of 2025-03-26, 2025-06-18 and 2025-11-25.
func TestCapabilitiesIn(t *testing.T) {
	const (
		everything = `{"elicitation":{"form":{},"url":{}},"experimental":{"x":{"y":1}},"extensions":{"com.example/z":{}},` +
			`"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}},` +
			`"tasks":{"list":{},"requests":{"elicitation":{"create":{}}}}}`
		form   = `{"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{}}}`
		plain  = `{"message":"m","requestedSchema":{"type":"object","properties":{}}}`
		url    = `{"mode":"url","message":"m","url":"https://example.com/"}`
		sample = `{"messages":[],"maxTokens":1}`
		tools  = `{"messages":[],"maxTokens":1,"tools":[{"name":"t","inputSchema":{"type":"object"}}]}`
	)
	requests := map[string]task.InputRequest{
		"form":   {Method: task.MethodElicit, Params: json.RawMessage(form)},
		"plain":  {Method: task.MethodElicit, Params: json.RawMessage(plain)},
		"url":    {Method: task.MethodElicit, Params: json.RawMessage(url)},
		"sample": {Method: task.MethodSample, Params: json.RawMessage(sample)},
		"tools":  {Method: task.MethodSample, Params: json.RawMessage(tools)},
		"roots":  {Method: task.MethodRoots},
	}
	for name, tt := range map[string]struct {
		version, declared, want string
		serves                  []string
	}{
		"2025-03-26": {
			version20250326, everything,
			`{"experimental":{"x":{"y":1}},"extensions":{"com.example/z":{}},"roots":{"listChanged":true},"sampling":{}}`,
			[]string{"sample", "roots"},
		},
		"2025-06-18": {
			version20250618, everything,
			`{"elicitation":{"form":{}},"experimental":{"x":{"y":1}},"extensions":{"com.example/z":{}},"roots":{"listChanged":true},"sampling":{}}`,
			[]string{"form", "plain", "sample", "roots"},
		},
		"2025-11-25": {
			version20251125, everything,
			`{"elicitation":{"form":{},"url":{}},"experimental":{"x":{"y":1}},"extensions":{"com.example/z":{}},` +
				`"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}}}`,
			[]string{"form", "plain", "url", "sample", "tools", "roots"},
		},
		// "an empty capabilities object is equivalent to declaring support for form mode only"
		"an empty elicitation is form":     {version20251125, `{"elicitation":{}}`, `{"elicitation":{}}`, []string{"form", "plain"}},
		"and so it is on 2025-06-18":       {version20250618, `{"elicitation":{}}`, `{"elicitation":{}}`, []string{"form", "plain"}},
		"url alone is not form":            {version20251125, `{"elicitation":{"url":{}}}`, `{"elicitation":{"url":{}}}`, []string{"url"}},
		"2025-06-18 has no modes":          {version20250618, `{"elicitation":{"url":{}}}`, `{"elicitation":{}}`, []string{"form", "plain"}},
		"nothing":                          {version20251125, `{}`, `{}`, nil},
		"unknown members stay":             {version20250618, `{"sampling":{"x":1}}`, `{"sampling":{"x":1}}`, []string{"sample"}},
		"names are told apart by case":     {version20250326, `{"Elicitation":{},"TASKS":{},"sampling":{"Tools":{}}}`, `{"sampling":{}}`, []string{"sample"}},
		"what is no object is no such one": {version20251125, `{"elicitation":true,"roots":null,"sampling":[]}`, `{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := capabilitiesIn(tt.version, json.RawMessage(tt.declared))
			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			serves := map[string]bool{}
			for _, kind := range tt.serves {
				serves[kind] = true
			}
			s := &session{Version: tt.version, Capabilities: got}
			for kind, in := range requests {
				if s.serves(in) != serves[kind] {
					t.Errorf("%s: serves is %t", kind, !serves[kind])
				}
			}
		})
	}
}
