package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
)

// workload is what all clients do together.
type workload struct {
	cluster *cluster.Cluster
	log     *ops
	owners  map[string]string // tokens by name
	// target is how many tasks are created, 0 for any number.
	target int
	// tools and cutShort are those of [Options].
	tools    []string
	cutShort int

	mu    sync.Mutex
	tasks []*handle // acknowledged, of all owners
}

// handle is an acknowledged task.
type handle struct {
	Call
	id string

	mu    sync.Mutex
	ended bool // a read has said so
}

func (h *handle) hasEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

func (w *workload) acknowledge(c Call, id string) *handle {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &handle{Call: c, id: id}
	w.tasks = append(w.tasks, h)
	return h
}

func (w *workload) acknowledged() []*handle {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tasks[:len(w.tasks):len(w.tasks)]
}

// full reports whether there are as many tasks as there are to be.
func (w *workload) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target > 0 && len(w.tasks) >= w.target
}

// client is one client, which does one thing after the other.
type client struct {
	*caller
	w     *workload
	n     int
	owner string
	rand  *rand.Rand
	// stranger is another owner's.
	stranger *caller

	calls    int // made so far
	answers  int
	rebuffed bool      // nobody can tell what became of the last operation
	pending  *Call     // whose creation is to be tried again
	open     []*handle // own, that have not ended
	finished []*handle
}

func (w *workload) newClient(n int, seed uint64, names []string) *client {
	owner, other := names[n%len(names)], names[(n+1)%len(names)]
	return &client{
		caller: newCaller(w.owners[owner]), w: w, n: n, owner: owner,
		rand:     rand.New(rand.NewPCG(seed, uint64(n))),
		stranger: newCaller(w.owners[other]),
	}
}

// maxOpen bounds the tasks a client has under way; massOpen does where as many
// tasks are to be created as can be.
const (
	maxOpen  = 12
	massOpen = 100
)

// work does random things until ctx ends.
func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		c.step(ctx)
		think := time.Duration(c.rand.IntN(20)) * time.Millisecond
		if c.rebuffed {
			think *= 10
		}
		pause(ctx, think)
	}
}

func (c *client) step(ctx context.Context) {
	c.retire()
	if c.pending != nil && c.rand.IntN(2) == 0 {
		c.create(ctx, *c.pending)
		return
	}
	choice := c.rand.IntN(100)
	mayCreate, mass := c.pending == nil && !c.w.full(), c.w.target > 0
	switch {
	case mayCreate && c.rand.IntN(100) < c.w.cutShort:
		c.cutShort(ctx)
		return
	case mayCreate && len(c.open) < maxOpen && choice < 30,
		mayCreate && len(c.open) < massOpen && mass && c.rand.IntN(4) > 0:
		c.create(ctx, c.newCall(c.tool(), false))
		return
	case choice < 36 && !mass:
		c.hold(ctx)
		return
	case choice < 38:
		c.list(ctx)
		return
	}
	h := c.pick()
	if h == nil {
		return
	}
	switch {
	case choice < 55:
		c.get(ctx, h, c.wire())
	case choice < 65:
		wait := 3 * time.Second
		if mass {
			wait /= 10
		}
		c.result(ctx, h, 100*time.Millisecond+time.Duration(c.rand.Int64N(int64(wait))))
	case choice < 88:
		c.answer(ctx, h)
	case choice < 94:
		c.cancel(ctx, h, c.wire())
	case choice < 97:
		c.beStranger(ctx, h)
	case choice < 99 && h.Key != "":
		c.reuse(ctx, h)
	}
}

// retire sorts out what has ended.
func (c *client) retire() {
	var open []*handle
	for _, h := range c.open {
		if h.hasEnded() {
			c.finished = append(c.finished, h)
		} else {
			open = append(open, h)
		}
	}
	c.open = open
}

// pick picks a task, more often than not one that goes on.
func (c *client) pick() *handle {
	from := c.open
	if len(from) == 0 || len(c.finished) > 0 && c.rand.IntN(6) == 0 {
		from = c.finished
	}
	if len(from) == 0 {
		return nil
	}
	return from[c.rand.IntN(len(from))]
}

func (c *client) wire() string {
	if c.rand.IntN(2) == 0 {
		return Wire2025
	}
	return Wire2026
}

// api is where the next request goes: anywhere.
func (c *client) api() *cluster.Process { return c.w.cluster.APIs[c.rand.IntN(len(c.w.cluster.APIs))] }

