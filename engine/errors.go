package engine

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/serviceerror"

	"github.com/longhaul-mcp/longhaul/task"
)

// translate puts an error of Temporal's client into the words of package task.
// Whatever is not a plain "no such workflow" is engine trouble; a missing
// namespace is a NamespaceNotFound, not a NotFound.
func translate(err error) error {
	var notFound *serviceerror.NotFound
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notFound):
		return task.ErrNotFound
	default:
		return unavailable(err)
	}
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", task.ErrUnavailable, err) }

// timedOut reports whether err says that a deadline has passed, here or on the
// way to Temporal.
func timedOut(err error) bool {
	var deadline *serviceerror.DeadlineExceeded
	return errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded)
}
