package cluster

import "github.com/longhaul-mcp/longhaul/internal/overlay"

// Mutants are the product broken on purpose, by what is broken: whoever claims
// to find such things has to find these.
var Mutants = map[string][]overlay.Patch{
	// A second answer to the same request takes the place of the first one, if
	// the tool has not been given that yet.
	"answers are not deduplicated": {{
		File: "task/asking.go",
		Old: `	i := m.outstanding(key)
	if i < 0 {
		return false
	}
	m.answer(`,
		New: `	i := m.outstanding(key)
	if toolKey, asked := m.Asked[key]; i < 0 && asked && m.Outcome == nil {
		m.answer(toolKey, response)
		return true
	}
	if i < 0 {
		return false
	}
	m.answer(`,
	}},
	// The end of a round is looked at before the signals that came before it.
	"signals are not drained": {{
		File: "workflows/task.go",
		Old: `func (t *run) takeEvents() {
`,
		New: `func (t *run) takeEvents() {
	if t.machine.Outcome == nil && t.round != nil && t.round.IsReady() {
		t.takeRound()
		return
	}
`,
	}},
	// A workflow ends while its update handlers, which take a moment here, have
	// not returned.
	"handlers are not awaited": {{
		File: "workflows/ask.go",
		Old:  `return workflow.AllHandlersFinished(t.ctx) })`,
		New:  `return true })`,
	}, {
		File: "workflows/ask.go",
		Old:  `	switch answer, ok := t.machine.Answered(request.Key); {`,
		New: `	_ = workflow.Sleep(ctx, 10_000_000)
	switch answer, ok := t.machine.Answered(request.Key); {`,
	}},
	// An upstream cannot tell a repeated call from a new one.
	"attempts have keys of their own": {{
		File: "activities/round.go",
		Old:  `IdempotencyKey: info.WorkflowExecution.ID + "/" + info.ActivityID,`,
		New:  `IdempotencyKey: info.WorkflowExecution.ID + "/" + info.ActivityID + fmt.Sprint("/", info.Attempt),`,
	}},
}
