package faults_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/cluster"
	"github.com/longhaul-mcp/longhaul/internal/effects"
)

// Temporal is killed and comes back on the same database. Its clients, those
// that wait included, notice nothing but a delay.
func TestTemporalKilled(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	crash := func(w *world) {
		w.t.Helper()
		w.Temporal.Kill()
		w.must(w.Temporal.Start(w.ctx))
	}
	// waiting waits for a result from before the crash on. It returns when the
	// wait has begun.
	waiting := func(w *world, c *client, id string) func() (json.RawMessage, error) {
		w.t.Helper()
		waits := w.arm("result-waits")
		defer waits.Disarm()
		type reply struct {
			raw json.RawMessage
			err error
		}
		replies := make(chan reply, 1)
		go func() {
			raw, err := c.do("tasks/result", object{"taskId": id}, nil)
			replies <- reply{raw, err}
		}()
		w.hit(waits).Go()
		return func() (json.RawMessage, error) {
			r := <-replies
			return r.raw, r.err
		}
	}
	t.Run("in the middle of a running round", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		id := c.created("plain__once", object{"label": label, "ms": 4000})
		w.awaitEffect(effects.Began, label)
		result := waiting(w, c, id)
		crash(w)
		w.wantCall(result())(label)
		w.wantEffects(effects.Began, label, 1)
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("when a round has ended and not reported it", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		ended := w.arm("round-ended")
		id := c.created("plain__once", object{"label": label})
		hit := w.hit(ended)
		result := waiting(w, c, id)
		w.Temporal.Kill()
		hit.Go()
		ended.Disarm()
		w.must(w.Temporal.Start(w.ctx))
		w.wantCall(result())(label)
		w.wantEffects(effects.Happened, label, 1)
	})
	t.Run("in the middle of a held round", func(t *testing.T) {
		w := w.in(t)
		c, label := w.connect(wire2025), t.Name()
		id := c.created("held__once", object{"label": label, "questions": 2})
		x, err := c.send(w.ctx, "tasks/result", object{"taskId": id}, nil)
		w.must(err)
		for _, value := range []string{"one", "two"} {
			m, err := x.asked()
			w.must(err)
			crash(w)
			w.poll("the answer is taken", func() bool { return c.respond(m, value) == nil })
		}
		w.wantCall(x.response())(label, "one", "two")
		w.wantEffects(effects.Happened, label, 1)
		w.wantAnswers(label, "one", "two")
	})
	for _, tool := range []string{"plain__ask", "workflow__ask"} {
		t.Run("in the middle of a wait, of "+tool, func(t *testing.T) {
			w := w.in(t)
			c, label := w.connect(wire2026), t.Name()
			id := c.created(tool, object{"label": label, "questions": 1})
			c.awaitAsks(id)
			key, err := c.asks(id)
			w.must(err)
			crash(w)
			c.await(id, "asks the same", func(s state) bool {
				_, same := s.InputRequests[key]
				return same && len(s.InputRequests) == 1
			})
			w.poll("the answer is taken", func() bool { return c.update(id, key, "yes") == nil })
			c.wantEnd(id, label, "yes")
			w.wantAnswers(label, "yes")
		})
	}
}

// wantEnd is wantResult for a task that the workers may take a while to hear of.
func (c *client) wantEnd(id, label string, answers ...string) {
	c.w.t.Helper()
	c.await(id, "has completed", func(s state) bool { return s.Status == "completed" })
	c.wantResult(id, label, answers...)
}

// request is one that needs Temporal.
type request struct {
	name string
	// says is what an error has to say, beside that the engine is unavailable.
	says string
	do   func() error
}

// What a client may do whose request found no engine. A call that may have been
// started is the same call again only under a key.
const (
	again      = "nothing is lost: try again"
	maybeTwice = "may run the tool twice"
)

// away is a task that asks, and what can be requested of both wires meanwhile.
type away struct {
	w            *world
	c2025, c2026 *client
	label        string
	id, key      string
	stream       *exchange // of tasks/result, on which it has asked
	requests     []request
}

