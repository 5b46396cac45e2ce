package engine

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// maxPayload bounds what is handed to a workflow in one piece, encoded.
	// Temporal refuses payloads above 2 MiB; a codec may add to them.
	maxPayload = 1<<20 + 64<<10

	// workflowTaskTimeout is short so that a worker that dies with a workflow
	// task in hand does not hold an answer or a cancel back for long.
	workflowTaskTimeout = 3 * time.Second

	// cleanupBound is what the workflow may take beyond the TTL to end an
	// expired round by itself, besides the time that its tool was given for that;
	// it is longer than what tools have by default. After it Temporal times the
	// workflow out, which is also what happens if no worker ever comes.
	cleanupBound = 2 * time.Minute
)

// creation is a task this process created.
type creation struct {
	ownerHash string
	held      bool
	at        time.Time
	task      *task.Task // as it was then
	// moved is set when somebody is shown that it has come further.
	moved atomic.Bool
}

// Create implements [task.Service].
//
// A held call whose HeldID is that of a running call joins it, if owner, tool
// and arguments are the same, and is [task.ErrKeyReused] otherwise; so does one
// with an idempotency key whose HeldID is that of an ended call. While a
// deleted task is still being removed, its idempotency key answers
// [task.ErrUnavailable].
func (e *Engine) Create(ctx context.Context, r task.CreateRequest) (*task.Task, error) {
	if r.TTL < time.Millisecond {
		return nil, fmt.Errorf("engine: a task's TTL must be at least 1ms, not %s", r.TTL)
	}
	if size := int64(len(r.Arguments)); size > task.MaxBytes {
		return nil, &task.SizeError{What: "arguments", Size: size, Max: task.MaxBytes}
	}
	argsHash, err := hashArguments(r.Arguments)
	if err != nil {
		return nil, fmt.Errorf("engine: the arguments are not JSON: %w", err)
	}
	now := e.o.Now().UTC().Truncate(time.Millisecond)
	in := task.StartInput{
		Card: task.Card{
			Tool:      r.Tool,
			ArgsHash:  argsHash,
			OwnerHash: r.Owner.Hash(),
			CreatedAt: now,
			TTLMillis: r.TTL.Milliseconds(),
			Session:   r.Session,
		},
		Arguments:    r.Arguments,
		Capabilities: r.Capabilities,
		Policy:       r.Policy,
		Workflow:     r.Workflow,
		Decided:      r.Decided,
	}
	claimed := e.isClaimed(r)
	if claimed {
		in.Arguments = nil
	}
	if err := fits("arguments", in); err != nil {
		return nil, err
	}
	state := task.InitialState(now)

	workflowType, options := task.WorkflowTask, e.startOptions(in, r.Arguments, state)
	switch {
	case r.HeldID != "":
		workflowType = task.WorkflowCall
		options.ID = r.HeldID
		if r.IdempotencyKey == "" {
			options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
		}
	case r.IdempotencyKey != "":
		options.ID = e.keyedID(r.Owner, r.IdempotencyKey)
	default:
		options.ID = strings.ToLower(rand.Text())
	}

	ref := task.Ref{ID: options.ID, Owner: r.Owner, Held: r.HeldID != ""}
	if claimed && r.Decided == nil {
		if r.IdempotencyKey != "" && !ref.Held {
			// A call that is sent again is not to be stored again.
			if t, err := e.existing(ctx, ref, in.Card); !errors.Is(err, task.ErrNotFound) {
				return t, err
			}
		}
		if in.ArgumentsClaim, err = e.store(ctx, claimSet(options.ID, in.Card), r.Arguments); err != nil {
			return nil, err
		}
	}

	startCtx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	started := e.watches.write(options.ID)
	err = e.start(startCtx, options, workflowType, in)
	started()
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &exists):
		t, err := e.existing(ctx, ref, in.Card)
		if in.ArgumentsClaim != nil && t != nil && !t.CreatedAt.Equal(in.Card.CreatedAt) {
			e.forget(ctx, claimSet(options.ID, in.Card))
		}
		if errors.Is(err, task.ErrNotFound) {
			// Deleted, but not gone yet; or the ID of a held call that is not this
			// caller's to join.
			return nil, fmt.Errorf("%w: the ID of this call is still taken", task.ErrUnavailable)
		}
		return t, err
	case err != nil:
		return nil, unavailable(err)
	}
	//failpoint:task-started
	e.o.Logger.Info("task created", "task_id", options.ID, "tool", r.Tool, "owner", string(r.Owner), "type", workflowType)
	if r.IdempotencyKey != "" { // there may have been another task with this ID
		e.outcomes.forget(options.ID, e.o.Now())
	}
	e.deleted.remove(options.ID)
	t := task.Projection{Card: in.Card, State: state}.Snapshot(options.ID)
	e.created.put(t.ID, &creation{ownerHash: in.Card.OwnerHash, held: r.HeldID != "", at: time.Now(), task: t})
	return t, nil
}

