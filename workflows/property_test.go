package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/internal/taskmodel"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// The workflow is run with a random tool and random callers, beside the model
// that the state machine is held to as well. Longer, and again:
//
//	go test -run TestTaskProperties -rapid.checks=10000 ./workflows
//	go test -run TestTaskProperties -rapid.seed=N ./workflows
func TestTaskProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		client := rapid.SampledFrom(taskmodel.Clients).Draw(t, "client")
		retry := rapid.Bool().Draw(t, "may be run again")
		script := rapid.SliceOfN(happening(client), 1, 20).Draw(t, "script")
		if err := newLife(client, retry, script...).live(); err != nil {
			t.Fatal(err)
		}
	})
}

// What the random ones have found.
func TestTaskScripts(t *testing.T) {
	forms := taskmodel.Client{Declared: `{"elicitation":{}}`, Serves: []taskmodel.Kind{taskmodel.Form}}
	asks := func(what string) happened {
		return happened{After: time.Second, What: what, Keys: []string{"a"}, Kinds: forms.Serves}
	}
	callAgain := happened{After: 2 * time.Minute, What: "call again"}
	answer := happened{After: time.Minute, What: "answer", Refuse: []bool{false}}
	for name, script := range map[string][]happened{
		"a round that ends by asking what it asks already": {asks("ask"), asks("round asks"), answer, answer},
		"a round that asks, and then only to be called again": {
			asks("ask"), {After: time.Second, What: "call again"}, {After: time.Millisecond, What: "answer nothing", Refuse: []bool{false}},
		},
		"a tool that wants to be called again when its time is over": append(slices.Repeat([]happened{callAgain}, 7),
			happened{After: 45*time.Minute + 50*time.Second, What: "call again"},
			happened{After: 12 * time.Second, What: "answer nothing", Refuse: []bool{false}},
		),
	} {
		t.Run(name, func(t *testing.T) {
			if err := newLife(forms, false, script...).live(); err != nil {
				t.Error(err)
			}
		})
	}
}

// happened is something that happens to a task, some time after what happened
// before. What of it is possible shows when it happens.
type happened struct {
	After  time.Duration
	What   string
	Which  int      // of several
	Keys   []string // of what the tool asks, its own
	Kinds  []taskmodel.Kind
	Refuse []bool // which of the answers are not acceptable
	// Together has the tool's round end in the same workflow task.
	Together bool
}

// ends are how a round may end.
var ends = []string{
	"result", "error result", "error", "unknown", "call again",
	"non-retryable failure", "heartbeat timeout", "schedule-to-close timeout",
}

func happening(client taskmodel.Client) *rapid.Generator[happened] {
	kinds := rapid.SampledFrom(append(slices.Repeat(client.Serves, 8), taskmodel.Kinds...))
	keys := rapid.SampledFrom([]string{"a", "b", "a#2", taskmodel.LargeKey, taskmodel.LargeKey + " too"})
	return rapid.Custom(func(t *rapid.T) happened {
		h := happened{
			After: rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, 20 * time.Minute}).Draw(t, "after"),
			What: rapid.SampledFrom([]string{
				"answer", "answer", "answer", "answer twice", "answer nothing",
				"ask", "ask", "ask", "ask late",
				"round asks", "round asks", "round asks", "round ends", "call again", "call again",
				"continue as new", "continue as new", "cancel", "cancel of the run",
			}).Draw(t, "what"),
			Which:    rapid.IntRange(0, 1000).Draw(t, "which"),
			Keys:     rapid.SliceOfNDistinct(keys, 1, 3, rapid.ID[string]).Draw(t, "keys"),
			Refuse:   rapid.SliceOfN(rapid.Bool(), 3, 3).Draw(t, "refuse"),
			Together: rapid.IntRange(0, 5).Draw(t, "together") == 0,
		}
		h.Kinds = rapid.SliceOfN(kinds, len(h.Keys), len(h.Keys)).Draw(t, "kinds")
		return h
	})
}

