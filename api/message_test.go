package api

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestObject(t *testing.T) {
	for raw, want := range map[string]error{
		`{}`: nil, `{"a":1,"b":{"a":1}}`: nil, `{"a":1,"A":2}`: nil,
		`[]`: errNotObject, `null`: errNotObject, `"{}"`: errNotObject, ``: errNotJSON, `{"a"`: errNotJSON,
	} {
		if _, err := object(json.RawMessage(raw), false); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", raw, err, want)
		}
	}
	for _, raw := range []string{`{"a":1,"a":1}`, `{"a":1,"\u0061":1}`} {
		members, err := object(json.RawMessage(raw), false)
		if _, ok := errors.AsType[*duplicateKeyError](err); !ok || string(members["a"]) != "1" {
			t.Errorf("%s: got %v, %v", raw, members, err)
		}
	}
	for _, raw := range []string{`{"taskId":1,"TASKID":1}`, `{"taskId":1,"ta\u017fkId":1}`, `{"taskId":1,"tas\u212aId":1}`} {
		if _, err := object(json.RawMessage(raw), true); err == nil {
			t.Errorf("%s: keys that differ in case are two", raw)
		}
	}
}

func TestTypedID(t *testing.T) {
	if typedID(json.RawMessage(`1`)) == typedID(json.RawMessage(`"1"`)) {
		t.Error(`1 and "1" are the same request`)
	}
	if typedID(json.RawMessage(`"a"`)) != typedID(json.RawMessage(`"\u0061"`)) {
		t.Error("the same string is two requests")
	}
}

func TestSealer(t *testing.T) {
	secret := make([]byte, KeySize)
	a, err := newSealer(secret, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSealer(secret, "b")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.seal("text")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := a.open(sealed, &got); err != nil || got != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := a.open(sealed[:3]+"\n"+sealed[3:], &got); !errors.Is(err, errUnsealed) {
		t.Errorf("touched, it opens: %v", err)
	}
	if err := b.open(sealed, &got); !errors.Is(err, errUnsealed) {
		t.Errorf("another purpose opens it: %v", err)
	}
	for i := range sealed {
		changed := []byte(sealed)
		changed[i] ^= 1
		if err := a.open(string(changed), &got); !errors.Is(err, errUnsealed) {
			t.Errorf("opens with byte %d changed: %v", i, err)
		}
	}
	if _, err := newSealer(secret[1:], "a"); err == nil {
		t.Error("a short secret is accepted")
	}
}

func TestStatusMessage(t *testing.T) {
	progress := &task.Progress{Progress: 1, Total: 2}
	for _, tc := range []struct {
		task task.Task
		want string
	}{
		{task.Task{Status: task.StatusWorking}, ""},
		{task.Task{Status: task.StatusWorking, Progress: progress}, "1 of 2"},
		{task.Task{Status: task.StatusWorking, Progress: &task.Progress{Message: "half"}}, "half"},
		{task.Task{Status: task.StatusInputRequired, StatusMessage: "Sure?"}, "Sure?"},
		{task.Task{Status: task.StatusInputRequired, StatusMessage: "Sure?", Progress: progress}, "Sure?\n\nSo far: 1 of 2"},
		{task.Task{Status: task.StatusFailed, Outcome: &task.Outcome{Message: "no"}, Progress: progress}, "no"},
	} {
		if got := statusMessage(&tc.task); got != tc.want {
			t.Errorf("%+v: got %q, want %q", tc.task, got, tc.want)
		}
	}
}
