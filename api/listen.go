package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

const metaSubscription = "io.modelcontextprotocol/subscriptionId"

// listen answers subscriptions/listen (patterns/subscriptions): first the
// acknowledgement of what will be sent, then the tasks' current states, then
// what changes, until client or server end it.
func (a *API) listen(ctx context.Context, x *exchange) (any, error) {
	filter, err := readObject(x.msg.params.get("notifications"), true)
	if err != nil {
		return nil, invalidParams("Invalid params: notifications must be an object")
	}
	wanted, err := a.subscription(x, filter)
	if err != nil {
		return nil, err
	}
	tasks := newFollower(ctx, a.tasks)
	defer tasks.stop()
	current, err := tasks.begin(wanted.tasks)
	if err != nil {
		return nil, err
	}
	honoured := map[string]any{}
	var changed <-chan struct{}
	if wanted.tools {
		honoured["toolsListChanged"] = true
		var cancel func()
		changed, cancel = a.listChanges()
		defer cancel()
	}
	if len(current) > 0 {
		honoured["taskIds"] = taskIDs(current)
	}

	s := x.open()
	meta := map[string]json.RawMessage{metaSubscription: x.msg.id}
	notify := func(method string, params any) error {
		return s.send(outgoing{JSONRPC: "2.0", Method: method, Params: params})
	}
	err = notify("notifications/subscriptions/acknowledged", map[string]any{"notifications": honoured, "_meta": meta})
	for _, t := range current {
		if err == nil {
			err = notify("notifications/tasks", a.modern.notification(t, meta))
		}
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for err == nil {
		select {
		case <-changed:
			err = notify("notifications/tools/list_changed", map[string]any{"_meta": meta})
		case u := <-tasks.states:
			if u.err == nil {
				err = notify("notifications/tasks", a.modern.notification(u.task, meta))
			}
		case <-tick.C:
			err = s.idle()
		case <-a.closing: // "Graceful Closure"
			return map[string]any{"resultType": "complete", "_meta": map[string]json.RawMessage{
				metaSubscription: x.msg.id, metaServerInfo: a.modern.meta[metaServerInfo],
			}}, nil
		case <-ctx.Done():
			return nil, errNoReply
		}
	}
	return nil, errNoReply
}

// subscription is the part of a notification filter that this server serves.
type subscription struct {
	tools bool       // changes of the list of tools
	tasks []task.Ref // which there may not be
}

func (a *API) subscription(x *exchange, filter object) (subscription, error) {
	var s subscription
	for _, field := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		switch string(filter.get(field)) {
		case "", "false":
		case "true":
			s.tools = s.tools || field == "toolsListChanged"
		default:
			return s, invalidParams("Invalid params: notifications.%s must be a boolean", field)
		}
	}
	for _, field := range []string{"resourceSubscriptions", "taskIds"} {
		raw := filter.get(field)
		if raw == nil {
			continue
		}
		var ids []string
		if raw[0] != '[' || json.Unmarshal(raw, &ids) != nil {
			return s, invalidParams("Invalid params: notifications.%s must be an array of strings", field)
		}
		if field == "taskIds" {
			if !x.declares(tasksExtension) {
				return s, missingTasksExtension() // ext-tasks, "Task Status Notifications"
			}
			s.tasks = subscribedTasks(ids, x.owner)
		}
	}
	return s, nil
}

// listChanges signals changes of the tool list; those that come faster than
// they are read are one.
func (a *API) listChanges() (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	return c, a.catalogue.Subscribe(func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
}

// serveGet is the stream a 2025 session opens for messages that belong to none
// of its requests ("Listening for Messages from the Server"): one for each
// session, for each message may go to one stream only.
func (a *API) serveGet(w http.ResponseWriter, r *http.Request, sess *session, owner task.Owner) {
	if !accepts(r.Header, "text/event-stream") {
		a.writeError(w, nil, refuse(http.StatusNotAcceptable, codeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	get, remove := a.gets.add(sess.ID)
	if get == nil {
		a.writeError(w, nil, refuse(http.StatusConflict, codeInvalidRequest, "The session has a stream already"))
		return
	}
	defer remove()
	changed, cancel := a.listChanges()
	defer cancel()
	push := a.newSessionPush(r.Context(), sess, owner, get.active)
	defer push.stop()
	s := newStream(w)
	err := s.flush()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for err == nil {
		select {
		case <-changed:
			err = s.send(outgoing{JSONRPC: "2.0", Method: "notifications/tools/list_changed", Params: struct{}{}})
		case t := <-get.created:
			push.created(t, owner)
		case t := <-push.unfinished:
			push.found(t, owner)
		case u := <-push.states:
			err = push.send(s, u)
		case <-tick.C:
			err = s.idle()
		case <-get.ended:
			return
		case <-a.closing:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// maxUnfollowed bounds the tasks of a session that were created and are not yet
// followed. One beyond it is found by the next list, or polled.
const maxUnfollowed = 32

// get is an open GET stream.
type get struct {
	ended   chan struct{}   // closed when the stream has to end
	created chan *task.Task // the session's new tasks
	active  chan struct{}   // has an entry once the session has made a request
}

// gets are the open GET streams by session ID.
type gets struct {
	mu   sync.Mutex
	open map[string]*get
}

// add registers a stream. It is nil if the session has one.
func (g *gets) add(sessionID string) (added *get, remove func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.open[sessionID]; taken {
		return nil, nil
	}
	if g.open == nil {
		g.open = make(map[string]*get)
	}
	added = &get{
		ended:   make(chan struct{}),
		created: make(chan *task.Task, maxUnfollowed),
		active:  make(chan struct{}, 1),
	}
	g.open[sessionID] = added
	return added, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open[sessionID] == added {
			delete(g.open, sessionID)
		}
	}
}

// active tells the session's stream, if it has one, of a request.
func (g *gets) active(sessionID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open := g.open[sessionID]; open != nil {
		select {
		case open.active <- struct{}{}:
		default:
		}
	}
}

// created tells the session's stream, if it has one, of a new task.
func (g *gets) created(sessionID string, t *task.Task) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open := g.open[sessionID]; open != nil {
		select {
		case open.created <- t:
		default:
		}
	}
}

// end ends the session's stream, if it has one.
func (g *gets) end(sessionID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open := g.open[sessionID]; open != nil {
		delete(g.open, sessionID)
		close(open.ended)
	}
}
