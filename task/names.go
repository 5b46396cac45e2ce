package task

// Names under which tasks are persisted in Temporal. They never change their
// meaning: histories written by any released version are replayed by every
// later one.
const (
	// WorkflowTask is the workflow type of a task.
	WorkflowTask = "Task"
	// WorkflowCall is the workflow type of a held call: the same workflow, but
	// the caller waits for its result and tasks/* do not know it.
	WorkflowCall = "Call"

	// WorkflowSweep is the workflow type of a sweep, which deletes expired tasks
	// and held calls. A schedule starts it, one for each task queue, whose ID is
	// SweepPrefix and the name of the queue.
	WorkflowSweep = "Sweep"
	SweepPrefix   = "longhaul-sweep-"

	// ActivityRound is the activity type of one round, ActivitySweep that of a
	// sweep.
	ActivityRound = "Round"
	ActivitySweep = "Sweep"

	// UpdateAsk is sent by a running round: an [AskInput], answered by an
	// [AskAnswer]. Its update ID is the request's key.
	UpdateAsk = "ask"

	// SignalCancel carries a [CancelSignal], SignalInput an [InputSignal].
	SignalCancel = "cancel"
	SignalInput  = "input"

	// QueryTask answers a [Projection], QueryResult an *[Outcome] (nil while
	// there is none).
	QueryTask   = "task"
	QueryResult = "result"

	// MemoTask holds a [Card], written once; MemoState holds a [State], written
	// at every change of status but one: a workflow that completed while it says
	// working ended with a result that is no error.
	MemoTask  = "task"
	MemoState = "state"

	// FailureTask is the type of the application error with which a failed
	// task's workflow ends; its details are the [Outcome].
	FailureTask = "TaskFailed"
)

// Search attributes, all registered at start-up.
const (
	// SearchStatus (Keyword) is input_required while the task waits for its
	// owner, and otherwise not set. Read it together with ExecutionStatus:
	// after a Terminate it is stale.
	SearchStatus = "McpTaskStatus"
	// SearchCall (Keyword) is the call on one line, like deploy(env=prod), so
	// that a list of workflows reads as a list of calls.
	SearchCall = "McpCall"
	// SearchTool (Keyword) is the exposed name of the tool.
	SearchTool = "McpTool"
	// SearchOwner (Keyword) is [Owner.Hash].
	SearchOwner = "McpOwner"
	// SearchExpiresAt (Datetime) is [Task.ExpiresAt].
	SearchExpiresAt = "McpExpiresAt"
)

// DefaultTaskQueue is the task queue on which workflows and rounds run.
const DefaultTaskQueue = "longhaul"
