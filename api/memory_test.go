package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
	"github.com/longhaul-mcp/longhaul/internal/taskmodel"
	"github.com/longhaul-mcp/longhaul/task"
)

// memory is a task.Service without an engine, for fuzz targets alone: a search
// for bad input wants thousands of requests a second, and a workflow costs
// Temporal tens of milliseconds. The state machine is the real one.
type memory struct {
	mu    sync.Mutex
	tasks map[string]*memoryTask
}

type memoryTask struct {
	id      string
	owner   task.Owner
	held    bool
	request task.CreateRequest
	created time.Time
	machine *task.Machine
	changed chan struct{} // closed at the next change, and replaced
}

// standing are the tasks that are always there, by their IDs.
var standing = map[string]string{"waits": "ask", "works": "stay", "done": "echo", "cancelled": "stay"}

// reset forgets all tasks but the standing ones.
func (m *memory) reset() {
	m.mu.Lock()
	m.tasks = map[string]*memoryTask{}
	m.mu.Unlock()
	for id, tool := range standing {
		m.start(id, false, task.CreateRequest{Tool: tool, TTL: time.Hour, Capabilities: json.RawMessage(taskmodel.Clients[len(taskmodel.Clients)-1].Declared)})
	}
	m.tasks["cancelled"].machine.Cancel(time.Now(), "")
}

func (m *memory) start(id string, held bool, r task.CreateRequest) *task.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &memoryTask{
		id: id, owner: r.Owner, held: held, request: r,
		created: time.Now().UTC(), machine: task.NewMachine(time.Now()), changed: make(chan struct{}),
	}
	if r.Decided != nil {
		t.machine.Decide(time.Now(), r.Decided)
	}
	m.tasks[id] = t
	t.goOn()
	return t.snapshot(false)
}

