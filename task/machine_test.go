package task_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/task"
)

var (
	epoch   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	allCaps = json.RawMessage(`{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`)
)

func elicit(key string) task.InputRequest {
	return task.InputRequest{Key: key, Method: task.MethodElicit, Params: json.RawMessage(`{"message":"Which ` + key + `?"}`)}
}

func asks(keys ...string) task.RoundResult {
	r := task.RoundResult{NeedsInput: true, RequestState: "state"}
	for _, k := range keys {
		r.Inputs = append(r.Inputs, elicit(k))
	}
	return r
}

func TestMachine(t *testing.T) {
	setup := func(t *testing.T) *task.Machine {
		m := task.NewMachine(epoch)
		m.BeginRound()
		return m
	}

	t.Run("begins working and wants a round", func(t *testing.T) {
		m := task.NewMachine(epoch)
		if m.State.Status != task.StatusWorking || m.Next() != task.StepRun {
			t.Errorf("new machine: %s, step %d", m.State.Status, m.Next())
		}
	})

	t.Run("a result ends it", func(t *testing.T) {
		m := setup(t)
		m.RoundEnded(epoch, task.RoundResult{Result: json.RawMessage(`{"isError":true}`), IsError: true}, nil)
		if m.State.Status != task.StatusCompleted || m.Next() != task.StepEnd {
			t.Errorf("status %s, step %d", m.State.Status, m.Next())
		}
		if o := m.State.Outcome; o == nil || !o.IsError || o.Result != nil {
			t.Errorf("the state must carry the outcome's head only, has %+v", o)
		}
	})

	t.Run("the answers start the next round under the tool's own keys", func(t *testing.T) {
		m := setup(t)
		m.RoundEnded(epoch, asks("a", "b"), allCaps)
		if m.State.Status != task.StatusInputRequired || m.Next() != task.StepAwaitInput {
			t.Fatalf("status %s, step %d", m.State.Status, m.Next())
		}
		m.Answer(epoch, "b", json.RawMessage(`{"n":2}`))
		if m.State.Status != task.StatusInputRequired || len(m.State.Inputs) != 1 {
			t.Fatalf("after one of two answers: %+v", m.State)
		}
		m.Answer(epoch, "a", json.RawMessage(`{"n":1}`))
		if m.Next() != task.StepRun {
			t.Fatalf("step %d after the last answer", m.Next())
		}
		round, answers, state := m.BeginRound()
		want := map[string]json.RawMessage{"a": json.RawMessage(`{"n":1}`), "b": json.RawMessage(`{"n":2}`)}
		if round != 2 || state != "state" || !reflect.DeepEqual(answers, want) {
			t.Errorf("round %d, state %q, answers %s", round, state, answers)
		}
	})

	t.Run("a tool that asks under the same key again gets a new one", func(t *testing.T) {
		m := setup(t)
		m.RoundEnded(epoch, asks("a"), allCaps)
		m.Answer(epoch, "a", json.RawMessage(`{}`))
		m.BeginRound()
		m.RoundEnded(epoch, asks("a"), allCaps)
		if k := m.State.Inputs[0].Key; k == "a" {
			t.Errorf("key %q was issued twice", k)
		}
		if m.Answer(epoch, "a", json.RawMessage(`{}`)) {
			t.Error("a late answer to the first request was used for the second")
		}
	})

	// 2026-07-28, mrtr, "Server Requirements": servers MUST NOT send input
	// requests the client has not declared support for.
	t.Run("a request the client did not declare never becomes outstanding", func(t *testing.T) {
		for _, tc := range []struct{ declared, method, params, want string }{
			{``, task.MethodElicit, `{}`, `{"elicitation":{"form":{}}}`},
			{`{"elicitation":{"url":{}}}`, task.MethodElicit, `{}`, `{"elicitation":{"form":{}}}`},
			{`{"elicitation":{}}`, task.MethodElicit, `{"mode":"url"}`, `{"elicitation":{"url":{}}}`},
			{`{"elicitation":{}}`, task.MethodSample, `{}`, `{"sampling":{}}`},
			{`{"sampling":{}}`, task.MethodSample, `{"tools":[{}]}`, `{"sampling":{"tools":{}}}`},
			{`{"sampling":{}}`, task.MethodSample, `{"toolChoice":{}}`, `{"sampling":{"tools":{}}}`},
			{`{}`, task.MethodRoots, `{}`, `{"roots":{}}`},
			// Names are case-sensitive, and what is no object declares nothing.
			{`{"Elicitation":{}}`, task.MethodElicit, `{}`, `{"elicitation":{"form":{}}}`},
			{`{"elicitation":true}`, task.MethodElicit, `{}`, `{"elicitation":{"form":{}}}`},
		} {
			m := setup(t)
			m.RoundEnded(epoch, task.RoundResult{Inputs: []task.InputRequest{{Key: "k", Method: tc.method, Params: json.RawMessage(tc.params)}}}, json.RawMessage(tc.declared))
			o := m.Outcome
			if o == nil || o.Kind != task.OutcomeError || o.Error.Code != task.CodeMissingCapability ||
				string(o.Error.Data) != `{"requiredCapabilities":`+tc.want+`}` {
				t.Errorf("declared %s, asked %s %s: outcome %+v", tc.declared, tc.method, tc.params, o)
			}
		}
	})

	t.Run("requests too large for the memo end it with an error that says so", func(t *testing.T) {
		m := setup(t)
		big := task.InputRequest{Key: "k", Method: task.MethodRoots, Params: json.RawMessage(`"` + string(make([]byte, task.MaxInputsBytes)) + `"`)}
		m.RoundEnded(epoch, task.RoundResult{Inputs: []task.InputRequest{big}}, allCaps)
		if m.State.Status != task.StatusFailed || len(m.State.Inputs) != 0 {
			t.Errorf("%s with %d inputs", m.State.Status, len(m.State.Inputs))
		}
	})

	t.Run("a tool that only wants to be called again is, ever later", func(t *testing.T) {
		m := setup(t)
		var delays []time.Duration
		for range 9 {
			m.RoundEnded(epoch, task.RoundResult{NeedsInput: true, RequestState: "again"}, allCaps)
			delays = append(delays, m.Delay())
			if _, _, state := m.BeginRound(); state != "again" {
				t.Fatalf("state %q", state)
			}
		}
		if delays[0] != time.Second || delays[1] != 2*time.Second || delays[8] != time.Minute {
			t.Errorf("delays %v", delays)
		}
	})

	t.Run("an error's text is kept whole, but not in the state", func(t *testing.T) {
		m := setup(t)
		long := strings.Repeat("é", 1<<20)
		m.RoundEnded(epoch, task.RoundResult{Error: &task.RPCError{Code: -32000, Message: long}}, nil)
		if m.Outcome.Error.Message != long {
			t.Error("the error's message was cut")
		}
		if state, err := json.Marshal(m.State); err != nil || len(state) > 16<<10 {
			t.Errorf("the state takes %d bytes (%v)", len(state), err)
		}
	})

	t.Run("time does not run backwards", func(t *testing.T) {
		m := setup(t)
		m.RoundEnded(epoch.Add(time.Hour), asks("a"), allCaps)
		m.Answer(epoch, "a", json.RawMessage(`{}`))
		if !m.State.UpdatedAt.Equal(epoch.Add(time.Hour)) {
			t.Errorf("updated at %s", m.State.UpdatedAt)
		}
	})
}

