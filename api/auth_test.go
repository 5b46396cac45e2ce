package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/task"
)

func TestLoadTokens(t *testing.T) {
	tokens := loadTokens(t, "# people\n\nann: one\n ann :two\nbob:with:colon\n")
	for token, owner := range map[string]task.Owner{"one": "ann", "two": "ann", "with:colon": "bob"} {
		got, ok := tokens.Verify(token)
		if !ok || got != owner {
			t.Errorf("%s is %q, %t", token, got, ok)
		}
	}
	for _, token := range []string{"", "On", "ann", "one "} {
		if owner, ok := tokens.Verify(token); ok {
			t.Errorf("%q is %s", token, owner)
		}
	}
}

func TestLoadTokensNamesTheLineAndNoToken(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"no colon":        {"ann: good\nsecret\n", ":2: want"},
		"no name":         {": secret", ":1: want"},
		"no token":        {"# x\nann:\n", ":2: want"},
		"white space":     {"ann: secret secret", ":1: the token of ann contains white space"},
		"one token twice": {"ann: secret\n\nbob: secret", ":3: bob has the same token as ann"},
		"nothing":         {"\n# nobody\n", "no tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tokens")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := api.LoadTokens(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%v gives the token away", err)
			}
		})
	}
}
