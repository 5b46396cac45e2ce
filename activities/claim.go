package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/task"
)

// maxPayload bounds what of a round's end is not kept in the store, encoded.
// Temporal refuses payloads above 2 MiB; a codec may add to them.
const maxPayload = 1<<20 + 64<<10

// arguments are those of the call. It waits for the store as long as ctx does;
// an error says that they are lost.
func (r *Rounds) arguments(ctx context.Context, in task.RoundInput, set task.ClaimSet, log *slog.Logger) (args json.RawMessage, err error) {
	if in.ArgumentsClaim == nil {
		return in.Arguments, nil
	}
	if r.claims == nil {
		return nil, task.ErrClaimMissing
	}
	var lost error
	err = insist(ctx, log, "could not read the arguments of a call", func() (err error) {
		args, err = r.claims.Get(ctx, set, *in.ArgumentsClaim)
		if errors.Is(err, task.ErrClaimMissing) || errors.Is(err, task.ErrClaimCorrupt) {
			lost, err = err, nil
		}
		return err
	})
	return args, errors.Join(lost, err)
}

// keep puts a large result into the store, until it is there or ctx has ended,
// which is the only error. What is too large even so fails the round.
func (r *Rounds) keep(ctx context.Context, set task.ClaimSet, result task.RoundResult, log *slog.Logger) (task.RoundResult, error) {
	if claims.Large(result.Result) {
		if r.claims == nil || set.CreatedAt.IsZero() {
			return failure(fmt.Sprintf("the tool's result has %d bytes, and this worker has no store for large ones", len(result.Result))), nil
		}
		var (
			c       task.Claim
			refused error
		)
		err := insist(ctx, log, "could not store the result of a tool", func() (err error) {
			c, err = r.claims.Put(ctx, set, result.Result)
			if errors.Is(err, task.ErrTooLarge) {
				refused, err = err, nil
			}
			return err
		})
		switch {
		case err != nil:
			return task.RoundResult{}, err
		case refused != nil:
			return failure("the tool's result cannot be stored: " + refused.Error()), nil
		}
		result.Result, result.ResultClaim = nil, &c
	}
	encoded, err := json.Marshal(result)
	switch {
	case err != nil:
		return failure("the tool's result cannot be stored: " + err.Error()), nil
	case len(encoded) > maxPayload && result.Error != nil:
		return failure(fmt.Sprintf("the tool's error has %d bytes; at most %d can be stored", len(encoded), maxPayload)), nil
	case len(encoded) > maxPayload:
		return failure(fmt.Sprintf("what the tool asks for has %d bytes; at most %d can be stored", len(encoded), maxPayload)), nil
	}
	return result, nil
}

// insist tries something until it succeeds or ctx ends, which is the error.
func insist(ctx context.Context, log *slog.Logger, trouble string, try func() error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := try()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		}
		log.Warn(trouble+", trying again", "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