// goOn runs rounds for as long as there are any. Tools whose names begin with
// ask do so, stay goes on for ever, and the others end at once.
func (t *memoryTask) goOn() {
	for t.machine.Next() == task.StepRun {
		round, _, _ := t.machine.BeginRound()
		switch {
		case t.request.Tool == "stay":
		case strings.HasPrefix(t.request.Tool, "ask") && round == 1:
			t.machine.RoundEnded(time.Now(), task.RoundResult{
				Inputs: []task.InputRequest{taskmodel.Form.Request("form"), taskmodel.URL.Request("url")}, RequestState: "asked",
			}, t.request.Capabilities)
		default:
			t.machine.RoundEnded(time.Now(), task.RoundResult{Result: json.RawMessage(`{"content":[{"type":"text","text":"done"}]}`)}, nil)
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *memoryTask) snapshot(full bool) *task.Task {
	card := task.Card{Tool: t.request.Tool, CreatedAt: t.created, TTLMillis: t.request.TTL.Milliseconds()}
	s := task.Projection{Card: card, State: t.machine.State}.Snapshot(t.id)
	if full && t.machine.Outcome != nil {
		s.Outcome = t.machine.Outcome
	}
	return s
}

// at calls do with the task, if it is the caller's.
func (m *memory) at(ref task.Ref, do func(*memoryTask) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[ref.ID]
	if t == nil || t.owner != ref.Owner || t.held != ref.Held {
		return task.ErrNotFound
	}
	return do(t)
}

func (m *memory) read(ref task.Ref, full bool) (s *task.Task, err error) {
	err = m.at(ref, func(t *memoryTask) error {
		s = t.snapshot(full)
		return nil
	})
	return s, err
}

func (m *memory) Create(_ context.Context, r task.CreateRequest) (*task.Task, error) {
	m.mu.Lock()
	id := fmt.Sprint("task-", len(m.tasks))
	m.mu.Unlock()
	switch {
	case r.TTL < time.Millisecond:
		panic("a task of " + r.TTL.String())
	case r.HeldID != "":
		id = r.HeldID
	case r.IdempotencyKey != "":
		id = fmt.Sprintf("%x", string(r.Owner)+"|"+r.IdempotencyKey)
	}
	if t, err := m.read(task.Ref{ID: id, Owner: r.Owner, Held: r.HeldID != ""}, false); err == nil {
		return t, nil
	}
	return m.start(id, r.HeldID != "", r), nil
}

func (m *memory) Get(_ context.Context, ref task.Ref) (*task.Task, error) { return m.read(ref, false) }

func (m *memory) GetOutcome(_ context.Context, ref task.Ref) (*task.Task, error) {
	return m.read(ref, true)
}

func (m *memory) Watch(ctx context.Context, ref task.Ref, _ task.WatchOptions) iter.Seq2[*task.Task, error] {
	return func(yield func(*task.Task, error) bool) {
		for {
			var s *task.Task
			var changed chan struct{}
			if err := m.at(ref, func(t *memoryTask) error {
				s, changed = t.snapshot(true), t.changed
				return nil
			}); err != nil {
				yield(nil, err)
				return
			}
			if !yield(s, nil) || s.Status.Terminal() {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *memory) Answer(_ context.Context, ref task.Ref, responses map[string]json.RawMessage) error {
	return m.at(ref, func(t *memoryTask) error {
		if t.machine.Outcome != nil {
			return task.ErrTerminal
		}
		for _, key := range slices.Sorted(maps.Keys(responses)) {
			if !json.Valid(responses[key]) {
				panic(fmt.Sprintf("the answer %q", responses[key]))
			}
			t.machine.Answer(time.Now(), key, responses[key])
		}
		t.goOn()
		return nil
	})
}

func (m *memory) Cancel(_ context.Context, ref task.Ref, reason string) (s *task.Task, err error) {
	err = m.at(ref, func(t *memoryTask) error {
		ended := t.machine.Outcome != nil
		t.machine.Cancel(time.Now(), reason)
		t.goOn()
		s = t.snapshot(false)
		if ended {
			return task.ErrTerminal
		}
		return nil
	})
	return s, err
}

func (m *memory) RequestCancel(ctx context.Context, ref task.Ref, reason string) error {
	_, err := m.Cancel(ctx, ref, reason)
	if err == task.ErrTerminal { //nolint:errorlint // it is this very one
		return nil
	}
	return err
}

// List has two pages; the cursor to the second is "next".
func (m *memory) List(_ context.Context, r task.ListRequest) (*task.Page, error) {
	if r.Token != nil && string(r.Token) != "next" {
		return nil, task.ErrBadCursor
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	page := &task.Page{}
	if r.Token == nil {
		page.Next = []byte("next")
	}
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if t := m.tasks[id]; t.owner == r.Owner && !t.held {
			page.Tasks = append(page.Tasks, t.snapshot(false))
		}
	}
	return page, nil
}

func (m *memory) Delete(_ context.Context, ref task.Ref) error {
	return m.at(ref, func(t *memoryTask) error {
		delete(m.tasks, t.id)
		return nil
	})
}

func (m *memory) Ready(context.Context) error { return nil }

// memoryTools are the tools of memory.
type memoryTools struct{}

var fuzzTools = func() []task.Tool {
	const named = `{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`
	const regional = `{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},` +
		`"zone":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"Zone"}}}}}`
	var all []task.Tool
	for _, t := range []task.Tool{
		{Name: "echo", InputSchema: json.RawMessage(named)},
		{Name: "greet", InputSchema: json.RawMessage(named), Support: task.SupportForbidden},
		{Name: "must", InputSchema: json.RawMessage(named), Support: task.SupportRequired},
		{Name: "regional", InputSchema: json.RawMessage(regional)},
		{Name: "ask"}, {Name: "stay"},
		{Name: "ask_held", Support: task.SupportForbidden},
		{Name: "ask_first", Support: task.SupportRequired, Input: task.InputBeforeTask},
	} {
		if t.InputSchema == nil {
			t.InputSchema = json.RawMessage(`{"type":"object"}`)
		}
		if t.Support == "" {
			t.Support = task.SupportOptional
		}
		if t.Input == "" {
			t.Input = task.InputInTask
		}
		t.Definition = json.RawMessage(`{"name":"` + t.Name + `","inputSchema":` + string(t.InputSchema) + `}`)
		all = append(all, t)
	}
	return all
}()

func (memoryTools) Tools() []task.Tool               { return fuzzTools }
func (memoryTools) Subscribe(func()) (cancel func()) { return func() {} }
func (memoryTools) Lookup(name string) (task.Tool, bool) {
	i := slices.IndexFunc(fuzzTools, func(t task.Tool) bool { return t.Name == name })
	if i < 0 {
		return task.Tool{}, false
	}
	return fuzzTools[i], true
}

var (
	_ task.Service  = (*memory)(nil)
	_ api.Catalogue = memoryTools{}
)
