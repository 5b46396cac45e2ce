package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// CanonicalJSON is one JSON value in the form in which values that say the
// same are the same bytes: neither the order of keys nor white space tells
// them apart. Numbers stay as they are written. The error is that of a text
// which is not one JSON value.
func CanonicalJSON(raw json.RawMessage) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the value")
	}
	return json.Marshal(v) // which sorts the keys
}