// The tools, and how often each is called, of 100 calls.
var toolWeights = []struct {
	tool   string
	weight int
}{
	{quick, 10}, {"plain__slow", 18}, {"plain__once", 12}, {"plain__commit", 18}, {"plain__refuse", 4},
	{"plain__break", 4}, {"plain__ask", 14}, {"held__ask", 6}, {"held__once", 4}, {"held__glance", 4}, {"workflow__ask", 6},
}

// quick is the tool that takes no time.
const quick = "plain__quick"

func (c *client) tool() string {
	if often := c.w.tools; len(often) > 0 && c.rand.IntN(2) == 0 {
		return often[c.rand.IntN(len(often))]
	}
	at := c.rand.IntN(100)
	for _, t := range toolWeights {
		if at -= t.weight; at < 0 {
			return t.tool
		}
	}
	return quick
}

func (c *client) newCall(tool string, held bool) Call {
	c.calls++
	call := Call{Label: fmt.Sprintf("c%d-%d", c.n, c.calls), Owner: c.owner, Held: held, Tool: tool}
	asks := strings.HasSuffix(call.Tool, "ask") || strings.HasPrefix(call.Tool, "held")
	if held && asks {
		call.Tool, asks = "plain__commit", false
	}
	call.Millis = c.rand.IntN(1500)
	if asks && c.w.target > 0 && c.rand.IntN(4) > 0 {
		// What counts is how many there are, and answering takes time.
		call.Tool, asks = "plain__commit", false
	}
	if asks {
		call.Questions = 1 + c.rand.IntN(3)
		call.Millis /= 5
	}
	if !held && (c.w.target > 0 || c.rand.IntN(2) == 0) {
		// Two clients of different owners have the same keys.
		call.Key = fmt.Sprintf("key-%d-%d", c.n/2, c.calls)
	}
	c.w.log.plan(call)
	return call
}

func (call Call) arguments() object {
	return object{"label": call.Label, "ms": call.Millis, "questions": call.Questions}
}

// do runs an operation within its timeout and logs it.
func (c *client) do(ctx context.Context, o Op, timeout time.Duration, run func(context.Context, *Op) reply) Op {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	o.Client, o.Begin = c.n, time.Now()
	r := run(ctx, &o)
	o.Outcome, o.Error = r.outcome()
	o.End = time.Now()
	c.w.log.add(o)
	c.rebuffed = o.Outcome == Unknown
	return o
}

// create makes a call a task. One that has a key is tried again later if nobody
// can tell what became of it. It returns the task that was acknowledged, if any.
func (c *client) create(ctx context.Context, call Call) *handle {
	api, wire := c.api(), c.wire()
	o := c.do(ctx, Op{Kind: OpCreate, Wire: wire, API: api.Name, Label: call.Label}, opTimeout,
		func(ctx context.Context, o *Op) reply {
			r := c.call(ctx, api, wire, call)
			s := r.state()
			switch {
			case s.Task != nil:
				s = *s.Task
			case s.ResultType == "complete" && r.rpc == nil && r.err == nil:
				o.Final = finalResult + canonical(r.result)
			}
			o.TaskID, o.Status = s.TaskID, s.Status
			return r
		})
	c.pending = nil
	switch {
	case o.TaskID != "":
		h := c.w.acknowledge(call, o.TaskID)
		c.open = append(c.open, h)
		return h
	case o.Outcome != OK && call.Key != "":
		c.pending = &call
	}
	return nil
}

// latest is how much later than a quick task's creation is acknowledged its end
// may come, over slow links.
const latest = time.Second

// cutShort makes a task that ends at once and cancels it meanwhile, for the two
// to meet.
func (c *client) cutShort(ctx context.Context) {
	h := c.create(ctx, c.newCall(quick, false))
	// Most links are quick.
	late := c.rand.Float64()
	wire := c.wire()
	if h != nil {
		pause(ctx, time.Duration(late*late*late*float64(latest)))
		c.cancel(ctx, h, wire)
	}
}

// call sends the request that creates a task.
func (c *client) call(ctx context.Context, api *cluster.Process, wire string, call Call) reply {
	meta := object{}
	if call.Key != "" {
		meta["io.longhaul/idempotency-key"] = call.Key
	}
	params := object{"name": call.Tool, "arguments": call.arguments()}
	if wire == Wire2026 {
		return c.do2026(ctx, api, c.nextID(), "tools/call", call.Tool, params, meta, true)
	}
	params["task"], params["_meta"] = object{}, meta
	return c.do2025(ctx, api, c.nextID(), "tools/call", params, nil)
}

