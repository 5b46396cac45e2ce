package temporalserver

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// phase is what the server does; it decides how its complaints are taken.
type phase int

const (
	building phase = iota // on the goroutine of launch, which recovers
	starting
	running
	stopping
)

// serverLog is Temporal's logger on top of slog.
//
// Temporal's info lines are about its own insides and become debug lines. Warnings and errors keep
// their level, except those that are expected here (see noise) and all of them while it stops, when
// it reports every connection that it has itself closed.
//
// Temporal ends the process after a fatal line, which is not for a library to do while there is
// somebody to hand an error to. While the server is built, such a line is a panic for launch
// to recover. While it starts or stops, in goroutines of its own, it ends the goroutine, which
// Temporal's lifecycle notices, and the error is kept for fatalError. Once it runs there is nobody
// left to tell and Temporal has found itself unable to go on: it panics, and the data is as safe as
// in any other crash.
type serverLog struct {
	log   *slog.Logger
	tags  []tag.Tag
	state *logState
}

type logState struct {
	mu    sync.Mutex
	phase phase
	fatal error
}

// noise are complaints about how this server is set up on purpose, and about workers that leave.
var noise = []string{
	"HTTP API port has not been set",
	"Unable to call matching.PollWorkflowTaskQueue",
	"Unable to call matching.PollActivityTaskQueue",
}

var (
	_ log.Logger     = (*serverLog)(nil)
	_ log.WithLogger = (*serverLog)(nil)
)

func newServerLog(l *slog.Logger) *serverLog {
	return &serverLog{log: l.With("component", "temporal"), state: new(logState)}
}

func (l *serverLog) setPhase(p phase) {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.phase = p
}

// fatalError is the first fatal line logged so far.
func (l *serverLog) fatalError() error {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	return l.state.fatal
}

func (l *serverLog) write(level slog.Level, msg string, tags []tag.Tag) {
	l.state.mu.Lock()
	if l.state.phase == stopping {
		level = slog.LevelDebug
	}
	l.state.mu.Unlock()
	for _, start := range noise {
		if strings.HasPrefix(msg, start) {
			level = slog.LevelDebug
		}
	}
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return // before the tags are read, which is what costs
	}
	attrs := make([]slog.Attr, 0, len(l.tags)+len(tags))
	for _, t := range slices.Concat(l.tags, tags) {
		attrs = append(attrs, slog.Any(t.Key(), t.Value()))
	}
	l.log.LogAttrs(ctx, level, msg, attrs...)
}

func (l *serverLog) With(tags ...tag.Tag) log.Logger {
	return &serverLog{log: l.log, tags: slices.Concat(l.tags, tags), state: l.state}
}

// Debug lines are one level below slog's debug: they come by the thousand.
func (l *serverLog) Debug(msg string, tags ...tag.Tag) { l.write(slog.LevelDebug-4, msg, tags) }
func (l *serverLog) Info(msg string, tags ...tag.Tag)  { l.write(slog.LevelDebug, msg, tags) }
func (l *serverLog) Warn(msg string, tags ...tag.Tag)  { l.write(slog.LevelWarn, msg, tags) }
func (l *serverLog) Error(msg string, tags ...tag.Tag) { l.write(slog.LevelError, msg, tags) }

// DPanic is a panic in Temporal's development builds only.
func (l *serverLog) DPanic(msg string, tags ...tag.Tag) { l.write(slog.LevelError, msg, tags) }

func (l *serverLog) Panic(msg string, tags ...tag.Tag) {
	panic(l.failure(msg, tags))
}

func (l *serverLog) Fatal(msg string, tags ...tag.Tag) {
	err := l.failure(msg, tags)
	l.state.mu.Lock()
	p := l.state.phase
	if l.state.fatal == nil {
		l.state.fatal = err
	}
	l.state.mu.Unlock()
	if p == starting || p == stopping {
		runtime.Goexit()
	}
	panic(err)
}

// failure is the line as an error: the message and the error among the tags.
func (l *serverLog) failure(msg string, tags []tag.Tag) error {
	for _, t := range slices.Concat(l.tags, tags) {
		if t.Key() == "error" {
			return fmt.Errorf("%s: %v", msg, t.Value())
		}
	}
	return fmt.Errorf("%s", msg)
}
