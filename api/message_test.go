package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

func TestObject(t *testing.T) {
	for raw, want := range map[string]error{
		`{}`: nil, `{"a":1,"b":{"a":1}}`: nil, `{"a":1,"A":2}`: nil,
		`[]`: errNotObject, `null`: errNotObject, `"{}"`: errNotObject, ``: errNotJSON, `{"a"`: errNotJSON,
	} {
		if _, err := readObject(json.RawMessage(raw), false); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", raw, err, want)
		}
	}
	for _, raw := range []string{`{"a":1,"a":1}`, `{"a":1,"\u0061":1}`} {
		members, err := readObject(json.RawMessage(raw), false)
		if _, ok := errors.AsType[*duplicateKeyError](err); !ok || string(members.get("a")) != "1" {
			t.Errorf("%s: got %v, %v", raw, members, err)
		}
	}
	for _, raw := range []string{`{"taskId":1,"TASKID":1}`, `{"taskId":1,"ta\u017fkId":1}`, `{"taskId":1,"tas\u212aId":1}`} {
		if _, err := readObject(json.RawMessage(raw), true); err == nil {
			t.Errorf("%s: keys that differ in case are two", raw)
		}
	}
}

// An object is read as encoding/json reads it, but for what it does with keys
// that are alike.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b" : [ {"c":"}]\\\""} , 2 ] } `, `{"a":{"b":{}},"a":null}`, `{"taskId":1,"TASKID":true,"ta\u017fkid":-1.5e3}`,
		`{"\ud800":"x","":"\u0000"}`, "{\"\xff\":1,\"\xfe\":2}", `{"a":1}x`, `{"a":1,}`, `[1]`, `"`, ``, `{"a":"\\"}`, `{"ß":1,"ẞ":2,"SS":3}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	// More members than are compared one by one, and then some that were there.
	var many strings.Builder
	for i := range 2 * fewMembers {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	for _, last := range []string{`"k":1`, `"k1":1`, `"K1":1`, `"\u212a20":1,"k20":2`} {
		seed := []byte("{" + many.String() + last + "}")
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, fold bool) {
		got, err := readObject(raw, fold)
		if !json.Valid(raw) {
			if !errors.Is(err, errNotJSON) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		if begin, err2 := dec.Token(); err2 != nil || begin != json.Delim('{') {
			if !errors.Is(err, errNotObject) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		var keys []string
		want, twice := map[string]string{}, false
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			var value json.RawMessage
			if err := dec.Decode(&value); err != nil {
				t.Fatal(err)
			}
			name := key.(string)
			alike := func(other string) bool { return other == name || fold && strings.EqualFold(other, name) }
			if slices.ContainsFunc(keys, alike) {
				twice = true
				continue
			}
			keys = append(keys, name)
			want[name] = string(value)
		}
		if _, duplicate := errors.AsType[*duplicateKeyError](err); duplicate != twice || err != nil && !duplicate {
			t.Fatalf("%q: %v, and a key is there twice: %v", raw, err, twice)
		}
		if len(got) != len(want) {
			t.Fatalf("%q has %v, want %v", raw, got, want)
		}
		for key, value := range want {
			if string(got.get(key)) != value {
				t.Fatalf("%q has %s under %q, want %s", raw, got.get(key), key, value)
			}
		}
	})
}

// A session that was unsealed before is checked as if it had not been.
func TestSessionsAreCheckedAnew(t *testing.T) {
	s, err := newSessions(make([]byte, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range maxOpened + 10 {
		id, err := s.open(version20251125, json.RawMessage(`{}`), "ann")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.lookup(id, "ann"); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if len(s.opened) > maxOpened {
		t.Errorf("%d sessions are kept", len(s.opened))
	}
	id := ids[len(ids)-1]
	if _, err := s.lookup(id, "bob"); !errors.Is(err, errSessionGone) {
		t.Errorf("of another owner: %v", err)
	}
	sess, err := s.lookup(id, "ann")
	if err != nil {
		t.Fatal(err)
	}
	s.revoke(sess)
	if _, err := s.lookup(id, "ann"); !errors.Is(err, errSessionGone) {
		t.Errorf("revoked: %v", err)
	}
	sess, err = s.lookup(ids[0], "ann")
	if err != nil {
		t.Fatal(err)
	}
	aged := *sess
	aged.IssuedAt = aged.IssuedAt.Add(-sessionAge - time.Minute)
	s.opened[ids[0]] = &aged
	if _, err := s.lookup(ids[0], "ann"); !errors.Is(err, errSessionGone) {
		t.Errorf("too old: %v", err)
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