// life is the life of one task, run after run.
type life struct {
	in     task.StartInput
	script []happened
	model  taskmodel.Model
	now    time.Time // when the next run starts
	events int
	err    error // the first thing that was not as it has to be

	env *testsuite.TestWorkflowEnvironment
	// memo and asks are what the memo and the search attribute say.
	memo  task.State
	asks  bool
	ended int // terminal states projected
	// idleSince is when a round ended that asked nothing.
	idleSince time.Time
	updates   []*update
	calls     map[int]int // how often each round was run
	running   []byte      // the task token of the running round

	rounds chan begun // that the model has not heard of
}

type begun struct {
	in    task.RoundInput
	token []byte
}

// update is a request that a running round has made.
type update struct {
	round   int
	toolKey string
	// stale, or undeclared: it may not be made.
	stale, undeclared bool

	accepted, rejected, complete bool
	answer                       task.AskAnswer
	err                          error
}

func newLife(client taskmodel.Client, retry bool, script ...happened) *life {
	return &life{
		in: task.StartInput{
			Card:         task.Card{Tool: "deploy", CreatedAt: epoch, TTLMillis: time.Hour.Milliseconds()},
			Capabilities: json.RawMessage(client.Declared),
			Policy:       task.Policy{Retry: retry},
		},
		script: script,
		model:  taskmodel.Model{Client: client},
		now:    epoch,
		memo:   task.InitialState(epoch),
		calls:  map[int]int{},
		rounds: make(chan begun, 1),
	}
}

// live runs the task to its end.
func (l *life) live() error {
	for {
		err := l.run()
		if l.err != nil {
			return l.err
		}
		var next *workflow.ContinueAsNewError
		if !errors.As(err, &next) {
			return l.closed(err)
		}
		if !l.model.WantsRound() {
			return fmt.Errorf("the task continues as new, but it is %s (running: %v)", l.model.Status(), l.model.Running)
		}
		if err := l.answered(true); err != nil {
			return fmt.Errorf("at continue-as-new: %w", err)
		}
		card := l.in.Card
		l.in, l.updates, l.now = task.StartInput{}, nil, l.env.Now()
		if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &l.in); err != nil {
			return err
		}
		if l.in.Card != card {
			return fmt.Errorf("the card changed from %+v to %+v", card, l.in.Card)
		}
	}
}

// run is one run of the workflow. What is left of the script happens to it.
func (l *life) run() error {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestWorkflowEnvironment()
	l.env = env
	env.SetTestTimeout(30 * time.Second)
	env.SetWorkerOptions(patient)
	env.SetStartTime(l.now)
	workflows.Register(env, nil)
	env.RegisterActivityWithOptions(l.round, activity.RegisterOptions{Name: task.ActivityRound})
	env.OnUpsertMemo(mock.Anything).Run(func(args mock.Arguments) {
		l.memo = args.Get(0).(map[string]any)[task.MemoState].(task.State)
		if l.memo.Status.Terminal() {
			l.ended++
		}
	}).Return(nil).Maybe()
	env.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) {
		_, l.asks = args.Get(0).(temporal.SearchAttributes).GetKeyword(temporal.NewSearchAttributeKeyKeyword(task.SearchStatus))
	}).Return(nil).Maybe()
	l.schedule()
	env.ExecuteWorkflow(task.WorkflowTask, l.in)
	return env.GetWorkflowError()
}

// schedule has the next of the script happen in its time, and at the end of the
// script a cancel, which nothing holds up.
func (l *life) schedule() {
	h := happened{After: time.Millisecond, What: "cancel"}
	if len(l.script) > 0 {
		h = l.script[0]
	}
	patience := 10_000
	var happen func()
	happen = func() {
		err := l.look()
		if errors.Is(err, errNotAtRest) && patience > 0 {
			patience--
			l.env.RegisterDelayedCallback(happen, time.Millisecond)
			return
		}
		if err != nil {
			l.err = err
			l.env.CancelWorkflow()
			return
		}
		l.happen(h)
		if len(l.script) > 0 {
			l.script = l.script[1:]
		}
		l.schedule()
	}
	l.env.RegisterDelayedCallback(happen, h.After)
}

