package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/longhaul-mcp/longhaul/bench/lean"
)

// roleLoad is the generator of the load on an MCP endpoint: a session of MCP
// 2025-11-25 between all clients, and a connection for each. Its requests after
// the first are rounds of one kind of operation.
const roleLoad = "load"

// loadRound is a round of an operation of [roleLoad].
type loadRound struct {
	round
	Operation operation
}

// operation is a request, and what has to be in the answer for it to be right.
type operation struct {
	Method string
	Params json.RawMessage
	Want   string
	// Then is a request on the task that the answer names. It has no parameters
	// of its own.
	Then *operation `json:",omitempty"`
}

// createAndResult is a call of the tool that does nothing, as a task, and the
// wait for its result.
func createAndResult() operation {
	o := create(toolNothing)
	o.Then = &operation{Method: "tasks/result", Want: "done"}
	return o
}

// create is a call of a tool as a task.
func create(tool string) operation {
	return operation{Method: "tools/call", Params: fmt.Appendf(nil, `{"name":%q,"arguments":{},"task":{}}`, tool), Want: taskID}
}

// read is a read of a task that has a certain status.
func read(id, status string) operation {
	return operation{Method: "tasks/get", Params: onTask(id), Want: fmt.Sprintf(`"status":%q`, status)}
}

// listed is a page of the list of tasks; no cursor is the first one.
func listed(cursor string) operation {
	o := operation{Method: "tasks/list", Params: json.RawMessage("{}"), Want: taskID}
	if cursor != "" {
		o.Params = fmt.Appendf(nil, `{"cursor":%q}`, cursor)
	}
	return o
}

func onTask(id string) json.RawMessage { return fmt.Appendf(nil, `{"taskId":%q}`, id) }

func runLoad(_ context.Context, r *role) error {
	var at served
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	session, err := lean.Connect(at.Endpoint)
	if err != nil {
		return err
	}
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	return serve(r, func(n loadRound) (sample, error) { return n.make(session) })
}

// make makes a round. Its connections are new, as servers close those that were
// idle while others had their turns.
func (r loadRound) make(session *lean.Session) (sample, error) {
	idle := make(chan *lean.Conn, r.Clients)
	for range r.Clients {
		c, err := session.Dial()
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		idle <- c
	}
	return measure(r.round, func() (string, error) {
		c := <-idle
		defer func() { idle <- c }()
		return r.Operation.do(c)
	})
}

// taskID comes before the ID of a task in a message.
const taskID = `"taskId":"`

// do returns the ID of the first task that the answer names.
func (o operation) do(c *lean.Conn) (id string, err error) {
	message, err := c.Do(o.Method, o.Params)
	if err != nil {
		return "", err
	}
	if !bytes.Contains(message, []byte(o.Want)) {
		return "", fmt.Errorf("%s: no %s in %s", o.Method, o.Want, message)
	}
	_, after, _ := bytes.Cut(message, []byte(taskID))
	before, _, _ := bytes.Cut(after, []byte(`"`))
	id = string(before)
	if o.Then != nil {
		then := *o.Then
		then.Params = onTask(id)
		_, err = then.do(c)
	}
	return id, err
}
