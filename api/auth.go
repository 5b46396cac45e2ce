package api

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/longhaul-mcp/longhaul/task"
)

// Verifier decides who presents a bearer token.
type Verifier interface {
	// Verify returns the owner the token stands for, or false.
	Verify(token string) (task.Owner, bool)
}

// Tokens is a fixed set of bearer tokens. Only their hashes are kept.
type Tokens struct {
	entries []tokenEntry
}

type tokenEntry struct {
	hash  [sha256.Size]byte
	owner task.Owner
}

// LoadTokens reads a file of "name: token" lines. Empty lines and lines that
// begin with # are skipped. A name may have several tokens, a token one name.
// Errors name the line, never the token.
func LoadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	defer f.Close()

	var t Tokens
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, token, ok := strings.Cut(line, ":")
		name, token = strings.TrimSpace(name), strings.TrimSpace(token)
		switch {
		case !ok || name == "" || token == "":
			return nil, fmt.Errorf("tokens file %s:%d: want \"name: token\"", path, n)
		case strings.ContainsAny(token, " \t"):
			return nil, fmt.Errorf("tokens file %s:%d: the token of %s contains white space", path, n, name)
		}
		if owner, taken := t.Verify(token); taken {
			return nil, fmt.Errorf("tokens file %s:%d: %s has the same token as %s", path, n, name, owner)
		}
		t.entries = append(t.entries, tokenEntry{sha256.Sum256([]byte(token)), task.Owner(name)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	if len(t.entries) == 0 {
		return nil, fmt.Errorf("tokens file %s: no tokens", path)
	}
	return &t, nil
}

// Verify compares token with all that are known, in the same time whatever it is.
func (t *Tokens) Verify(token string) (owner task.Owner, ok bool) {
	hash := sha256.Sum256([]byte(token))
	for _, e := range t.entries {
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			owner, ok = e.owner, true
		}
	}
	return owner, ok
}

// authenticate returns the request's owner. Without a verifier everybody is
// the one user of this server.
func (a *API) authenticate(w http.ResponseWriter, r *http.Request) (task.Owner, error) {
	if a.auth == nil {
		return "", nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="longhaul"`)
		return "", refuse(http.StatusUnauthorized, codeInvalidRequest, "Authentication required: send a bearer token")
	}
	owner, ok := a.auth.Verify(strings.TrimSpace(token))
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="longhaul", error="invalid_token"`)
		return "", refuse(http.StatusUnauthorized, codeInvalidRequest, "Unknown bearer token")
	}
	return owner, nil
}
