package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// A 2025 client that waits for a task, in tasks/result or in a plain
// tools/call, is asked on the stream it waits on: each outstanding request of
// the task becomes a JSON-RPC request with an id that says where the response
// belongs, so that the response may be posted to any process:
//
//	tk:<task id>:<key>:<nonce>    for tasks
//	call:<held id>:<key>:<nonce>  for held calls
//
// The id is no secret and proves nothing: a response is taken from the task's
// owner alone. Each request is on one stream at a time ("the server MUST send
// each of its JSON-RPC messages on only one of the connected streams"); when
// the stream breaks, the next one asks again under a new id.
//
// Who accepts an elicitation in url mode has agreed to visit the URL, and is
// told on the same stream when that is over (client/elicitation, "Completion
// Notifications for URL Mode Elicitation"). The tool alone could know; that it
// ends with a result, or goes on to ask for something else, says so.

const (
	taskRequestPrefix = "tk"
	callRequestPrefix = "call"
)

// attend waits until the task of ref has ended, on x's stream unless it has
// already.
func (a *API) attend(ctx context.Context, x *exchange, ref task.Ref, progressToken json.RawMessage) (*task.Task, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.waits.add(x.session, x.msg.id, cancel)()

	ask := asker{api: a, x: x, ref: ref}
	defer ask.release()
	report := progressReporter{token: progressToken}
	key := statusKey{x.session.ID, ref.ID}
	if !ref.Held {
		defer a.statuses.join(key, true)()
	}
	states := a.follow(ctx, ref, task.WatchOptions{Progress: progressToken != nil})
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	var (
		s    *stream
		last *task.Task
	)
	freed := a.asked.freed() // before anything is claimed in vain
	for {
		select {
		case u, ok := <-states:
			switch {
			case !ok || ctx.Err() != nil:
				return nil, errNoReply
			case u.err != nil:
				return nil, u.err
			}
			if err := ask.completed(s, u.task); err != nil {
				return nil, errNoReply
			}
			if u.task.Status.Terminal() && s == nil {
				return u.task, nil
			}
			if s == nil {
				s = x.open()
			}
			if !ref.Held && a.statuses.take(key, u.task, true) {
				if err := s.queue(a.legacy.notification(u.task)); err != nil {
					return nil, errNoReply
				}
			}
			if u.task.Status.Terminal() {
				return u.task, nil
			}
			last = u.task
			if progressToken != nil && ask.claim(progressKey) {
				if err := report.send(x, last); err != nil {
					return nil, errNoReply
				}
			}
			if err := ask.outstanding(s, last); err != nil {
				return nil, errNoReply
			}
			if err := s.flush(); err != nil {
				return nil, errNoReply
			}
			//failpoint:result-waits
		case <-freed: // another stream ended that was asking
			freed = a.asked.freed()
			if err := ask.takeOver(ctx, s, last); err != nil {
				return nil, errNoReply
			}
		case <-tick.C:
			if s == nil {
				continue
			}
			if err := s.idle(); err != nil {
				return nil, errNoReply
			}
			if err := ask.takeOver(ctx, s, last); err != nil {
				return nil, errNoReply
			}
		case <-a.closing:
			if ref.Held {
				return nil, errClosingCall
			}
			return nil, errClosing
		case <-ctx.Done():
			return nil, errNoReply
		}
	}
}

// asker puts a task's requests on one stream.
type asker struct {
	api  *API
	x    *exchange
	ref  task.Ref
	keys []string // claimed here
	// visits are the elicitations in url mode that were sent here and are not
	// known to be completed.
	visits []visit
}

// visit is an elicitation in url mode.
type visit struct {
	key, id, url string
	// along are the keys of what the tool asked for before it was answered.
	along []string
}

// mayTake reports whether t has requests for this client that are on no stream.
func (k *asker) mayTake(t *task.Task) bool {
	return slices.ContainsFunc(t.Inputs, func(in task.InputRequest) bool {
		return k.x.session.serves(in) && k.api.asked.free(k.ref.ID, in.Key)
	})
}

