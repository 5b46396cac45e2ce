package engine

import (
	"encoding/json"
	"testing"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/longhaul-mcp/longhaul/task"
)

// A read has shown that an answer was refused, of which the state in memory does
// not know: it asks under a key that is worth nothing any more.
func TestRefusedRequestIsNotHot(t *testing.T) {
	e := newOffline(t)
	ref := task.Ref{ID: "id", Owner: "ann"}
	asked := task.State{Rev: 2, Status: task.StatusInputRequired, Inputs: []task.InputRequest{
		{Key: "sure", Method: task.MethodElicit, Params: json.RawMessage(`{}`)},
	}}
	read := func(state task.State, pending *workflowpb.PendingWorkflowTaskInfo) *reading {
		return &reading{id: ref.ID, state: state, pending: pending, at: time.Now(), moment: e.watches.moment()}
	}
	found := read(asked, nil)
	w := &watch{id: ref.ID, owner: ref.Owner, stop: func() {}, changed: make(chan struct{}), wanted: make(chan struct{}, 1), followed: true}
	e.watches.watches[ref.ID] = w
	e.watches.publish(w, found.task(), found.moment)
	e.watches.saw(read(asked, nil))
	if got := e.watches.hot(ref); got == nil || len(got.Inputs) != 1 {
		t.Fatalf("what was read twice is not in memory: %+v", got)
	}
	refused := asked
	refused.Status, refused.Inputs = task.StatusWorking, nil
	shown := read(refused, &workflowpb.PendingWorkflowTaskInfo{})
	e.watches.saw(shown)
	if got := e.watches.hot(ref); got != nil {
		t.Errorf("after %+v was shown, memory shows %+v", shown.task(), got)
	}
	// Nor does who waits for progress get to see it again.
	progress := *found.task()
	progress.Progress = &task.Progress{Progress: 1}
	if isNews(&progress, shown.task(), true) {
		t.Error("it is told of again")
	}
}