// reuse sends another call under a key that has been used.
func (c *client) reuse(ctx context.Context, h *handle) {
	api, wire := c.api(), c.wire()
	other := h.Call
	other.Label += "-not"
	c.do(ctx, Op{Kind: OpReuse, Wire: wire, API: api.Name, Label: h.Label, TaskID: h.id}, opTimeout,
		func(ctx context.Context, _ *Op) reply { return c.call(ctx, api, wire, other) })
}

// hold calls a tool and waits for its result.
func (c *client) hold(ctx context.Context) {
	api, wire, call := c.api(), c.wire(), c.newCall(c.tool(), true)
	c.do(ctx, Op{Kind: OpHeld, Wire: wire, API: api.Name, Label: call.Label}, opTimeout,
		func(ctx context.Context, o *Op) reply {
			params := object{"name": call.Tool, "arguments": call.arguments()}
			r := c.held(ctx, api, wire, call, params)
			for r.state().ResultType == "input_required" {
				// It is to be asked for again, anywhere.
				params["requestState"] = r.state().RequestState
				r = c.held(ctx, c.api(), wire, call, params)
			}
			if outcome, _ := r.outcome(); outcome == OK {
				o.Final = r.final2025()
			}
			return r
		})
}

func (c *client) held(ctx context.Context, api *cluster.Process, wire string, call Call, params object) reply {
	if wire == Wire2026 {
		return c.do2026(ctx, api, c.nextID(), "tools/call", call.Tool, params, object{}, false)
	}
	return c.do2025(ctx, api, c.nextID(), "tools/call", params, nil)
}

func (c *client) list(ctx context.Context) {
	api := c.api()
	c.do(ctx, Op{Kind: OpList, Wire: Wire2025, API: api.Name, Owner: c.owner}, opTimeout, func(ctx context.Context, o *Op) reply {
		r := c.do2025(ctx, api, c.nextID(), "tasks/list", object{}, nil)
		for _, t := range r.state().Tasks {
			o.Listed = append(o.Listed, t.TaskID)
		}
		return r
	})
}

// get reads a task, and returns what it asks for if that is said.
func (c *client) get(ctx context.Context, h *handle, wire string) taskState {
	api := c.api()
	var s taskState
	c.do(ctx, Op{Kind: OpGet, Wire: wire, API: api.Name, Label: h.Label, TaskID: h.id}, opTimeout,
		func(ctx context.Context, o *Op) reply {
			params := object{"taskId": h.id}
			var r reply
			if wire == Wire2025 {
				r = c.do2025(ctx, api, c.nextID(), "tasks/get", params, nil)
				s = r.state()
			} else {
				r = c.do2026(ctx, api, c.nextID(), "tasks/get", h.id, params, object{}, true)
				s = r.state()
				o.Final = s.final()
			}
			o.Status = s.Status
			return r
		})
	h.read(s.Status)
	return s
}

func (h *handle) read(status string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = h.ended || terminal(status)
}

// result waits for a task for some time, on 2025, and answers what it is asked
// meanwhile.
func (c *client) result(ctx context.Context, h *handle, wait time.Duration) {
	api := c.api()
	c.do(ctx, Op{Kind: OpResult, Wire: Wire2025, API: api.Name, Label: h.Label, TaskID: h.id}, wait,
		func(ctx context.Context, o *Op) reply {
			r := c.do2025(ctx, api, c.nextID(), "tasks/result", object{"taskId": h.id}, func(m rpc) { c.answer2025(ctx, h, m) })
			outcome, _ := r.outcome()
			if outcome == OK || outcome == Failed && !strings.Contains(r.rpc.Message, "not found") {
				o.Final = r.final2025()
				h.read("completed") // or however it ended
			}
			return r
		})
}

// answer2025 answers a request on a stream: its ID says whose it is.
func (c *client) answer2025(ctx context.Context, h *handle, m rpc) {
	var id string
	var params struct {
		Message string `json:"message"`
	}
	if errors.Join(json.Unmarshal(m.ID, &id), json.Unmarshal(m.Params, &params)) != nil {
		return
	}
	key := strings.TrimPrefix(id, "tk:"+h.id+":")
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		key = key[:i]
	}
	c.give(ctx, h, Wire2025, key, params.Message, func(ctx context.Context, api *cluster.Process, answer object) reply {
		return c.respond(ctx, api, m.ID, answer)
	})
}

