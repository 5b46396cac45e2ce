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
	// ErrTooLarge: arguments or answers exceed what the engine stores; mostly as a
	// [SizeError].
	ErrTooLarge = errors.New("payload too large")
	// ErrBadCursor: the list cursor is not one this server gave out.
	ErrBadCursor = errors.New("invalid cursor")
	// ErrUnavailable: the engine cannot be reached or did not answer in time.
	// The task may well exist.
	ErrUnavailable = errors.New("task engine unavailable")
	// ErrClaimMissing: the bytes that a [Claim] stands for are not in this
	// process's store. It is not that of the process which stored them, or they
	// were removed from it.
	ErrClaimMissing = errors.New("what was stored is not in this store; api and worker must share it")
	// ErrClaimCorrupt: the bytes in the place of a [Claim] are not the ones that
	// were stored.
	ErrClaimCorrupt = errors.New("what was stored has been changed in the store")
)
