package task

import "errors"

// The errors of [Service]. Everything above it decides by these alone; the
// HTTP front translates them in one table.
var (
	// ErrNotFound: there is no such task, or it belongs to somebody else, or it
	// is gone after its TTL. Callers cannot tell which.
	ErrNotFound = errors.New("task not found")
	// ErrExpired: the owner's task has outlived its TTL and may be deleted at
	// any moment. It is only ever returned to the owner.
	ErrExpired = errors.New("task has expired")
	// ErrTerminal: the task already ended, and what was asked needs one that
	// has not.
	ErrTerminal = errors.New("task is already in a terminal status")
	// ErrRunning: the task has not ended, and what was asked needs one that has.
	ErrRunning = errors.New("task is still running")
	// ErrKeyReused: the idempotency key was used before for another call.
	ErrKeyReused = errors.New("idempotency key was already used for a different call")
	// ErrTooLarge: arguments or answers exceed what the engine stores.
	ErrTooLarge = errors.New("payload too large")
	// ErrBadCursor: the list cursor is not one this server gave out.
	ErrBadCursor = errors.New("invalid cursor")
	// ErrUnavailable: the engine cannot be reached or did not answer in time.
	// The task may well exist.
	ErrUnavailable = errors.New("task engine unavailable")
)