// startOptions are the options of every start, but for the ID.
//
// On a conflict Temporal is to refuse. Had it to hand out the workflow that
// exists instead, nothing in its reply would tell a joined task from a new one.
func (e *Engine) startOptions(in task.StartInput, args json.RawMessage, state task.State) client.StartWorkflowOptions {
	summary, details := describeCall(in.Card, args)
	return client.StartWorkflowOptions{
		TaskQueue:                e.o.TaskQueue,
		WorkflowExecutionTimeout: in.Card.TTL() + in.Policy.Cleanup() + cleanupBound,
		WorkflowTaskTimeout:      workflowTaskTimeout,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,

		WorkflowExecutionErrorWhenAlreadyStarted: true,

		EnableEagerStart: true,
		Memo:             map[string]any{task.MemoTask: in.Card, task.MemoState: state},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			searchTool.ValueSet(in.Card.Tool),
			searchCall.ValueSet(clipEncoded(summary, maxKeyword)),
			searchOwner.ValueSet(in.Card.OwnerHash),
			searchExpiresAt.ValueSet(in.Card.CreatedAt.Add(in.Card.TTL())),
		),
		StaticSummary: markdownLine(summary),
		StaticDetails: details,
	}
}

// existing reads the task that was already there under the ID of a create and
// makes sure that it is the task that was asked for. [task.ErrNotFound] if there
// is none that can be read.
func (e *Engine) existing(ctx context.Context, ref task.Ref, want task.Card) (*task.Task, error) {
	got, err := e.read(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case got.card.Tool != want.Tool || got.card.ArgsHash != want.ArgsHash:
		return nil, task.ErrKeyReused
	}
	return got.task(), nil
}

// keyedID is the ID of the task an owner creates with an idempotency key:
// 160 bits that nobody without the server's key can foretell.
func (e *Engine) keyedID(owner task.Owner, key string) string {
	mac := hmac.New(sha256.New, e.o.Key)
	// The length in front keeps owner and key apart, whatever they contain.
	mac.Write(binary.BigEndian.AppendUint64([]byte("longhaul task id\x00"), uint64(len(owner))))
	mac.Write([]byte(owner))
	mac.Write([]byte(key))
	return strings.ToLower(base32.StdEncoding.EncodeToString(mac.Sum(nil)[:20]))
}

// hashArguments is a hash of what the arguments say: neither the order of keys
// nor white space changes it, and none are the same as an empty object.
func hashArguments(args json.RawMessage) (string, error) {
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	canonical, err := task.CanonicalJSON(args)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16]), nil
}

// fits reports whether Temporal would store v as one payload, of which what is
// the part that may be large. What counts is the encoded size, in which some
// characters take six bytes.
func fits(what string, v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if len(encoded) > maxPayload {
		return &task.SizeError{What: what, Size: int64(len(encoded)), Max: maxPayload}
	}
	return nil
}