func prepareAway(w *world) *away {
	w.t.Helper()
	a := &away{w: w, label: w.t.Name() + " away", c2025: w.connect(wire2025), c2026: w.connect(wire2026).on(w.APIs[1])}
	arguments := object{"label": a.label, "questions": 1}
	a.id = a.c2026.created("plain__ask", arguments)
	a.c2026.awaitAsks(a.id)
	var err error
	a.key, err = a.c2026.asks(a.id)
	w.must(err)
	a.stream, err = a.c2025.send(w.ctx, "tasks/result", object{"taskId": a.id}, nil)
	w.must(err)
	asked, err := a.stream.asked()
	w.must(err)

	x, err := a.c2026.call(w.ctx, "", "plain__ask", arguments)
	w.must(err)
	raw, err := x.response()
	w.must(err)
	var held struct{ RequestState string }
	w.must(json.Unmarshal(raw, &held))
	if held.RequestState == "" {
		w.t.Fatalf("the held call does not ask: %s", raw)
	}

	add := func(name, says string, do func() error) {
		a.requests = append(a.requests, request{name, says, do})
	}
	request := func(c *client, method, how, says string, params, meta object) {
		add(strings.Join([]string{c.wire, method, how}, " "), says, func() error {
			_, err := c.do(method, params, meta)
			return err
		})
	}
	one := object{"taskId": a.id}
	call := object{"name": "plain__quick", "arguments": object{"label": w.t.Name()}}
	asTask := maps.Clone(call)
	asTask["task"] = object{}
	resumed := object{"name": "plain__ask", "arguments": arguments, "requestState": held.RequestState}
	request(a.c2025, "tools/call", "as a task", maybeTwice, asTask, nil)
	request(a.c2025, "tools/call", "as a task with a key", again, asTask, callMeta(a.label+wire2025))
	request(a.c2025, "tools/call", "held", maybeTwice, call, nil)
	request(a.c2025, "tools/call", "held with a key", again, call, callMeta(a.label+wire2025))
	request(a.c2025, "tasks/get", "", again, one, nil)
	request(a.c2025, "tasks/result", "", again, one, nil)
	request(a.c2025, "tasks/list", "", again, object{}, nil)
	request(a.c2025, "tasks/cancel", "", again, one, nil)
	add(wire2025+" response", again, func() error { return a.c2025.respond(asked, "no") })
	add(wire2025+" notifications/cancelled", again, func() error { return a.c2025.cancelCall(1) })
	request(a.c2026, "tools/call", "as a task", maybeTwice, call, nil)
	request(a.c2026, "tools/call", "as a task with a key", again, call, callMeta(a.label+wire2026))
	request(a.c2026.plain(), "tools/call", "held", maybeTwice, call, nil)
	request(a.c2026.plain(), "tools/call", "held with a key", again, call, callMeta(a.label+wire2026))
	request(a.c2026.plain(), "tools/call", "held with requestState", again, resumed, nil)
	request(a.c2026, "tasks/get", "", again, one, nil)
	request(a.c2026, "tasks/update", "", again, object{"taskId": a.id, "inputResponses": object{a.key: accepted("no")}}, nil)
	request(a.c2026, "tasks/update", "with no answer", again, object{"taskId": a.id, "inputResponses": object{}}, nil)
	request(a.c2026, "tasks/cancel", "", again, one, nil)
	add(wire2026+" subscriptions/listen", again, func() error {
		x, err := a.c2026.send(w.ctx, "subscriptions/listen", object{"notifications": object{"taskIds": []string{a.id}}}, nil)
		if err != nil {
			return err
		}
		defer x.body.Close()
		m, err := x.next()
		if err == nil && m.Error != nil {
			err = m.Error
		}
		return err
	})
	return a
}

