package task_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/internal/taskmodel"
	"github.com/longhaul-mcp/longhaul/task"
)

// The machine is driven with random events, beside a model of what a task has
// to do that is written without looking at it. Longer, and again:
//
//	go test -run TestMachineProperties -rapid.checks=100000 -rapid.steps=100 ./task
//	go test -run TestMachineProperties -rapid.seed=N ./task
//
// and by coverage, for which random events are too shallow a search:
//
//	go test -run '^$' -fuzz FuzzMachine -fuzztime 10m ./task
func TestMachineProperties(t *testing.T) { rapid.Check(t, machineProperties) }

func FuzzMachine(f *testing.F) { f.Fuzz(rapid.MakeFuzz(machineProperties)) }

// machineProperties checks what must hold whatever happens (2025-11-25, tasks,
// "Task Status Lifecycle" and "Task Cancellation"; ext-tasks, "Task Update
// Requests").
func machineProperties(t *rapid.T) {
	client := rapid.SampledFrom(taskmodel.Clients).Draw(t, "client")
	x := &machineWorld{
		machine:  task.NewMachine(epoch),
		model:    taskmodel.Model{Client: client},
		now:      epoch,
		declared: json.RawMessage(client.Declared),
	}
	t.Repeat(rapid.StateMachineActions(x))
}

// machineWorld has the events that can happen to a machine as its methods.
type machineWorld struct {
	machine  *task.Machine
	model    taskmodel.Model
	now      time.Time
	declared json.RawMessage
	events   int
	outcome  []byte // once there is one
}

// Check is called after every event.
func (x *machineWorld) Check(t *rapid.T) {
	if err := x.model.Check(x.machine.State); err != nil {
		t.Fatal(err)
	}
	want := task.StepRun
	switch {
	case x.model.Ended != "":
		want = task.StepEnd
	case x.model.Running:
		want = task.StepAwaitRound
	case !x.model.WantsRound():
		want = task.StepAwaitInput
	}
	if got := x.machine.Next(); got != want {
		t.Fatalf("the next step is %d, want %d", got, want)
	}
	if wait := x.machine.Delay(); wait < 0 || wait > time.Minute || (wait == 0) != (x.model.Idle == 0) {
		t.Fatalf("the next round is to wait for %s after %d that asked nothing", wait, x.model.Idle)
	}
	if (x.machine.Outcome != nil) != (x.model.Ended != "") {
		t.Fatalf("the outcome is %+v, want %q", x.machine.Outcome, x.model.Ended)
	}
	if x.machine.Outcome == nil {
		return
	}
	outcome := encode(t, x.machine.Outcome)
	if x.outcome == nil {
		x.outcome = outcome
	}
	if !bytes.Equal(outcome, x.outcome) {
		t.Fatalf("the outcome changed from %s to %s", x.outcome, outcome)
	}
}

func encode(t *rapid.T, v any) []byte {
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// unique numbers events, so that no two reasons or answers are the same.
func (x *machineWorld) unique() int {
	x.events++
	return x.events
}

func (x *machineWorld) BeginRound(t *rapid.T) {
	if x.machine.Next() != task.StepRun {
		t.Skip("no round is wanted")
	}
	if err := x.model.Begin(x.machine.BeginRound()); err != nil {
		t.Fatal(err)
	}
}

// toolKeys are the keys that tools ask under: among them some that look like
// those the machine makes of others.
var toolKeys = []string{"a", "b", "c", "a#2", "a#3", "a#2#2", "", taskmodel.LargeKey, taskmodel.LargeKey + " too"}

// askKeys are those that a running round asks under, few enough for it to ask
// under one again.
var askKeys = []string{"a", "a#2", taskmodel.LargeKey, taskmodel.LargeKey + " too"}

func (x *machineWorld) RoundEnded(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	result := rapid.SampledFrom([]task.RoundResult{
		{Result: json.RawMessage(`{}`)},
		{Result: json.RawMessage(`{"isError":true}`), IsError: true},
		{Error: &task.RPCError{Code: -32000, Message: "no"}},
		{Unknown: "lost"},
		{NeedsInput: true},
		{NeedsInput: true, RequestState: "again"},
	}).Draw(t, "result")
	var kinds []taskmodel.Kind
	if rapid.IntRange(0, 3).Draw(t, "asks") > 0 {
		result = task.RoundResult{RequestState: fmt.Sprint("state ", x.unique()), NeedsInput: rapid.Bool().Draw(t, "says so")}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(toolKeys), 1, 4, rapid.ID[string]).Draw(t, "keys") {
			kind := x.kind(t)
			kinds = append(kinds, kind)
			result.Inputs = append(result.Inputs, kind.Request(key))
		}
	}
	x.machine.RoundEnded(x.now, result, x.declared)
	x.model.EndRound(result, kinds)
}

// kind is one that the client can most often be asked.
func (x *machineWorld) kind(t *rapid.T) taskmodel.Kind {
	if serves := x.model.Client.Serves; len(serves) > 0 && rapid.IntRange(0, 9).Draw(t, "declared") > 0 {
		return rapid.SampledFrom(serves).Draw(t, "kind")
	}
	return rapid.SampledFrom(taskmodel.Kinds).Draw(t, "any kind")
}

