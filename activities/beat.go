package activities

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/task"
)

const (
	// beatEvery is the interval of heartbeats that have something to say. It is
	// also how stale the progress that tasks/get shows may be.
	beatEvery = time.Second
	// quietBeats is how many of the others fit into the heartbeat timeout: one
	// every five seconds. That is also how long a cancel takes to arrive where the
	// engine does not push it.
	quietBeats = 12
	// restBeats is likewise for a round whose call has ended: it only has to stay
	// alive until Temporal has been told.
	restBeats = 3
)

// beat is the heartbeat of one round.
type beat struct {
	temporal Reporter
	token    []byte
	timeout  time.Duration // after which Temporal gives a silent round up
	onCancel func()        // Temporal asks for the round to be cancelled
	onGone   func()        // Temporal does not know the round any more

	mu        sync.Mutex
	heartbeat task.Heartbeat
	changes   int // of the heartbeat; Temporal has it as it was after so many
	sent      int
	resting   bool
	woken     chan struct{} // has room for one
}

// progress takes in a progress notification for the next heartbeat.
func (b *beat) progress(p task.Progress, checkpoint json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.Message = task.ClipMessage(p.Message) // or Temporal may not take it, and ends the round
	b.heartbeat.Progress = &p
	if checkpoint != nil && len(checkpoint) <= task.MaxCheckpoint {
		b.heartbeat.Checkpoint, b.heartbeat.CheckpointAnswered = checkpoint, b.heartbeat.Answered
	}
	b.changed()
}

// resume takes in where the call goes on: at a task of the upstream's that is
// there, at a checkpoint, or at its beginning.
func (b *beat) resume() task.Heartbeat {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heartbeat.UpstreamTask == nil {
		b.heartbeat.Answered = b.heartbeat.CheckpointAnswered
	}
	return b.heartbeat
}

// answered takes in that the tool comes to the answer to a request. It returns
// when Temporal has that if the next attempt would go on after it.
func (b *beat) answered(ctx context.Context, key string) {
	b.mu.Lock()
	b.heartbeat.Answered = append(slices.Clip(b.heartbeat.Answered), key)
	resumable := b.heartbeat.UpstreamTask != nil
	b.changed()
	b.mu.Unlock()
	if resumable {
		_ = b.send(ctx) // the next one tries again, and sees to what this one is told
	}
}

// wasAnswered reports whether the tool has come to the answer.
func (b *beat) wasAnswered(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.heartbeat.Answered, key)
}

// upstreamTask takes in the handle of a task of the upstream's own. It returns
// when Temporal has it, or cannot be reached: without it the next attempt would
// not know of the task.
func (b *beat) upstreamTask(ctx context.Context, handle json.RawMessage) {
	b.mu.Lock()
	b.heartbeat.UpstreamTask = handle
	b.changed()
	b.mu.Unlock()
	_ = b.send(ctx) // the next one tries again, and sees to what this one is told
}

// upstreamLost counts a loss of the upstream, for the next attempt too, and
// returns how many there were. If Temporal cannot be reached the next attempt
// counts this one again.
func (b *beat) upstreamLost(ctx context.Context) int {
	b.mu.Lock()
	b.heartbeat.UpstreamLosses++
	b.changed()
	n := b.heartbeat.UpstreamLosses
	b.mu.Unlock()
	_ = b.send(ctx)
	return n
}

func (b *beat) latest() task.Heartbeat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heartbeat
}

// rest says that the call has ended.
func (b *beat) rest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resting = true
	b.wake()
}

// changed takes in that the heartbeat has changed.
func (b *beat) changed() {
	if b.sent == b.changes {
		b.wake()
	}
	b.changes++
}

// wake has run look again at when the next heartbeat is due.
func (b *beat) wake() {
	select {
	case b.woken <- struct{}{}:
	default: // it has not looked yet
	}
}

// next is the time until the next heartbeat: the first full second of the round
// at which one is due.
func (b *beat) next(begun, last time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	beats := time.Duration(quietBeats)
	if b.resting {
		beats = restBeats
	}
	now := time.Since(begun)
	at := (now/beatEvery + 1) * beatEvery
	if b.sent == b.changes {
		at = max(at, (last.Sub(begun) + b.timeout/beats).Round(beatEvery))
	}
	return at - now
}

// run beats until done is closed: soon when there is news, or the last one
// failed, and otherwise now and then. The end of the activity's own context only
// brings the next beat forward: it can mean a cancel or a worker that stops,
// and Temporal's answer to the heartbeat tells which.
func (b *beat) run(ctx context.Context, done <-chan struct{}) {
	begun := time.Now()
	timer := time.NewTimer(b.timeout)
	defer timer.Stop()
	ended, last := ctx.Done(), begun
	for {
		timer.Reset(b.next(begun, last))
		select {
		case <-done:
			return
		case <-ended:
			ended = nil
		case <-b.woken:
			continue
		case <-timer.C:
		}
		err := b.send(ctx)
		if last = time.Now(); err != nil {
			last = begun.Add(-b.timeout) // as if it were long ago
		}
		var canceled *temporal.CanceledError
		switch {
		case errors.As(err, &canceled):
			b.onCancel()
		case err != nil && isGone(err):
			b.onGone()
			return
		}
	}
}

func (b *beat) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rpcTimeout)
	defer cancel()
	b.mu.Lock()
	heartbeat, changes := b.heartbeat, b.changes
	b.mu.Unlock()
	err := b.temporal.RecordActivityHeartbeat(ctx, b.token, heartbeat)
	if err == nil {
		b.mu.Lock()
		b.sent = max(b.sent, changes)
		b.mu.Unlock()
	}
	return err
}