// wantUnavailable makes all the requests at once. Each fails and says why; that
// the engine is away says nothing of a task. What needs no engine works.
func (a *away) wantUnavailable() {
	a.w.t.Helper()
	errs := make([]error, len(a.requests))
	var all sync.WaitGroup
	for i, r := range a.requests {
		all.Go(func() { errs[i] = r.do() })
	}
	for _, c := range []*client{a.c2025, a.c2026} {
		if _, err := c.do("tools/list", object{}, nil); err != nil {
			a.w.t.Errorf("%s tools/list: %v", c.wire, err)
		}
	}
	if _, err := a.c2025.do("ping", object{}, nil); err != nil {
		a.w.t.Errorf("ping: %v", err)
	}
	if _, err := a.c2026.do("server/discover", object{}, nil); err != nil {
		a.w.t.Errorf("server/discover: %v", err)
	}
	all.Wait()
	for i, r := range a.requests {
		a.w.t.Run(r.name, func(t *testing.T) {
			wantError(t, errs[i], codeInternal, "the task engine is unavailable")
			wantError(t, errs[i], codeInternal, r.says)
		})
	}
	for _, p := range a.w.APIs {
		resp, err := transport.Get(strings.TrimSuffix(p.URL(), "/mcp") + "/readyz")
		if err != nil {
			a.w.t.Error(err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			a.w.t.Errorf("%s says it is ready: %s", p.Name, resp.Status)
		}
	}
}

// wantBack waits until the task can be read again on both wires, from the
// processes that there have been all the time.
func (a *away) wantBack() {
	a.w.t.Helper()
	for _, c := range []*client{a.c2025, a.c2026} {
		a.w.poll("the task can be read on "+c.wire, func() bool {
			_, err := c.get(a.id)
			return err == nil
		})
	}
}

// Requests made while Temporal is away fail and say so, and work again by
// themselves when it is back.
func TestTemporalAway(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	a := prepareAway(w)
	w.Temporal.Kill()
	a.wantUnavailable()
	w.must(w.Temporal.Start(w.ctx))
	a.wantBack()
	// Nothing has got through to a Temporal that was not there.
	w.poll("the answer is taken", func() bool { return a.c2026.update(a.id, a.key, "yes") == nil })
	w.wantCall(a.stream.response())(a.label, "yes")
	w.wantAnswers(a.label, "yes")
	w.wantEffects(effects.Began, t.Name(), 0)
	for _, r := range a.requests {
		w.poll(r.name+" works again", func() bool {
			err := r.do()
			return err == nil || !strings.Contains(err.Error(), "unavailable")
		})
	}
}

// stop is how long Temporal is stopped.
const stop = 30 * time.Second

// Temporal is stopped for half a minute, with all that can be going on.
func TestTemporalStopped(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{})
	a := prepareAway(w)
	c := w.connect(wire2025)
	type running struct {
		name, tool string
		millis     int
		answer     bool
		label, id  string
		stream     *exchange
		asked      message
	}
	all := []*running{
		{name: "a tool that ends meanwhile", tool: "plain__once", millis: 10_000},
		{name: "a tool that runs through", tool: "plain__once", millis: 36_000},
		{name: "a held round", tool: "held__once", answer: true},
		{name: "a wait between rounds", tool: "plain__ask", answer: true},
		{name: "a wait of a workflow", tool: "workflow__ask", answer: true},
		{name: "a held call", tool: "plain__once", millis: 36_000},
	}
	for _, r := range all {
		r.label = r.name
		arguments := object{"label": r.label, "ms": r.millis}
		if r.answer {
			arguments["questions"] = 1
		}
		var err error
		if r.name == "a held call" {
			r.stream, err = c.call(w.ctx, "", r.tool, arguments)
		} else {
			r.id = c.created(r.tool, arguments)
			r.stream, err = c.send(w.ctx, "tasks/result", object{"taskId": r.id}, nil)
		}
		w.must(err)
		if r.answer {
			r.asked, err = r.stream.asked()
			w.must(err)
		} else {
			w.awaitEffect(effects.Began, r.label)
		}
	}
	modern := w.connect(wire2026)
	pushed := modern.subscribe(all[0].id)
	pushed.awaitStatus(w, "working")

	over := time.NewTimer(stop)
	defer over.Stop()
	w.must(w.Temporal.Pause())
	a.wantUnavailable() // and returns, while Temporal is still stopped
	select {
	case <-over.C:
		t.Errorf("requests took %s to fail", stop)
	default:
		<-over.C
	}
	w.must(w.Temporal.Resume())
	a.wantBack()
	t.Run("a subscription survives", func(t *testing.T) { pushed.awaitStatus(w.of(t), "completed") })
	for _, r := range all {
		t.Run(r.name+" survives", func(t *testing.T) {
			w := w.of(t)
			var answers []string
			if r.answer {
				w.must(c.respond(r.asked, "yes"))
				answers = []string{"yes"}
			}
			w.wantCall(r.stream.response())(r.label, answers...)
			w.wantAnswers(r.label, answers...)
			if strings.HasSuffix(r.tool, "__once") {
				w.wantEffects(effects.Happened, r.label, 1)
			}
		})
	}
}