// round is the activity. It goes on until the script ends it.
func (l *life) round(ctx context.Context, in task.RoundInput) (task.RoundResult, error) {
	l.rounds <- begun{in, activity.GetInfo(ctx).TaskToken}
	return task.RoundResult{}, activity.ErrResultPending
}

// begin takes note of a round.
func (l *life) begin(r begun) error {
	l.running, l.idleSince = r.token, time.Time{}
	if l.calls[r.in.Round]++; l.calls[r.in.Round] > 1 {
		return fmt.Errorf("round %d was run %d times", r.in.Round, l.calls[r.in.Round])
	}
	return l.model.Begin(r.in.Round, r.in.Answers, r.in.RequestState)
}

// errNotAtRest: the workflow has still to do what it did not wait for anything
// to do. This environment has activities begin in goroutines of their own, and
// time pass meanwhile.
var errNotAtRest = errors.New("the workflow has not begun the round that it should")

// look compares the workflow with the model.
func (l *life) look() error {
	select {
	case r := <-l.rounds:
		if err := l.begin(r); err != nil {
			return err
		}
	default:
	}
	value, err := l.env.QueryWorkflow(task.QueryTask)
	if err != nil {
		return errNotAtRest // it has not even begun
	}
	var p task.Projection
	if err := value.Get(&p); err != nil {
		return err
	}
	if err := l.expired(p.State); err != nil {
		return err
	}
	if l.model.WantsRound() && (l.idleSince.IsZero() || l.env.Now().Sub(l.idleSince) > time.Minute+time.Second) {
		return errNotAtRest
	}
	if err := l.model.Check(p.State); err != nil {
		return err
	}
	if err := sameState(l.memo, p.State); err != nil {
		return err
	}
	if l.asks != (p.State.Status == task.StatusInputRequired) {
		return fmt.Errorf("the task is %s, but %s is set: %v", p.State.Status, task.SearchStatus, l.asks)
	}
	return l.answered(false)
}

func sameState(memo, state task.State) error {
	a, err := json.Marshal(memo)
	if err != nil {
		return err
	}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if string(a) != string(b) {
		return fmt.Errorf("the memo says %.300s, the query %.300s", a, b)
	}
	return nil
}

// expired sees to it that the model expires when the task does, which is when
// its time is over and no round runs. (This environment knows no timeouts of
// activities.)
func (l *life) expired(s task.State) error {
	over := l.env.Now().Sub(epoch) - l.in.Card.TTL()
	has := s.Outcome != nil && s.Outcome.Kind == task.OutcomeExpired
	switch may := l.model.Ended == "" && !l.model.Running; {
	case may && has && over < 0:
		return fmt.Errorf("the task expired %s too early", -over)
	case may && has:
		l.model.End(task.OutcomeExpired)
	case may && over > time.Second:
		return fmt.Errorf("the task has not expired, although its time is over since %s", over)
	}
	return nil
}

