package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestDescribeCall(t *testing.T) {
	tests := map[string]struct{ args, want string }{
		"no arguments":        {``, `deploy()`},
		"empty arguments":     {`{}`, `deploy()`},
		"null arguments":      {`null`, `deploy()`},
		"strings are bare":    {`{"env":"prod"}`, `deploy(env=prod)`},
		"own order":           {`{"b":1.50,"a":[1,{"x":null}],"c":true}`, `deploy(b=1.50, a=[1,{"x":null}], c=true)`},
		"one line":            {`{"text":"a\nb\u2028\u0007c\u202e"}`, `deploy(text=a b  c )`},
		"html is left alone":  {`{"q":"<b>&"}`, `deploy(q=<b>&)`},
		"secrets are masked":  {`{"apiKey":"s3cret","PASSWORD":1,"Authorization":["s3cret"],"x":2}`, `deploy(apiKey=***, PASSWORD=***, Authorization=***, x=2)`},
		"also inside":         {`{"db":{"user":"u","passwd":"s3cret"},"l":[{"access_token":{"a":"s3cret"}}]}`, `deploy(db={"user":"u","passwd":"***"}, l=[{"access_token":"***"}])`},
		"long values are cut": {`{"text":"` + strings.Repeat("é", 41) + `"}`, `deploy(text=` + strings.Repeat("é", 40) + `…)`},
		"long calls are cut":  {`{"a":"` + strings.Repeat("x", 20_000) + `","b":1}`, `deploy(a=` + strings.Repeat("x", 40) + `…, …)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			summary, details := describeCall(task.Card{Tool: "deploy", TTLMillis: 1000}, json.RawMessage(tt.args))
			if summary != tt.want {
				t.Errorf("got  %q\nwant %q", summary, tt.want)
			}
			if strings.Contains(summary+details, "s3cret") {
				t.Errorf("shows a secret: %s", details)
			}
		})
	}
}

func TestDescribeCallStaysWithinTemporalsBounds(t *testing.T) {
	many := map[string]string{}
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		many[string(c)] = strings.Repeat("<\n", 500)
	}
	deep := strings.Repeat(`{"a":[`, 3000) + strings.Repeat(`]}`, 3000)
	args, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{string(args), deep, `{"a":"` + strings.Repeat(`\u0001`, 100_000) + `"}`} {
		summary, details := describeCall(task.Card{Tool: strings.Repeat("t", 128)}, json.RawMessage(args))
		for name, text := range map[string]string{"summary": summary, "details": details} {
			encoded, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			// Temporal's limits.metadata are 400 and 20,000 bytes.
			if bound := map[string]int{"summary": 400, "details": 20_000}[name]; len(encoded) > bound {
				t.Errorf("%s takes %d bytes", name, len(encoded))
			}
		}
	}
}

func TestDetailsAreMarkdown(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	_, details := describeCall(task.Card{Tool: "deploy", OwnerHash: "abc", CreatedAt: created, TTLMillis: 60_000}, json.RawMessage("{\"env\":\"```\\n\"}"))
	want := "**deploy**, for the owner `abc`, until 2026-01-02T03:05:05Z\n\n```json\n{\n  \"env\": \"```\\n\"\n}\n```"
	if details != want {
		t.Errorf("got %q", details)
	}
}

func TestRecent(t *testing.T) {
	all := func(int, string) bool { return true }
	t.Run("forgets the oldest when it is full", func(t *testing.T) {
		r := newRecent[int, string](time.Hour, 3)
		for n := range 5 {
			r.put(n, "")
		}
		if r.has(1) || !r.has(2) || !r.has(4) {
			t.Errorf("holds %v", r.newest(10, all))
		}
		if got := r.newest(2, all); len(got) != 2 || got[0] != 4 || got[1] != 3 {
			t.Errorf("the newest are %v", got)
		}
	})
	t.Run("keeps an entry that was put again, as it was put last", func(t *testing.T) {
		r := newRecent[int, string](time.Hour, 2)
		r.put(1, "a")
		r.put(2, "b")
		r.put(1, "c")
		if v, ok := r.get(1); !ok || v != "c" || !r.has(2) {
			t.Errorf("holds %v, 1 as %q", r.newest(10, all), v)
		}
	})
	t.Run("forgets after a while and when told to", func(t *testing.T) {
		r := newRecent[int, string](0, 10)
		r.put(1, "")
		if r.has(1) {
			t.Error("remembers for too long")
		}
		r = newRecent[int, string](time.Hour, 10)
		r.put(1, "")
		r.remove(1)
		if r.has(1) || len(r.newest(10, all)) != 0 {
			t.Error("does not forget")
		}
	})
}

func TestMarkdownLine(t *testing.T) {
	if got, want := markdownLine("rename_files(pattern=*_[a]`<b>)"), "rename\\_files(pattern=\\*\\_\\[a]\\`\\<b>)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := markdownLine(strings.Repeat("_", maxSummary))
	if encoded, err := json.Marshal(got); err != nil || len(encoded) > 400 || strings.HasSuffix(strings.TrimSuffix(got, "…"), `\`) {
		t.Errorf("%d bytes: %s", len(encoded), got)
	}
}
