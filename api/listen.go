package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const metaSubscription = "io.modelcontextprotocol/subscriptionId"

// listen answers subscriptions/listen (patterns/subscriptions): first the
// acknowledgement of what will be sent, then the changes, until client or
// server end it. Task statuses are not pushed: their ids are left out of the
// acknowledgement, which tells the client to poll.
func (a *API) listen(ctx context.Context, x *exchange) (any, error) {
	filter, err := object(x.msg.params["notifications"], true)
	if err != nil {
		return nil, invalidParams("Invalid params: notifications must be an object")
	}
	honoured, err := a.honoured(x, filter)
	if err != nil {
		return nil, err
	}
	var changed <-chan struct{}
	if honoured["toolsListChanged"] {
		var cancel func()
		changed, cancel = a.listChanges()
		defer cancel()
	}
	s, err := x.open()
	if err != nil {
		return nil, err
	}
	meta := map[string]json.RawMessage{metaSubscription: x.msg.id}
	notify := func(method string, params map[string]any) error {
		params["_meta"] = meta
		return s.send(outgoing{JSONRPC: "2.0", Method: method, Params: params})
	}
	if err := notify("notifications/subscriptions/acknowledged", map[string]any{"notifications": honoured}); err != nil {
		return nil, errNoReply
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-changed:
			err = notify("notifications/tools/list_changed", map[string]any{})
		case <-tick.C:
			err = s.idle()
		case <-a.closing: // "Graceful Closure"
			return map[string]any{"resultType": "complete", "_meta": map[string]json.RawMessage{
				metaSubscription: x.msg.id, metaServerInfo: a.modern.serverInfo,
			}}, nil
		case <-ctx.Done():
			return nil, errNoReply
		}
		if err != nil {
			return nil, errNoReply
		}
	}
}

// honoured is the part of a notification filter that this server serves.
func (a *API) honoured(x *exchange, filter map[string]json.RawMessage) (map[string]bool, error) {
	honoured := map[string]bool{}
	for _, field := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		switch string(filter[field]) {
		case "", "false":
		case "true":
			if field == "toolsListChanged" {
				honoured[field] = true
			}
		default:
			return nil, invalidParams("Invalid params: notifications.%s must be a boolean", field)
		}
	}
	for _, field := range []string{"resourceSubscriptions", "taskIds"} {
		raw, ok := filter[field]
		if !ok {
			continue
		}
		var ids []string
		if raw[0] != '[' || json.Unmarshal(raw, &ids) != nil {
			return nil, invalidParams("Invalid params: notifications.%s must be an array of strings", field)
		}
		if field == "taskIds" && !x.declares(tasksExtension) {
			return nil, missingTasksExtension() // ext-tasks, "Task Status Notifications"
		}
	}
	return honoured, nil
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
func (a *API) serveGet(w http.ResponseWriter, r *http.Request, sess *session) {
	if !accepts(r.Header, "text/event-stream") {
		a.writeError(w, nil, refuse(http.StatusNotAcceptable, codeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	ended, remove := a.gets.add(sess.ID)
	if ended == nil {
		a.writeError(w, nil, refuse(http.StatusConflict, codeInvalidRequest, "The session has a stream already"))
		return
	}
	defer remove()
	changed, cancel := a.listChanges()
	defer cancel()
	s, err := newStream(w)
	if err != nil {
		return
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-changed:
			err = s.send(outgoing{JSONRPC: "2.0", Method: "notifications/tools/list_changed", Params: struct{}{}})
		case <-tick.C:
			err = s.idle()
		case <-ended:
			return
		case <-a.closing:
			return
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// gets are the open GET streams by session ID.
type gets struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

// add registers a stream; the channel is closed when it has to end. It is nil
// if the session has one.
func (g *gets) add(sessionID string) (ended <-chan struct{}, remove func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.open[sessionID]; taken {
		return nil, nil
	}
	if g.open == nil {
		g.open = make(map[string]chan struct{})
	}
	c := make(chan struct{})
	g.open[sessionID] = c
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open[sessionID] == c {
			delete(g.open, sessionID)
		}
	}
}

// end ends the session's stream, if it has one.
func (g *gets) end(sessionID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.open[sessionID]; ok {
		delete(g.open, sessionID)
		close(c)
	}
}