// takeOver sends those of last's requests, the last state that was seen, that
// were freed meanwhile. If it cannot be known whether they were answered it is
// to be called again.
func (k *asker) takeOver(ctx context.Context, s *stream, last *task.Task) error {
	if last == nil || !k.mayTake(last) {
		return nil
	}
	now, err := k.api.tasks.Get(ctx, k.ref)
	if err != nil || now.Rev < last.Rev {
		return nil
	}
	return k.outstanding(s, now)
}

// outstanding sends those of t's requests that this client can serve and that
// are on no stream yet.
func (k *asker) outstanding(s *stream, t *task.Task) error {
	for _, in := range t.Inputs {
		if !k.x.session.serves(in) || slices.Contains(k.keys, in.Key) || !k.claim(in.Key) {
			continue
		}
		if err := s.send(k.request(in, t)); err != nil {
			return err
		}
	}
	return nil
}

// completed tells of the visits that are over now that the task is in state t.
func (k *asker) completed(s *stream, t *task.Task) error {
	var open []visit
	for _, v := range k.visits {
		if asked := inputKeys(t); slices.Contains(asked, v.key) {
			v.along = append(v.along, asked...)
		} else if k.api.asked.accepted(k.ref.ID, v.key) && v.isOver(t) {
			if err := s.send(outgoing{
				JSONRPC: "2.0", Method: "notifications/elicitation/complete", Params: map[string]string{"elicitationId": v.id},
			}); err != nil {
				return err
			}
			continue
		}
		open = append(open, v)
	}
	k.visits = open
	return nil
}

// isOver reports whether the tool is past the visit, which was accepted: it
// ended with a result, or asks for something else now. That may be the same
// visit once more, or what the client is only asked again.
func (v visit) isOver(t *task.Task) bool {
	if t.Outcome != nil {
		return t.Outcome.Kind == task.OutcomeResult
	}
	another := false
	for _, in := range t.Inputs {
		if url, ok := elicitedURL(in); ok && url == v.url {
			return false
		}
		another = another || !slices.Contains(v.along, in.Key) && !isAskedAgain(in)
	}
	return another
}

func inputKeys(t *task.Task) []string {
	var keys []string
	for _, in := range t.Inputs {
		keys = append(keys, in.Key)
	}
	return keys
}

// progressKey is what a stream claims in order to report progress. No request
// has that key.
const progressKey = "\x00progress"

// claim reports whether this stream is the one for messages under key.
func (k *asker) claim(key string) bool {
	if slices.Contains(k.keys, key) {
		return true
	}
	if !k.api.asked.claim(k.ref.ID, key) {
		return false
	}
	k.keys = append(k.keys, key)
	return true
}

// request words a request of t for the client, which has to be told which
// visit to a URL it is.
func (k *asker) request(in task.InputRequest, t *task.Task) outgoing {
	params := inputParams2025(in, k.x.version)
	if url, ok := elicitedURL(in); ok {
		var id string
		params, id = withElicitationID(params, func() string {
			return k.api.elicitationIDs.name(t.ID, timestamp(t.CreatedAt), in.Key)
		})
		k.visits = append(k.visits, visit{in.Key, id, url, inputKeys(t)})
	}
	prefix := callRequestPrefix
	if !k.ref.Held {
		prefix = taskRequestPrefix
		params = withMeta(params, task.MetaRelatedTask, relatedTask(k.ref.ID))
	}
	id := strings.Join([]string{prefix, k.ref.ID, in.Key, rand.Text()}, ":")
	return outgoing{JSONRPC: "2.0", ID: id, Method: in.Method, Params: params}
}

func (k *asker) release() {
	if len(k.keys) > 0 {
		k.api.asked.release(k.ref.ID, k.keys)
	}
}

// takeResponse hands a response to the task that asked.
func (a *API) takeResponse(ctx context.Context, owner task.Owner, m *message) error {
	unknown := refuse(http.StatusBadRequest, codeInvalidRequest, "Response to no request of this server")
	id, err := jsonString(m.id)
	if err != nil {
		return unknown
	}
	prefix, rest, _ := strings.Cut(id, ":")
	taskID, rest, ok := strings.Cut(rest, ":")
	end := strings.LastIndexByte(rest, ':')
	if !ok || end < 0 || !plausibleID(taskID) || prefix != taskRequestPrefix && prefix != callRequestPrefix {
		return unknown
	}
	answer := m.result
	if m.error != nil {
		answer = refusedAnswer(m.error)
	} else if answer[0] != '{' {
		return refuse(http.StatusBadRequest, codeInvalidRequest, "Invalid request: result must be an object")
	}
	ref, key := task.Ref{ID: taskID, Owner: owner, Held: prefix == callRequestPrefix}, rest[:end]
	// The stream may see what the answer does before Answer returns.
	undo := a.asked.answer(taskID, key, isAccept(answer))
	if err = a.tasks.Answer(ctx, ref, map[string]json.RawMessage{key: answer}); err != nil {
		undo()
	}
	if isTerminal(err) {
		return nil // it needs no answer any more
	}
	return err
}

