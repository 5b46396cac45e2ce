package task

import "encoding/json"

// Support says whether calls of a tool become tasks. The values are those of
// execution.taskSupport (2025-11-25, tasks, "Tool-Level Negotiation").
type Support string

const (
	// SupportOptional: the caller, or on 2026 the server, decides. The default.
	SupportOptional Support = "optional"
	// SupportRequired: the tool is only run as a task.
	SupportRequired Support = "required"
	// SupportForbidden: the tool is never run as a task.
	SupportForbidden Support = "forbidden"
)

// InputMode says when a tool's requests for input are put to a 2026 client
// that takes tasks.
type InputMode string

const (
	// InputInTask: the task is created at once and asks for itself. The default.
	InputInTask InputMode = "in-task"
	// InputBeforeTask: the call answers input_required until a round no longer
	// asks, and hands out the task only then (ext-tasks, "Task Creation").
	InputBeforeTask InputMode = "before-task"
)

// Tool is an upstream tool as Longhaul exposes it.
type Tool struct {
	// Name is the exposed name: [A-Za-z0-9_.-]{1,128}.
	Name string
	// Definition is the tool object of tools/list, as the upstream sent it but
	// for the name and without execution.
	Definition json.RawMessage
	// InputSchema is the definition's inputSchema.
	InputSchema json.RawMessage
	Support     Support
	Input       InputMode
	Policy      Policy
	// Workflow, if set, names the workflow function that the tool is.
	Workflow string
}