// answered checks that whoever has asked has its answer, when it is there or
// when there will be none; at the close everybody has one.
func (l *life) answered(closed bool) error {
	for _, u := range l.updates {
		over := closed || l.model.Ended != "" || !l.model.Running || l.model.Rounds != u.round
		switch {
		case u.stale:
			if !u.rejected {
				return fmt.Errorf("a request of round %d, which is over, was taken", u.round)
			}
			continue
		case u.rejected, u.err != nil:
			return fmt.Errorf("the request %q was rejected: %w", u.toolKey, u.err)
		case u.undeclared:
			if !u.complete || u.answer.Error == nil {
				return fmt.Errorf("the request %q, which may not be made, has the answer %+v", u.toolKey, u.answer)
			}
			continue
		case over && !u.complete:
			return fmt.Errorf("the request %q of round %d has no answer, and the round is over", u.toolKey, u.round)
		case over:
			continue
		case u.answer.Over, u.answer.Error != nil:
			return fmt.Errorf("the request %q has the answer %+v, but the round goes on", u.toolKey, u.answer)
		}
		if err := l.model.CheckAnswered(u.toolKey, u.answer.Response, u.complete); err != nil {
			return err
		}
	}
	return nil
}

// closed checks how the workflow ended.
func (l *life) closed(err error) error {
	var o *task.Outcome
	var canceled *temporal.CanceledError
	var app *temporal.ApplicationError
	switch {
	case err == nil:
		err = l.env.GetWorkflowResult(&o)
	case errors.As(err, &canceled):
		err = canceled.Details(&o)
	case errors.As(err, &app) && app.Type() == task.FailureTask:
		err = app.Details(&o)
	}
	if err != nil {
		return fmt.Errorf("the workflow ended with %w", err)
	}
	if l.model.Ended == "" && l.env.Now().Sub(epoch) >= l.in.Card.TTL() {
		l.model.End(task.OutcomeExpired)
	}
	if o.Kind != l.model.Ended {
		return fmt.Errorf("the outcome is %+v, want %q", o, l.model.Ended)
	}
	// A cancelled task is a canceled workflow, a result a completed one.
	if got, want := canceled != nil, o.Kind == task.OutcomeCancelled; got != want {
		return fmt.Errorf("the outcome is %s and the workflow canceled: %v", o.Kind, got)
	}
	if got, want := app != nil, o.Status() == task.StatusFailed; got != want {
		return fmt.Errorf("the outcome is %s and the workflow failed: %v", o.Kind, got)
	}
	if err := l.answered(true); err != nil {
		return fmt.Errorf("at the close: %w", err)
	}
	if l.memo.Status == task.StatusWorking && o.Kind == task.OutcomeResult && !o.IsError {
		return nil // see task.MemoState
	}
	if l.ended != 1 {
		return fmt.Errorf("%d terminal states were projected", l.ended)
	}
	if l.asks {
		return errors.New("the search attribute of the ended task says that it waits for input")
	}
	return l.model.Check(l.memo)
}

// happen makes something happen to the workflow, and to the model.
func (l *life) happen(h happened) {
	l.events++
	switch h.What {
	case "answer", "answer twice", "answer nothing":
		l.answer(h)
	case "ask", "ask late":
		l.ask(h)
	case "round asks":
		l.endRound("asks", h)
	case "round ends":
		l.endRound(ends[h.Which%len(ends)], h)
	case "call again":
		l.endRound("call again", h)
	case "continue as new":
		l.env.SetContinueAsNewSuggested(true)
	case "cancel":
		l.model.End(task.OutcomeCancelled)
		l.signal(h, task.SignalCancel, task.CancelSignal{Reason: "enough"})
	case "cancel of the run":
		l.model.End(task.OutcomeCancelled)
		l.env.CancelWorkflow()
	}
}

// signal sends a signal, and perhaps the end of the round with it.
func (l *life) signal(h happened, name string, payload any) {
	if h.Together && l.model.Running {
		l.env.SignalWorkflowSkippingWorkflowTask(name, payload)
		l.endRound(ends[h.Which%len(ends)], h)
		return
	}
	l.env.SignalWorkflow(name, payload)
}

