package task

// Keys under `_meta` that mean something to Longhaul.
const (
	// MetaCheckpoint carries a tool's checkpoint, any JSON value of at most
	// [MaxCheckpoint] bytes: saved in the `_meta` of a progress notification,
	// handed back in the `_meta` of the next attempt's tools/call.
	MetaCheckpoint = "io.longhaul/checkpoint"

	// MetaIdempotencyKey carries a string in the `_meta` of a tools/call. From
	// a client it makes creating a task idempotent: the same key from the same
	// owner is the same task. Towards an upstream it names the piece of work
	// and stays the same across retries of it.
	MetaIdempotencyKey = "io.longhaul/idempotency-key"

	// MetaRefused carries, on a request for input that is made again, why the
	// last answer was not acceptable.
	MetaRefused = "io.longhaul/refused"

	// MetaRelatedTask carries {"taskId": …} on messages that belong to a task
	// (MCP 2025-11-25, basic/utilities/tasks, "Associating Task-Related
	// Messages").
	MetaRelatedTask = "io.modelcontextprotocol/related-task"
)

// MaxCheckpoint bounds a tool's checkpoint, in bytes of JSON: it is recorded
// with every heartbeat. The one before a larger one remains.
const MaxCheckpoint = 256 << 10
