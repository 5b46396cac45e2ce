package longhaul

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// Progress reports how far the tool call req has come: progress of total, in a
// unit of the tool's choosing, and a message for people. Progress has to grow
// from one report to the next; a total of 0 means that it is not known.
//
// As a task, the message becomes the task's status message. Progress does
// nothing if the caller did not ask for progress. Its error means that the
// caller is gone or ctx is done; a tool may simply return it.
func Progress(ctx context.Context, req *mcp.CallToolRequest, progress, total float64, message string) error {
	return notify(ctx, req, nil, progress, total, message)
}

// SaveCheckpoint is [Progress] that also leaves state behind. If the call is
// interrupted by a crash and tried again, [LoadCheckpoint] returns the last
// state saved, so that the tool can go on from there. A call is tried again
// only if the tool says that this is safe, by its readOnlyHint or
// idempotentHint, or if the operator does.
//
// The state may be anything that marshals to JSON, and replaces the one before
// it; null means none. Keep it small, a few kilobytes: it is recorded with
// every heartbeat of the task. Above 256 KiB it is an error. Like Progress,
// SaveCheckpoint does nothing if the caller did not ask for progress; Longhaul
// always does.
func SaveCheckpoint(ctx context.Context, req *mcp.CallToolRequest, progress, total float64, message string, state any) error {
	saved, err := json.Marshal(state)
	switch {
	case err != nil:
		return fmt.Errorf("save checkpoint: %w", err)
	case len(saved) > task.MaxCheckpoint:
		return fmt.Errorf("save checkpoint: it takes %d bytes as JSON; at most %d are kept", len(saved), task.MaxCheckpoint)
	}
	return notify(ctx, req, mcp.Meta{task.MetaCheckpoint: json.RawMessage(saved)}, progress, total, message)
}

// LoadCheckpoint returns the state that an earlier attempt at this very call
// saved with [SaveCheckpoint]. It reports false on a first attempt, and when
// nothing had been saved. It fails if the state does not unmarshal into a T,
// as may happen when the tool has been changed in between.
//
// The state passes through values of type any, so integers beyond 2^53 lose
// digits; save those as strings.
func LoadCheckpoint[T any](req *mcp.CallToolRequest) (state T, ok bool, err error) {
	saved := req.Params.Meta[task.MetaCheckpoint]
	if saved == nil {
		return state, false, nil
	}
	data, err := json.Marshal(saved)
	if err != nil {
		return state, false, fmt.Errorf("load checkpoint: %w", err)
	}
	// A failed Unmarshal leaves its target half filled: never hand that out.
	var loaded T
	if err := json.Unmarshal(data, &loaded); err != nil {
		return state, false, fmt.Errorf("load checkpoint: %w", err)
	}
	return loaded, true, nil
}

func notify(ctx context.Context, req *mcp.CallToolRequest, meta mcp.Meta, progress, total float64, message string) error {
	token := req.Params.GetProgressToken()
	if token == nil {
		return nil
	}
	err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		Meta:          meta,
		ProgressToken: token,
		Progress:      progress,
		Total:         total,
		Message:       message,
	})
	if err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	return nil
}
