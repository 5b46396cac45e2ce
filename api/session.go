package api

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Sessions of the 2025 protocol (2025-11-25, basic/transports, "Session
// Management") live in their id: it is sealed over everything the server has
// to remember, so it survives restarts and may be presented to any process
// that shares the secret. It is no authentication: every request is
// authenticated anew and has to be the session's owner.
//
// Only revocation needs memory: DELETE is remembered by this process, until
// the id would have expired anyway.

const (
	// sessionAge is how long a session id is accepted.
	sessionAge = 30 * 24 * time.Hour
	// maxCapabilities bounds the client capabilities a session id carries: it
	// travels in a header of every request.
	maxCapabilities = 2 << 10
	// maxOpened bounds the sessions that are kept as they were unsealed.
	maxOpened = 1024
)

type session struct {
	// ID is the random part, which names the session.
	ID      string `json:"r"`
	Version string `json:"v"`
	// Capabilities are those of the client that its version has.
	Capabilities json.RawMessage `json:"c"`
	OwnerHash    string          `json:"o"`
	IssuedAt     time.Time       `json:"t"`
}

type sessions struct {
	sealer sealer

	mu      sync.Mutex
	revoked map[string]time.Time // session ID → when it would have expired
	opened  map[string]*session  // by header; to unseal one takes a while
}

func newSessions(secret []byte) (*sessions, error) {
	s, err := newSealer(secret, "session")
	return &sessions{sealer: s, revoked: make(map[string]time.Time), opened: make(map[string]*session)}, err
}

// open starts a session and returns its id for the header.
func (s *sessions) open(version string, capabilities json.RawMessage, owner task.Owner) (string, error) {
	capabilities, err := boundCapabilities(capabilitiesIn(version, capabilities))
	if err != nil {
		return "", err
	}
	return s.sealer.seal(&session{
		ID:           rand.Text(),
		Version:      version,
		Capabilities: capabilities,
		OwnerHash:    owner.Hash(),
		IssuedAt:     time.Now().UTC().Truncate(time.Second),
	})
}

// boundCapabilities leaves out what no server feature depends on when the
// whole would not fit into a header.
func boundCapabilities(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) <= maxCapabilities {
		return raw, nil
	}
	raw = edit(raw, func(members map[string]json.RawMessage) {
		for k := range members {
			if _, ok := capabilityMembers[k]; !ok {
				delete(members, k)
			}
		}
	})
	if len(raw) > maxCapabilities {
		return nil, invalidParams("Invalid params: capabilities exceed %d bytes", maxCapabilities)
	}
	return raw, nil
}

var errSessionGone = refuse(http.StatusNotFound, codeInvalidRequest, "Session not found: send initialize without a session id")

// lookup returns the session that header names. A forged, expired or revoked
// id and one of another owner are the same to the client: 404, start anew.
func (s *sessions) lookup(header string, owner task.Owner) (*session, error) {
	if header == "" {
		return nil, refuse(http.StatusBadRequest, codeInvalidRequest, "Missing Mcp-Session-Id header: send initialize first")
	}
	sess, err := s.unseal(header)
	if err != nil {
		return nil, errSessionGone
	}
	if sess.OwnerHash != owner.Hash() || time.Since(sess.IssuedAt) > sessionAge {
		return nil, errSessionGone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.revoked[sess.ID]; ok {
		return nil, errSessionGone
	}
	return sess, nil
}

// unseal is the session that header was made of, which nobody may change.
func (s *sessions) unseal(header string) (*session, error) {
	s.mu.Lock()
	sess := s.opened[header]
	s.mu.Unlock()
	if sess != nil {
		return sess, nil
	}
	sess = new(session)
	if err := s.sealer.open(header, sess); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.opened {
		if len(s.opened) < maxOpened {
			break
		}
		delete(s.opened, old)
	}
	s.opened[strings.Clone(header)] = sess
	return sess, nil
}

// revoke ends the session for this process.
func (s *sessions) revoke(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, expiry := range s.revoked {
		if now.After(expiry) {
			delete(s.revoked, id)
		}
	}
	s.revoked[sess.ID] = sess.IssuedAt.Add(sessionAge)
}

// serves reports whether the session's client can be sent a request of this
// kind: a kind it did not declare is left for a session that did.
func (s *session) serves(in task.InputRequest) bool {
	return task.Undeclared(s.Capabilities, []task.InputRequest{in}) == nil
}
