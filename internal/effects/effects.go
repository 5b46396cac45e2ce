// Package effects is what tools under test leave behind: a log that outlives
// the processes that write it, and that tells what really happened.
package effects

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Kind is what happened.
type Kind string

// The kinds of effects.
const (
	// Began: a tool was called, or a step of a workflow tool was run.
	Began Kind = "began"
	// Happened: a side effect that is there again each time.
	Happened Kind = "happened"
	// Committed: a side effect that an idempotency key makes one; of attempts
	// under the same key only the first commits.
	Committed Kind = "committed"
	// Answered: a tool got an answer to what it asked.
	Answered Kind = "answered"
)

// Effect is a line of the log.
type Effect struct {
	Kind Kind   `json:"kind"`
	Tool string `json:"tool"`
	// Label is the caller's name for the call.
	Label string `json:"label"`
	// Key is the idempotency key that came with the call, the same for every
	// attempt at it.
	Key string `json:"key,omitempty"`
	// Question is the tool's name for what it asked, and Answer the answer, for
	// Answered.
	Question string `json:"question,omitempty"`
	Answer   string `json:"answer,omitempty"`
	// Process is the worker.
	Process string `json:"process"`
}

// Log is the log in a directory. Any number of processes may write it.
type Log struct{ dir string }

// In returns the log in dir, which has to be there.
func In(dir string) Log { return Log{dir} }

func (l Log) file() string { return filepath.Join(l.dir, "effects.jsonl") }

// Add appends an effect. It is there when Add returns, also if the process is
// killed then.
func (l Log) Add(e Effect) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.file(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// In one piece, for others append too.
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// Commit appends a Committed effect, unless there has been one under its key.
// It reports whether it has.
func (l Log) Commit(e Effect) (first bool, err error) {
	if e.Key == "" {
		return false, errors.New("an effect without a key cannot be committed once")
	}
	e.Kind = Committed
	line, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	key := sha256.Sum256([]byte(e.Key))
	file := filepath.Join(l.dir, "committed-"+hex.EncodeToString(key[:16])+".json")
	// Linked when it is whole: that it is there is the effect.
	tmp, err := os.CreateTemp(l.dir, ".committed-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(line)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return false, err
	}
	err = os.Link(tmp.Name(), file)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Read returns all effects: those of Add in their order, then those of Commit.
func (l Log) Read() ([]Effect, error) {
	data, err := os.ReadFile(l.file())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var effects []Effect
	for line := range bytes.Lines(data) {
		if effects, err = decode(effects, line); err != nil {
			return nil, err
		}
	}
	committed, err := filepath.Glob(filepath.Join(l.dir, "committed-*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range committed {
		if data, err = os.ReadFile(file); err != nil {
			return nil, err
		}
		if effects, err = decode(effects, data); err != nil {
			return nil, err
		}
	}
	return effects, nil
}

func decode(effects []Effect, line []byte) ([]Effect, error) {
	var e Effect
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, fmt.Errorf("the log of effects: %q: %w", line, err)
	}
	return append(effects, e), nil
}