// answer answers some of what is asked, in one signal, and what is not asked.
func (l *life) answer(h happened) {
	s := task.InputSignal{Responses: map[string]json.RawMessage{"nobody": json.RawMessage(`{}`)}, Refused: map[string]string{}}
	if used := l.model.Keys(); len(used) > 0 {
		s.Responses[used[h.Which%len(used)]] = json.RawMessage(`{"which":"used"}`)
	}
	if h.What != "answer nothing" {
		for i, asked := range l.model.Open {
			if (h.Which>>i)&1 == 0 || i == 0 {
				s.Responses[asked.Key] = json.RawMessage(fmt.Sprintf(`{"n":%d,"i":%d}`, l.events, i))
			}
		}
	}
	for i, key := range slices.Sorted(maps.Keys(s.Responses)) {
		reason := ""
		if h.Refuse[i%len(h.Refuse)] {
			reason = fmt.Sprintf("answer <%d.%d> is not acceptable.", l.events, i)
			s.Refused[key] = reason
		}
		l.model.Answer(key, string(s.Responses[key]), reason)
	}
	if h.What == "answer twice" {
		late := task.InputSignal{Responses: map[string]json.RawMessage{}}
		for key := range s.Responses {
			late.Responses[key] = json.RawMessage(`{"late":true}`)
		}
		l.env.SignalWorkflowSkippingWorkflowTask(task.SignalInput, s)
		s = late
	}
	l.signal(h, task.SignalInput, s)
}

// ask makes a request of the running round, or of one that is over.
func (l *life) ask(h happened) {
	kind := h.Kinds[0]
	u := &update{round: l.model.Rounds, toolKey: h.Keys[0]}
	if h.What == "ask late" {
		u.round--
	}
	in := task.AskInput{Round: u.round, Request: kind.Request(u.toolKey)}
	u.stale = !l.model.Running || u.round != l.model.Rounds
	if !u.stale {
		u.undeclared = !l.model.Ask(in.Request, kind)
	}
	l.updates = append(l.updates, u)
	// Temporal knows an update by its ID; a request that is made again under
	// another is still one request, by its key.
	l.env.UpdateWorkflow(task.UpdateAsk, fmt.Sprint("ask ", l.events), &testsuite.TestUpdateCallback{
		OnAccept: func() { u.accepted = true },
		OnReject: func(error) { u.rejected = true },
		OnComplete: func(result any, err error) {
			u.complete, u.err = true, err
			if err == nil {
				u.answer = result.(task.AskAnswer)
			}
		},
	}, in)
}

// endRound ends the running round, if there is one.
func (l *life) endRound(how string, h happened) {
	if !l.model.Running {
		return
	}
	result := task.RoundResult{RequestState: fmt.Sprint("state ", l.events)}
	var err error
	lost := task.OutcomeUnknown
	switch how {
	case "asks":
		for i, key := range h.Keys {
			result.Inputs = append(result.Inputs, h.Kinds[i].Request(key))
		}
	case "result":
		result.Result = json.RawMessage(`{}`)
	case "error result":
		result.Result, result.IsError = json.RawMessage(`{"isError":true}`), true
	case "error":
		result.Error = &task.RPCError{Code: -32000, Message: "no"}
	case "unknown":
		result.Unknown = "the worker stopped"
	case "call again":
		result.NeedsInput = true
	case "non-retryable failure":
		err = temporal.NewNonRetryableApplicationError("worker died", "", nil)
	case "heartbeat timeout":
		err = temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil)
		if l.in.Policy.Retry {
			lost = task.OutcomeExpired // Temporal gives such a round up only then
		}
	case "schedule-to-close timeout":
		err = temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, nil)
		lost = task.OutcomeExpired
	}
	l.idleSince = time.Time{}
	if err != nil {
		l.model.Stop()
		l.model.End(lost)
		err = l.env.CompleteActivity(l.running, nil, err)
	} else {
		if l.model.EndRound(result, h.Kinds); l.model.Idle > 0 {
			l.idleSince = l.env.Now()
		}
		err = l.env.CompleteActivity(l.running, result, nil)
	}
	if err != nil {
		panic(err) // the token is this environment's, the result JSON
	}
}