// TestMachineProperties drives the machine with random events and checks what
// must hold whatever happens (2025-11-25, tasks, "Task Status Lifecycle" and
// "Task Cancellation"; ext-tasks, "Task Update Requests").
func TestMachineProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := task.NewMachine(epoch)
		now := epoch
		issued := map[string]bool{}
		answered := map[string]string{}
		var ended *task.Outcome
		before := m.State

		check := func(*rapid.T) {
			after := m.State
			if after.Status != before.Status && !before.Status.CanBecome(after.Status) {
				t.Fatalf("%s became %s", before.Status, after.Status)
			}
			if !reflect.DeepEqual(after, before) && after.Rev <= before.Rev {
				t.Fatalf("the state changed without a new revision: %+v, %+v", before, after)
			}
			if (after.Status == task.StatusInputRequired) != (len(after.Inputs) > 0) {
				t.Fatalf("%s with %d inputs", after.Status, len(after.Inputs))
			}
			if (m.Outcome != nil) != after.Status.Terminal() || (after.Outcome != nil) != after.Status.Terminal() {
				t.Fatalf("%s with outcome %+v", after.Status, m.Outcome)
			}
			if ended != nil && !reflect.DeepEqual(m.Outcome, ended) {
				t.Fatalf("the outcome changed from %+v to %+v", ended, m.Outcome)
			}
			for _, in := range after.Inputs {
				if _, ok := answered[in.Key]; ok {
					t.Fatalf("key %q was answered and is outstanding again", in.Key)
				}
			}
			ended, before = m.Outcome, after

			// Continue-as-new must change nothing.
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var copied task.Machine
			if err := json.Unmarshal(data, &copied); err != nil {
				t.Fatal(err)
			}
			m = &copied
		}

		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"begin": func(t *rapid.T) {
				if m.Next() != task.StepRun {
					t.Skip("no round wanted")
				}
				if _, _, _ = m.BeginRound(); m.Next() != task.StepAwaitRound {
					t.Fatalf("step %d after BeginRound", m.Next())
				}
			},
			"round ends": func(t *rapid.T) {
				if !m.Running {
					t.Skip("no round running")
				}
				r := rapid.SampledFrom([]task.RoundResult{
					{Result: json.RawMessage(`{}`)},
					{Error: &task.RPCError{Code: -32000, Message: "no"}},
					{Unknown: "lost"},
					{NeedsInput: true},
					asks("a"), asks("b", "a"), asks("a#2", "a"), asks("a", "b", "c"),
				}).Draw(t, "result")
				wasOut := m.Outcome == nil
				m.RoundEnded(now, r, allCaps)
				if wasOut {
					for _, in := range m.State.Inputs {
						if issued[in.Key] {
							t.Fatalf("key %q issued twice", in.Key)
						}
						issued[in.Key] = true
					}
				}
			},
			"answer": func(t *rapid.T) {
				key := rapid.SampledFrom([]string{"a", "b", "c", "a#2", "a#3", "nobody"}).Draw(t, "key")
				value := fmt.Sprintf(`{"v":%d}`, rapid.Int().Draw(t, "value"))
				if m.Answer(now, key, json.RawMessage(value)) {
					if _, twice := answered[key]; twice || !issued[key] {
						t.Fatalf("answer to %q used (issued %v, answered before %v)", key, issued[key], twice)
					}
					answered[key] = value
				}
			},
			"cancel": func(t *rapid.T) {
				wasEnded := m.Outcome != nil
				m.Cancel(now, rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason"))
				if !wasEnded && m.State.Status != task.StatusCancelled {
					t.Fatalf("status %s after a cancel", m.State.Status)
				}
			},
			"expire": func(*rapid.T) { m.Expire(now, time.Hour) },
			"lose": func(t *rapid.T) {
				if !m.Running {
					t.Skip("no round running")
				}
				m.Lose(now, "worker lost")
			},
			"clock": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "ms")) * time.Millisecond)
			},
		})
	})
}
