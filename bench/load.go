package main

import (
	"context"
	"fmt"

	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// roleLoad is the generator of the load on an MCP endpoint: a session of MCP
// 2025-11-25 between all clients. Its requests after the first are rounds of one
// kind of operation.
const roleLoad = "load"

// loadRound is a round of an operation of [roleLoad].
type loadRound struct {
	round
	Operation string
	Task      string // that the operation is about, if it is not of its making
}

// createAndResult is a call of the tool that does nothing, as a task, and the
// wait for its result.
const createAndResult = "create and result"

// getTask is a read of a task.
const getTask = "get"

func runLoad(ctx context.Context, r *role) error {
	var at served
	if err := r.in.Decode(&at); err != nil {
		return err
	}
	c, err := taskclient.Connect(ctx, at.Endpoint)
	if err != nil {
		return err
	}
	if err := r.out.Encode(struct{}{}); err != nil {
		return err
	}
	operations := map[string]func(loadRound) (string, error){
		createAndResult: func(loadRound) (string, error) {
			id, err := c.Create(ctx, toolNothing, struct{}{})
			if err != nil {
				return "", err
			}
			return id, c.Result(ctx, id, nil)
		},
		getTask: func(n loadRound) (string, error) {
			_, err := c.Get(ctx, n.Task)
			return n.Task, err
		},
	}
	return serve(r, func(n loadRound) (sample, error) {
		operation, ok := operations[n.Operation]
		if !ok {
			return sample{}, fmt.Errorf("there is no operation %q", n.Operation)
		}
		return measure(n.round, func() (string, error) { return operation(n) })
	})
}
