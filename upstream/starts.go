package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// settledAfter is how long a process has to live to count as sound.
	settledAfter = 10 * time.Second
	// firstDelay is how long a command is left alone whose process failed the
	// second time in a row. The delay doubles with every further time, up to
	// longestDelay.
	firstDelay   = time.Second
	longestDelay = 30 * time.Second
)

// starts keeps a command from being started over and over when its processes
// do not live. A process fails if it cannot be started or spoken to, or if it
// goes within settledAfter without having answered a call. After the first
// failure the next call starts another one, because anything may crash once.
// From the second in a row on, starts are refused for a growing time.
//
// As long as the last one failed, processes are started one after the other,
// so that many calls at once do not all try what one can find out.
//
// A nil *starts refuses nothing: it is that of a server that is no command.
type starts struct {
	// turn holds a token while a process is starting after a failure.
	turn chan struct{}

	mu       sync.Mutex
	failures int // in a row
	last     time.Time
	until    time.Time
	reason   string
}

func newStarts() *starts { return &starts{turn: make(chan struct{}, 1)} }

// refusedError says why a command is not started now, and when it is.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// begin waits until a process may be started, and returns what to call when it
// was started or has failed to. The error is that of ctx, or a *refusedError.
func (s *starts) begin(ctx context.Context) (done func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	failing, err := s.refusal()
	if err != nil {
		return nil, err
	}
	if !failing {
		return func() {}, nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	done = func() { <-s.turn }
	if _, err := s.refusal(); err != nil { // by what happened meanwhile
		done()
		return nil, err
	}
	return done, nil
}

func (s *starts) refusal() (failing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return true, &refusedError{fmt.Sprintf("it failed %d times in a row and will be started again at %s: %s",
			s.failures, s.until.UTC().Format(time.RFC3339), s.reason)}
	}
	return s.failures > 0, nil
}

// failed takes in that a process failed which was begun at begun.
func (s *starts) failed(begun time.Time, reason string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = reason
	if s.failures > 0 && begun.Before(s.last) {
		return // one of several that failed at once
	}
	s.failures++
	s.last = time.Now()
	if s.failures > 1 {
		s.until = s.last.Add(min(firstDelay<<min(s.failures-2, 10), longestDelay))
	}
}

// sound takes in that a process has proved itself.
func (s *starts) sound() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures, s.until = 0, time.Time{}
}

// wait is how long starts are refused from now on.
func (s *starts) wait() time.Duration {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.until)
}