func (x *machineWorld) Ask(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	kind := x.kind(t)
	request := kind.Request(rapid.SampledFrom(askKeys).Draw(t, "key"))
	refused := x.machine.Ask(x.now, request, x.declared)
	if may := x.model.Ask(request, kind); may != (refused == nil) {
		t.Fatalf("the tool is told %v", refused)
	}
}

func (x *machineWorld) Withdraw(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	key := rapid.SampledFrom(askKeys).Draw(t, "key")
	x.machine.Withdraw(x.now, key)
	x.model.Withdraw(key)
}

// key is one that is outstanding, that was, or that never was.
func (x *machineWorld) key(t *rapid.T) string {
	var outstanding []string
	for _, in := range x.machine.State.Inputs {
		outstanding = append(outstanding, in.Key)
	}
	if len(outstanding) > 0 && rapid.IntRange(0, 3).Draw(t, "outstanding") > 0 {
		return rapid.SampledFrom(outstanding).Draw(t, "key")
	}
	return rapid.SampledFrom(append(x.model.Keys(), "nobody")).Draw(t, "some key")
}

func (x *machineWorld) Answer(t *rapid.T) {
	key, response := x.key(t), fmt.Sprintf(`{"n":%d}`, x.unique())
	used := x.machine.Answer(x.now, key, json.RawMessage(response))
	if want := x.model.Answer(key, response, ""); used != want {
		t.Fatalf("the answer to %q was used: %v, want %v", key, used, want)
	}
}

// Refuse takes an answer as not acceptable, and often what is answered to the
// request that is made again.
func (x *machineWorld) Refuse(t *rapid.T) {
	key := x.key(t)
	i := slices.IndexFunc(x.machine.State.Inputs, func(in task.InputRequest) bool { return in.Key == key })
	for range rapid.IntRange(1, 3).Draw(t, "times") {
		reason := fmt.Sprintf("\"n\" <%d> is not acceptable.", x.unique())
		used := x.machine.Refuse(x.now, key, reason)
		if want := x.model.Answer(key, "", reason); used != want {
			t.Fatalf("the answer to %q was used: %v, want %v", key, used, want)
		}
		x.Check(t)
		if i < 0 || i >= len(x.machine.State.Inputs) {
			return
		}
		key = x.machine.State.Inputs[i].Key
	}
}

func (x *machineWorld) Answered(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	key := rapid.SampledFrom(askKeys).Draw(t, "key")
	answer, ok := x.machine.Answered(key)
	if x.model.Ended != "" {
		return // nobody is told any more
	}
	if err := x.model.CheckAnswered(key, answer, ok); err != nil {
		t.Fatal(err)
	}
}

func (x *machineWorld) Cancel(t *rapid.T) {
	x.rarely(t)
	x.machine.Cancel(x.now, rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason"))
	x.model.End(task.OutcomeCancelled)
}

func (x *machineWorld) Expire(t *rapid.T) {
	x.rarely(t)
	x.machine.Expire(x.now, time.Hour)
	x.model.End(task.OutcomeExpired)
}

// rarely skips most of the events that end a task.
func (x *machineWorld) rarely(t *rapid.T) {
	if x.machine.Outcome == nil && rapid.IntRange(0, 4).Draw(t, "really") > 0 {
		t.Skip("not yet")
	}
}

func (x *machineWorld) Lose(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	x.rarely(t)
	x.machine.Lose(x.now, "worker lost")
	x.model.Stop()
	x.model.End(task.OutcomeUnknown)
}

func (x *machineWorld) Suspend(t *rapid.T) {
	if !x.machine.Running {
		t.Skip("no round is running")
	}
	x.machine.Suspend(x.now)
	x.model.Stop()
}

func (x *machineWorld) Report(t *rapid.T) {
	p := task.Progress{Progress: float64(x.unique()), Message: "on it"}
	x.machine.Report(x.now, p)
	if got := x.machine.State.Progress; x.model.Ended == "" && (got == nil || *got != p) {
		t.Fatalf("the progress is %+v, want %+v", got, p)
	} else if x.model.Ended != "" && got != nil {
		t.Fatalf("an ended task reports %+v", got)
	}
}

// ContinueAsNew hands the machine on as JSON, which must change nothing.
func (x *machineWorld) ContinueAsNew(t *rapid.T) {
	before := encode(t, x.machine)
	var next task.Machine
	if err := json.Unmarshal(before, &next); err != nil {
		t.Fatal(err)
	}
	if after := encode(t, next); !bytes.Equal(before, after) {
		t.Fatalf("%s became %s", before, after)
	}
	x.machine = &next
}

// Clock moves the clock, in either direction.
func (x *machineWorld) Clock(t *rapid.T) {
	x.now = x.now.Add(time.Duration(rapid.IntRange(-100_000, 100_000).Draw(t, "ms")) * time.Millisecond)
}
