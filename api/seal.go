package api

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// What the server hands out and takes back later is sealed: session ids,
// requestState and list cursors are JSON under AES-256-GCM, opaque to whoever
// carries them and useless once touched. Each purpose has its own key, derived
// from the one secret, so that nothing sealed for one purpose opens for
// another; all processes that share the secret open each other's.

// KeySize is the size of the secret [Options.Key], in bytes.
const KeySize = 32

var errUnsealed = errors.New("not sealed by this server")

func deriveKey(secret []byte, purpose string) ([]byte, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("api: key has %d bytes, need %d", len(secret), KeySize)
	}
	return hkdf.Key(sha256.New, secret, nil, "longhaul "+purpose+" v1", KeySize)
}

// sealer seals values for one purpose.
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte, purpose string) (sealer, error) {
	key, err := deriveKey(secret, purpose)
	if err != nil {
		return sealer{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

// seal returns v as text of visible ASCII.
func (s sealer) seal(v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, nil)), nil
}

// open reads into v what seal sealed, or returns errUnsealed.
func (s sealer) open(text string, v any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which base64 skips
		return errUnsealed
	}
	plain, err := s.aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return errUnsealed
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return errUnsealed
	}
	return nil
}

// namer turns parts into a name that only holders of the secret can compute.
type namer struct{ key []byte }

func newNamer(secret []byte, purpose string) (namer, error) {
	key, err := deriveKey(secret, purpose)
	return namer{key}, err
}

func (n namer) name(parts ...string) string {
	mac := hmac.New(sha256.New, n.key)
	for _, p := range parts {
		// The length keeps ("a", "bc") and ("ab", "c") apart.
		fmt.Fprintf(mac, "%d:%s", len(p), p)
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:20])
}
