package longhaul

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func defaultKeyFile(dataDir string) string { return filepath.Join(dataDir, "longhaul.key") }

// loadKey reads the secret in file, in base64, and makes one if the file is
// not there. Of several processes that make it at once, one wins and all use
// its key.
func loadKey(file string, size int) ([]byte, error) {
	key, err := readKey(file, size)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	key = make([]byte, size)
	rand.Read(key)
	// Written whole under another name first, so that nobody reads half a key.
	tmp, err := os.CreateTemp(filepath.Dir(file), ".longhaul.key-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if err := os.Link(tmp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return readKey(file, size)
}

func readKey(file string, size int) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(key) != size {
		return nil, fmt.Errorf("key file %s: want %d bytes in base64; move it away to have a new one made (sessions and idempotency keys given out so far will no longer be known)", file, size)
	}
	return key, nil
}

// engineKey is the part of the secret that the engine may know.
func engineKey(secret []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "longhaul engine", 32)
	if err != nil {
		panic(err) // Only for an impossible length.
	}
	return key
}