// answer looks what a task asks for, on 2026, and answers some of it.
func (c *client) answer(ctx context.Context, h *handle) {
	for key, in := range c.get(ctx, h, Wire2026).InputRequests {
		c.give(ctx, h, Wire2026, key, in.Params.Message, func(ctx context.Context, api *cluster.Process, answer object) reply {
			return c.update(ctx, api, h, key, answer)
		})
		if c.rand.IntN(2) == 0 {
			return
		}
	}
	if c.rand.IntN(4) == 0 {
		c.give(ctx, h, Wire2026, "no-such-key", "", func(ctx context.Context, api *cluster.Process, answer object) reply {
			return c.update(ctx, api, h, "no-such-key", answer)
		})
	}
}

func (c *client) update(ctx context.Context, api *cluster.Process, h *handle, key string, answer object) reply {
	return c.do2026(ctx, api, c.nextID(), "tasks/update", h.id,
		object{"taskId": h.id, "inputResponses": object{key: answer}}, object{}, true)
}

// give answers a request once, twice, not acceptably, or not at all.
func (c *client) give(ctx context.Context, h *handle, wire, key, message string, send func(context.Context, *cluster.Process, object) reply) {
	times, invalid, declined := 1, false, false
	switch choice := c.rand.IntN(20); {
	case choice < 5:
		times = 2
	case choice < 7:
		invalid = true
	case choice < 8:
		declined = true
	case choice < 9:
		return
	}
	for range times {
		c.answers++
		value := fmt.Sprintf("a%d-%d", c.n, c.answers)
		answer := object{"action": "accept", "content": object{"value": value}}
		switch {
		case invalid:
			answer["content"] = object{"value": c.answers}
		case declined:
			answer, value = object{"action": "decline"}, "DECLINE"
		}
		api := c.api()
		o := Op{
			Kind: OpAnswer, Wire: wire, API: api.Name, Label: h.Label, TaskID: h.id,
			Key: key, Question: question(message), Value: value, Invalid: invalid,
		}
		c.do(ctx, o, opTimeout, func(ctx context.Context, _ *Op) reply { return send(ctx, api, answer) })
	}
}

// cancel cancels a task.
func (c *client) cancel(ctx context.Context, h *handle, wire string) {
	api := c.api()
	c.do(ctx, Op{Kind: OpCancel, Wire: wire, API: api.Name, Label: h.Label, TaskID: h.id}, opTimeout,
		func(ctx context.Context, o *Op) reply {
			params := object{"taskId": h.id}
			if wire == Wire2026 {
				return c.do2026(ctx, api, c.nextID(), "tasks/cancel", h.id, params, object{}, true)
			}
			r := c.do2025(ctx, api, c.nextID(), "tasks/cancel", params, nil)
			o.Status = r.state().Status
			if r.rpc != nil {
				// It had ended, and the refusal says how.
				if _, status, ok := strings.Cut(r.rpc.Message, "terminal status '"); ok {
					o.Status = strings.TrimSuffix(status, "'")
				}
			}
			return r
		})
}

// beStranger does to a task what its owner may do, as somebody else, and the
// same to one that is not there.
func (c *client) beStranger(ctx context.Context, h *handle) {
	api, wire := c.api(), c.wire()
	methods := []string{"tasks/get", "tasks/cancel", "tasks/update"}
	if wire == Wire2025 {
		methods[2] = "tasks/result"
	}
	method := methods[c.rand.IntN(len(methods))]
	id := c.stranger.nextID()
	send := func(ctx context.Context, taskID string) reply {
		params := object{"taskId": taskID}
		if wire == Wire2025 {
			return c.stranger.do2025(ctx, api, id, method, params, nil)
		}
		if method == "tasks/update" {
			params["inputResponses"] = object{"q1": object{"action": "cancel"}}
		}
		return c.stranger.do2026(ctx, api, id, method, taskID, params, object{}, true)
	}
	c.do(ctx, Op{Kind: OpStranger, Wire: wire, API: api.Name, Label: h.Label, TaskID: h.id}, opTimeout,
		func(ctx context.Context, o *Op) reply {
			foreign := send(ctx, h.id)
			if outcome, _ := foreign.outcome(); outcome == Unknown {
				return foreign
			}
			nobodys := send(ctx, strings.Repeat("x", len(h.id)))
			if outcome, _ := nobodys.outcome(); outcome == Unknown {
				return nobodys
			}
			o.Foreign = fmt.Sprint(foreign.status, " ", method, " ", foreign.body)
			o.Nobodys = fmt.Sprint(nobodys.status, " ", method, " ", nobodys.body)
			return reply{status: foreign.status}
		})
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
