package task_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

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

	t.Run("so do more requests than can be taken in together", func(t *testing.T) {
		for n, want := range map[int]task.Status{task.MaxInputs: task.StatusInputRequired, task.MaxInputs + 1: task.StatusFailed} {
			m := setup(t)
			keys := make([]string, n)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
			}
			m.RoundEnded(epoch, asks(keys...), allCaps)
			if m.State.Status != want {
				t.Errorf("%s with %d requests", m.State.Status, n)
			}
			if shown := m.State.Message; want == task.StatusInputRequired && !strings.HasSuffix(shown, "Which 9?; and 990 more") {
				t.Errorf("it says %q", shown)
			}
		}
	})

	t.Run("a request that was taken back can be made again, and refused as often", func(t *testing.T) {
		m := setup(t)
		for range 2 {
			if err := m.Ask(epoch, elicit("a"), allCaps); err != nil || !m.Asking("a") {
				t.Fatalf("not asked: %v", err)
			}
			for range 2 {
				m.Refuse(epoch, m.State.Inputs[0].Key, "of its colour")
			}
			m.Withdraw(epoch, "a")
		}
	})

	// Temporal would refuse a memo above 2 MiB, and the workflow task with it,
	// again and again.
	t.Run("refused answers do not make the state outgrow its memo", func(t *testing.T) {
		m := setup(t)
		var many task.RoundResult
		for i := range 500 {
			in := elicit(strconv.Itoa(i))
			in.Params = json.RawMessage(`{"message":"<<<<<<"}`)
			many.Inputs = append(many.Inputs, in)
		}
		m.RoundEnded(epoch, many, allCaps)
		for _, in := range m.State.Inputs {
			if !m.Refuse(epoch, in.Key, strings.Repeat("<", 1000)) {
				t.Fatalf("the answer to %q was not used", in.Key)
			}
		}
		if state, err := json.Marshal(m.State); err != nil || len(state) > 2<<20-16<<10 {
			t.Errorf("the state takes %d bytes (%v)", len(state), err)
		}
		if again, given := len(m.State.Inputs), len(m.Answers); again == 0 || again+given != len(many.Inputs) {
			t.Errorf("%d of %d requests are made again, %d answered", again, len(many.Inputs), given)
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