// refusedAnswer is the answer that a JSON-RPC error stands for. An elicitation
// has a word for it, cancel; for everything else the tool gets the error in
// place of a result, under "error". A result of any kind has fields of its own
// that such an answer lacks, so it cannot be mistaken for one.
func refusedAnswer(rpcError json.RawMessage) json.RawMessage {
	answer, err := encode(map[string]any{"action": "cancel", "error": rpcError})
	if err != nil {
		panic(err) // it has been read as JSON
	}
	return answer
}

// takeCancelled ends the request that a 2025 client no longer waits for: a
// held call stops, a tasks/result just ends its wait. A task-augmented call is
// not cancelled so ("the tasks/cancel request MUST be used instead").
func (a *API) takeCancelled(ctx context.Context, owner task.Owner, sess *session, m *message) error {
	id := m.params.get("requestId")
	if !isRequestID(id) {
		return nil // "Invalid cancellation notifications SHOULD be ignored"
	}
	a.waits.end(sess, id)
	ref := task.Ref{ID: a.heldID(sess, id), Owner: owner, Held: true}
	err := a.tasks.RequestCancel(ctx, ref, "")
	if errors.Is(err, task.ErrNotFound) || errors.Is(err, task.ErrExpired) {
		return nil // no held call: nothing to cancel
	}
	return err
}

// waits are the requests of 2025 sessions that wait in this process.
type waits struct {
	mu   sync.Mutex
	ends map[string]*context.CancelFunc
}

func waitKey(s *session, id json.RawMessage) string { return s.ID + " " + typedID(id) }

// add remembers how to end a wait, until the returned func is called.
func (w *waits) add(s *session, id json.RawMessage, end context.CancelFunc) (remove func()) {
	key := waitKey(s, id)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends == nil {
		w.ends = make(map[string]*context.CancelFunc)
	}
	w.ends[key] = &end
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ends[key] == &end { // the id may have been used again
			delete(w.ends, key)
		}
	}
}

func (w *waits) end(s *session, id json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end, ok := w.ends[waitKey(s, id)]; ok {
		(*end)()
	}
}

// asked are the requests that are on a stream of this process now.
type asked struct {
	mu    sync.Mutex
	keys  map[askedKey]answered
	wakes chan struct{} // closed at the next release, and replaced
}

type askedKey struct{ taskID, key string }

// answered is the first answer to a request: the one that counts.
type answered struct{ yet, accepts bool }

func (k *asked) claim(taskID, key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = make(map[askedKey]answered)
	}
	if _, taken := k.keys[askedKey{taskID, key}]; taken {
		return false
	}
	k.keys[askedKey{taskID, key}] = answered{}
	return true
}

// answer takes in that the client answers a request, until undo is called.
func (k *asked) answer(taskID, key string, accepts bool) (undo func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := askedKey{taskID, key}
	if a, here := k.keys[id]; !here || a.yet {
		return func() {}
	}
	k.keys[id] = answered{true, accepts}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if _, here := k.keys[id]; here {
			k.keys[id] = answered{}
		}
	}
}

func (k *asked) accepted(taskID, key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[askedKey{taskID, key}].accepts
}

func (k *asked) free(taskID, key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, taken := k.keys[askedKey{taskID, key}]
	return !taken
}

func (k *asked) release(taskID string, keys []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		delete(k.keys, askedKey{taskID, key})
	}
	if k.wakes != nil {
		close(k.wakes)
		k.wakes = nil
	}
}

// freed is closed when a request is next released.
func (k *asked) freed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wakes == nil {
		k.wakes = make(chan struct{})
	}
	return k.wakes
}
