package conformance_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"
)

// A caller calls tools as clients of its kind do, and has what they ask
// answered. What a tool says is its text, also where it says that it failed;
// the error is one of the protocol.
type caller interface {
	call(tool string, arguments object, answer answerer) (text string, err error)
}

// An answerer is the person, the model and the editor behind a caller. It
// returns the result of a request.
type answerer func(method string, params json.RawMessage) object

// everyCapability is what a client declares that can be asked for anything. A
// version that lacks one of these does not know what the client means.
var everyCapability = object{
	"elicitation": object{"form": object{}, "url": object{}},
	"sampling":    object{"tools": object{}},
	"roots":       object{},
}

// callers are all kinds of callers that can be asked, by name.
var callers = []struct {
	name    string
	connect func(t *testing.T, url string) caller
}{
	{"2025-11-25 task", func(t *testing.T, url string) caller {
		return taskCaller2025{openSession(t, url, "2025-11-25", everyCapability)}
	}},
	{"2025-11-25 call", func(t *testing.T, url string) caller {
		return plainCaller2025{openSession(t, url, "2025-11-25", everyCapability)}
	}},
	{"2025-06-18 call", func(t *testing.T, url string) caller {
		return plainCaller2025{openSession(t, url, "2025-06-18", everyCapability)}
	}},
	{"2026-07-28 task", func(t *testing.T, url string) caller {
		capabilities := maps.Clone(everyCapability)
		capabilities["extensions"] = tasksExtension
		return taskCaller2026{newClient2026(t, url, capabilities)}
	}},
	{"2026-07-28 call", func(t *testing.T, url string) caller {
		return plainCaller2026{newClient2026(t, url, everyCapability)}
	}},
}

// taskCaller2025 makes the call a task and waits in tasks/result, on whose
// stream it is asked (2025-11-25, tasks, "Input Required Status").
type taskCaller2025 struct{ client2025 }

func (c taskCaller2025) call(tool string, arguments object, answer answerer) (string, error) {
	id, err := c.createOnce("", tool, arguments)
	if err != nil {
		return "", err
	}
	return c.wait("tasks/result", object{"taskId": id}, answer)
}

// plainCaller2025 is asked on the stream of its call.
type plainCaller2025 struct{ client2025 }

func (c plainCaller2025) call(tool string, arguments object, answer answerer) (string, error) {
	return c.wait("tools/call", object{"name": tool, "arguments": arguments}, answer)
}

// wait sends a request and answers those that come before its result.
func (c client2025) wait(method string, params object, answer answerer) (string, error) {
	raw, err := c.try(method, params, nil, func(m rpc) bool {
		result, err := json.Marshal(answer(m.Method, m.Params))
		if err != nil {
			c.t.Fatal(err)
		}
		c.send(rpc{ID: m.ID, Result: result})
		return true
	})
	if err != nil {
		return "", err
	}
	return textOf(raw)
}

func textOf(raw json.RawMessage) (string, error) {
	var r toolResult
	err := json.Unmarshal(raw, &r)
	return r.text(), err
}

// inputRequests are what a tool asks a client of 2026, by key.
type inputRequests map[string]inputRequest

type inputRequest struct {
	Method string
	Params json.RawMessage
}

func (r inputRequests) answers(answer answerer) object {
	answers := object{}
	for key, in := range r {
		answers[key] = answer(in.Method, in.Params)
	}
	return answers
}

// taskCaller2026 makes the call a task, unless it ends at once, and polls it.
type taskCaller2026 struct{ client2026 }

func (c taskCaller2026) call(tool string, arguments object, answer answerer) (string, error) {
	raw, err := c.tryRequest("tools/call", tool, object{"name": tool, "arguments": arguments}, object{})
	if err != nil {
		return "", err
	}
	var created struct{ ResultType, TaskID string }
	if err := json.Unmarshal(raw, &created); err != nil {
		return "", err
	}
	if created.ResultType != "task" {
		return textOf(raw)
	}
	answered := map[string]bool{}
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := c.tryRequest("tasks/get", created.TaskID, object{"taskId": created.TaskID}, object{})
		if err != nil {
			return "", err
		}
		var now struct {
			taskState
			InputRequests inputRequests
			Result        json.RawMessage
			Error         *rpcError
		}
		if err := json.Unmarshal(raw, &now); err != nil {
			return "", err
		}
		switch now.Status {
		case "completed":
			return textOf(now.Result)
		case "failed":
			return "", now.Error
		case "cancelled":
			return "", fmt.Errorf("the task is %s: %s", now.Status, now.StatusMessage)
		}
		// An acknowledged answer may take a moment to show.
		maps.DeleteFunc(now.InputRequests, func(key string, _ inputRequest) bool { return answered[key] })
		if answers := now.InputRequests.answers(answer); len(answers) > 0 {
			for key := range answers {
				answered[key] = true
			}
			if _, err := c.tryRequest("tasks/update", created.TaskID, object{"taskId": created.TaskID, "inputResponses": answers}, object{}); err != nil {
				return "", err
			}
		}
		select {
		case <-tick.C:
		case <-tooLong.C:
			return "", fmt.Errorf("the task is still %+v", now.taskState)
		}
	}
}

// plainCaller2026 is asked by results that want the call to be made again with
// the answers (2026-07-28, patterns/mrtr).
type plainCaller2026 struct{ client2026 }

func (c plainCaller2026) call(tool string, arguments object, answer answerer) (string, error) {
	params := object{"name": tool, "arguments": arguments}
	for {
		raw, err := c.tryRequest("tools/call", tool, params, object{})
		if err != nil {
			return "", err
		}
		var round struct {
			ResultType    string
			InputRequests inputRequests
			RequestState  string
		}
		if err := json.Unmarshal(raw, &round); err != nil {
			return "", err
		}
		if round.ResultType != "input_required" {
			return textOf(raw)
		}
		params = object{
			"name": tool, "arguments": arguments,
			"inputResponses": round.InputRequests.answers(answer), "requestState": round.RequestState,
		}
	}
}
