package workflowtool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

type input struct {
	Name string `json:"name" jsonschema:"whom to greet"`
}

type output struct {
	Greeting string `json:"greeting"`
}

// capable are the capabilities of a client that can be asked for everything.
const capable = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`

type fixture struct {
	*testsuite.TestWorkflowEnvironment
	in   task.StartInput
	memo []task.State // every state projected, in order
}

// setup makes a task of a tool with the given function.
func setup[In, Out any](t *testing.T, f func(workflow.Context, In) (Out, error)) *fixture {
	t.Helper()
	tool := workflowtool.New(&mcp.Tool{Name: "greet"}, f)
	var suite testsuite.WorkflowTestSuite
	x := &fixture{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), in: task.StartInput{
		Card:         task.Card{Tool: "greet", CreatedAt: time.Now().UTC(), TTLMillis: (1000 * time.Hour).Milliseconds()},
		Arguments:    json.RawMessage(`{"name":"Ada"}`),
		Capabilities: json.RawMessage(capable),
		Workflow:     tool.Name(),
	}}
	x.SetTestTimeout(30 * time.Second)
	// A busy machine may keep a coroutine from running for longer than a second.
	x.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: 20 * time.Second})
	workflows.Register(x, map[string]workflows.Function{tool.Name(): tool.Function()})
	x.OnUpsertMemo(mock.Anything).Run(func(args mock.Arguments) {
		x.memo = append(x.memo, args.Get(0).(map[string]any)[task.MemoState].(task.State))
	}).Return(nil).Maybe()
	x.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Maybe()
	return x
}

// run runs the task to its outcome.
func (x *fixture) run(t *testing.T) *task.Outcome {
	t.Helper()
	x.ExecuteWorkflow(task.WorkflowTask, x.in)
	var (
		o        *task.Outcome
		canceled *temporal.CanceledError
		app      *temporal.ApplicationError
		err      = x.GetWorkflowError()
	)
	switch {
	case err == nil:
		err = x.GetWorkflowResult(&o)
	case errors.As(err, &canceled):
		err = canceled.Details(&o)
	case errors.As(err, &app) && app.Type() == task.FailureTask:
		err = app.Details(&o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// result runs the task to the result of its tool.
func (x *fixture) result(t *testing.T) *mcp.CallToolResult {
	t.Helper()
	o := x.run(t)
	if o.Kind != task.OutcomeResult {
		t.Fatalf("outcome %s: %s", o.Kind, o.Message)
	}
	var r mcp.CallToolResult
	if err := json.Unmarshal(o.Result, &r); err != nil {
		t.Fatal(err)
	}
	if r.IsError != o.IsError {
		t.Errorf("the outcome's IsError is %v, the result's %v", o.IsError, r.IsError)
	}
	return &r
}

// asked are the requests that the task's owner sees.
func (x *fixture) asked(t *testing.T) []task.InputRequest {
	t.Helper()
	v, err := x.QueryWorkflow(task.QueryTask)
	if err != nil {
		t.Fatal(err)
	}
	var p task.Projection
	if err := v.Get(&p); err != nil {
		t.Fatal(err)
	}
	return p.State.Inputs
}

// answers answers the only request there is after a while, once it was looked
// at.
func (x *fixture) answers(t *testing.T, after time.Duration, response string, look func(task.InputRequest)) {
	x.RegisterDelayedCallback(func() {
		inputs := x.asked(t)
		if len(inputs) != 1 {
			t.Fatalf("asked %+v", inputs)
		}
		if look != nil {
			look(inputs[0])
		}
		x.SignalWorkflow(task.SignalInput, task.InputSignal{
			Responses: map[string]json.RawMessage{inputs[0].Key: json.RawMessage(response)},
		})
	}, after)
}

func text(t *testing.T, r *mcp.CallToolResult) string {
	t.Helper()
	if len(r.Content) != 1 {
		t.Fatalf("content %+v", r.Content)
	}
	return r.Content[0].(*mcp.TextContent).Text
}

func TestTyped(t *testing.T) {
	x := setup(t, func(_ workflow.Context, in input) (output, error) {
		return output{Greeting: "Hello, " + in.Name + "!"}, nil
	})
	r := x.result(t)
	want := `{"greeting":"Hello, Ada!"}`
	if got, _ := json.Marshal(r.StructuredContent); string(got) != want || text(t, r) != want || r.IsError {
		t.Errorf("got %s and %+v", got, r)
	}
}

// 2026-07-28, server/tools, "Structured Content": any JSON value.
func TestOutputsThatAreNoStructs(t *testing.T) {
	for _, tc := range []struct {
		name string
		x    *fixture
		want any
	}{
		{"a list", setup(t, func(workflow.Context, input) ([]string, error) { return []string{"a"}, nil }), []any{"a"}},
		{"a pointer", setup(t, func(workflow.Context, input) (*output, error) { return &output{"Hi"}, nil }), map[string]any{"greeting": "Hi"}},
		{"no pointer", setup(t, func(workflow.Context, input) (*output, error) { return nil, nil }), map[string]any{"greeting": ""}},
		{"nothing", setup(t, func(workflow.Context, input) (any, error) { return nil, nil }), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := tc.x.result(t)
			if !reflect.DeepEqual(r.StructuredContent, tc.want) || r.Content == nil || r.IsError {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	failing := func(err error) func(workflow.Context, input) (output, error) {
		return func(workflow.Context, input) (output, error) { return output{}, err }
	}
	t.Run("an error is a result that says so", func(t *testing.T) {
		r := setup(t, failing(errors.New("nobody is there"))).result(t)
		if !r.IsError || text(t, r) != "nobody is there" || r.StructuredContent != nil {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("one of JSON-RPC is an error of the protocol", func(t *testing.T) {
		err := fmt.Errorf("greeting: %w", &jsonrpc.Error{Code: -32001, Message: "no", Data: json.RawMessage(`{"a":1}`)})
		o := setup(t, failing(err)).run(t)
		if o.Kind != task.OutcomeError || o.Error.Code != -32001 || o.Error.Message != "no" || string(o.Error.Data) != `{"a":1}` {
			t.Errorf("got %+v, %+v", o, o.Error)
		}
	})
	t.Run("arguments of another type are a result that says so", func(t *testing.T) {
		x := setup(t, failing(nil))
		x.in.Arguments = json.RawMessage(`{"name":1}`)
		if r := x.result(t); !r.IsError || !strings.Contains(text(t, r), "arguments") {
			t.Errorf("got %+v", r)
		}
	})
}

func TestNewPanics(t *testing.T) {
	f := func(workflow.Context, input) (output, error) { return output{}, nil }
	for name, tool := range map[string]*mcp.Tool{
		"without a name": {},
		"with an input schema that is not possible": {Name: "greet", InputSchema: &jsonschema.Schema{Type: "string"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			workflowtool.New(tool, f)
		})
	}
}

func TestList(t *testing.T) {
	tool := workflowtool.New(&mcp.Tool{Name: "greet", Description: "Greets."}, func(workflow.Context, input) (output, error) {
		return output{}, nil
	})
	server := mcp.NewServer(&mcp.Implementation{Name: "server"}, nil)
	tool.List(server)
	tool.List(server) // harmless
	clientEnd, serverEnd := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), serverEnd, nil); err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "client"}, nil).Connect(t.Context(), clientEnd, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	listed, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.Tools) != 1 {
		t.Fatalf("%d tools", len(listed.Tools))
	}
	schemas, err := json.Marshal([]any{listed.Tools[0].InputSchema, listed.Tools[0].OutputSchema})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"whom to greet"`, `"required":["name"]`, `"greeting":{"type":"string"}`} {
		if !strings.Contains(string(schemas), part) {
			t.Errorf("%s is not in %s", part, schemas)
		}
	}
	r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "greet", Arguments: input{"Ada"}})
	if err != nil || !r.IsError {
		t.Errorf("called on its server: %+v, %v", r, err)
	}
}

type order struct {
	Size    string   `json:"size" jsonschema:"how much of it"`
	Extras  []string `json:"extras,omitempty"`
	Count   int      `json:"count"`
	Express *bool    `json:"express,omitempty"`
}

func withChoices(s *jsonschema.Schema) {
	s.Properties["size"].Enum = []any{"small", "large"}
	s.Properties["extras"].Items.Enum = []any{"milk", "sugar"}
}

// What comes of an elicitation, asked by a tool that returns it.
func elicit(ctx workflow.Context, in input) (workflowtool.Answer[order], error) {
	return workflowtool.Elicit[order](ctx, "What would you like, "+in.Name+"?", withChoices)
}

func elicited(t *testing.T, r *mcp.CallToolResult) workflowtool.Answer[order] {
	t.Helper()
	var a workflowtool.Answer[order]
	if err := json.Unmarshal([]byte(text(t, r)), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestElicit(t *testing.T) {
	t.Run("the form has the fields of the type and what is added to them", func(t *testing.T) {
		x := setup(t, elicit)
		x.answers(t, 30*24*time.Hour, `{"action":"accept","content":{"size":"large","extras":["milk"],"count":2}}`, func(in task.InputRequest) {
			// 2025-11-25, client/elicitation, "Requested Schema": flat, and of
			// these types only.
			want := `{"mode":"form","message":"What would you like, Ada?","requestedSchema":{"type":"object","properties":{` +
				`"size":{"type":"string","description":"how much of it","enum":["small","large"]},` +
				`"extras":{"type":"array","items":{"type":"string","enum":["milk","sugar"]}},` +
				`"count":{"type":"integer"},"express":{"type":"boolean"}},"required":["size","count"]}}`
			if in.Method != "elicitation/create" || !sameJSON(t, string(in.Params), want) {
				t.Errorf("asked %s %s", in.Method, in.Params)
			}
		})
		a := elicited(t, x.result(t))
		if want := (order{Size: "large", Extras: []string{"milk"}, Count: 2}); !a.Accepted() || !reflect.DeepEqual(a.Content, want) {
			t.Errorf("got %+v", a)
		}
	})

	for _, action := range []string{"decline", "cancel"} {
		t.Run(action+" is an answer, without content", func(t *testing.T) {
			x := setup(t, elicit)
			x.answers(t, time.Hour, `{"action":"`+action+`","content":{"size":"large"}}`, nil)
			if a := elicited(t, x.result(t)); a.Accepted() || a.Action != action || a.Content.Size != "" {
				t.Errorf("got %+v", a)
			}
		})
	}

	t.Run("a client that failed has cancelled", func(t *testing.T) {
		x := setup(t, elicit)
		x.answers(t, time.Hour, `{"error":{"code":-32603,"message":"no window"}}`, nil)
		if a := elicited(t, x.result(t)); a.Action != "cancel" {
			t.Errorf("got %+v", a)
		}
	})

	t.Run("an answer that does not fit is asked for again", func(t *testing.T) {
		x := setup(t, elicit)
		x.RegisterDelayedCallback(func() {
			x.SignalWorkflow(task.SignalInput, task.InputSignal{
				Responses: map[string]json.RawMessage{"ask-1": json.RawMessage(`{"action":"accept","content":{"size":"huge"}}`)},
				Refused:   map[string]string{"ask-1": `"size" is not one of the choices`},
			})
		}, time.Hour)
		x.answers(t, 2*time.Hour, `{"action":"accept","content":{"size":"small","count":1}}`, func(in task.InputRequest) {
			if in.Key == "ask-1" || !strings.Contains(string(in.Params), "not one of the choices") {
				t.Errorf("asked %s %s", in.Key, in.Params)
			}
		})
		if a := elicited(t, x.result(t)); a.Content.Size != "small" {
			t.Errorf("got %+v", a)
		}
	})

	t.Run("a question without fields", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, _ input) (bool, error) {
			a, err := workflowtool.Elicit[struct{}](ctx, "Sure?")
			return a.Accepted(), err
		})
		x.answers(t, time.Hour, `{"action":"accept"}`, func(in task.InputRequest) {
			if !strings.Contains(string(in.Params), `"properties":{}`) {
				t.Errorf("asked %s", in.Params)
			}
		})
		if got := text(t, x.result(t)); got != "true" {
			t.Errorf("got %s", got)
		}
	})

	t.Run("until a time of the tool's own, then the request is withdrawn", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, in input) (string, error) {
			asking, stop := workflow.WithCancel(ctx)
			workflow.Go(ctx, func(ctx workflow.Context) {
				_ = workflow.Sleep(ctx, 24*time.Hour)
				stop()
			})
			_, err := elicit(asking, in)
			if !temporal.IsCanceledError(err) {
				t.Errorf("Elicit returned %v", err)
			}
			return "went on", workflow.Sleep(ctx, time.Hour)
		})
		x.RegisterDelayedCallback(func() {
			if inputs := x.asked(t); len(inputs) != 0 {
				t.Errorf("still asked %+v", inputs)
			}
		}, 24*time.Hour+time.Minute)
		if got := text(t, x.result(t)); got != `"went on"` {
			t.Errorf("got %s", got)
		}
	})

	t.Run("forms that clients cannot show", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, _ input) (output, error) {
			for name, err := range map[string]error{
				"no struct":     errOf(workflowtool.Elicit[string](ctx, "")),
				"a list":        errOf(workflowtool.Elicit[struct{ Any []string }](ctx, "")),
				"an inner form": errOf(workflowtool.Elicit[struct{ Inner order }](ctx, "")),
				"a map":         errOf(workflowtool.Elicit[map[string]string](ctx, "")),
			} {
				if err == nil {
					t.Errorf("%s: no error", name)
				}
			}
			return output{}, nil
		})
		x.result(t)
	})
}

func errOf[T any](_ T, err error) error { return err }

// A request that the client did not declare is never made (2025-11-25,
// lifecycle, "Operation": parties MUST only use negotiated capabilities).
func TestRequestsThatCannotBeMade(t *testing.T) {
	for name, ask := range map[string]func(workflow.Context) error{
		"form": func(ctx workflow.Context) error { return errOf(workflowtool.Elicit[order](ctx, "?", withChoices)) },
		"url": func(ctx workflow.Context) error {
			return errOf(workflowtool.ElicitURL(ctx, "?", "https://example.com"))
		},
		"sample": func(ctx workflow.Context) error { return errOf(workflowtool.Sample(ctx, question("?"))) },
		"roots":  func(ctx workflow.Context) error { return errOf(workflowtool.Roots(ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			x := setup(t, func(ctx workflow.Context, _ input) (output, error) { return output{}, ask(ctx) })
			x.in.Capabilities = json.RawMessage(`{}`)
			if o := x.run(t); o.Kind != task.OutcomeError || o.Error.Code != task.CodeMissingCapability {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestElicitURL(t *testing.T) {
	x := setup(t, func(ctx workflow.Context, _ input) (bool, error) {
		return workflowtool.ElicitURL(ctx, "Sign in, please.", "https://example.com/sign-in")
	})
	x.answers(t, time.Hour, `{"action":"accept"}`, func(in task.InputRequest) {
		if want := `{"mode":"url","message":"Sign in, please.","url":"https://example.com/sign-in"}`; !sameJSON(t, string(in.Params), want) {
			t.Errorf("asked %s", in.Params)
		}
	})
	if got := text(t, x.result(t)); got != "true" {
		t.Errorf("got %s", got)
	}
}

func question(text string) *mcp.CreateMessageWithToolsParams {
	return &mcp.CreateMessageWithToolsParams{
		MaxTokens: 100,
		Messages:  []*mcp.SamplingMessageV2{{Role: "user", Content: []mcp.Content{&mcp.TextContent{Text: text}}}},
	}
}

func TestSample(t *testing.T) {
	t.Run("a model answers", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, in input) (string, error) {
			r, err := workflowtool.Sample(ctx, question("Who is "+in.Name+"?"))
			if err != nil {
				return "", err
			}
			return r.Content[0].(*mcp.TextContent).Text + " says " + r.Model, nil
		})
		x.answers(t, time.Hour, `{"role":"assistant","model":"m1","content":{"type":"text","text":"A programmer"}}`, func(in task.InputRequest) {
			if in.Method != "sampling/createMessage" || !strings.Contains(string(in.Params), "Who is Ada?") {
				t.Errorf("asked %s %s", in.Method, in.Params)
			}
		})
		if got := text(t, x.result(t)); got != `"A programmer says m1"` {
			t.Errorf("got %s", got)
		}
	})

	t.Run("with tools, turn by turn", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, in input) (string, error) {
			p := question("How old is " + in.Name + "?")
			p.Tools = []*mcp.Tool{{Name: "age", InputSchema: map[string]any{"type": "object"}}}
			for {
				r, err := workflowtool.Sample(ctx, p)
				if err != nil {
					return "", err
				}
				use, ok := r.Content[0].(*mcp.ToolUseContent)
				if !ok {
					return r.Content[0].(*mcp.TextContent).Text, nil
				}
				p.Messages = append(p.Messages,
					&mcp.SamplingMessageV2{Role: "assistant", Content: r.Content},
					&mcp.SamplingMessageV2{Role: "user", Content: []mcp.Content{&mcp.ToolResultContent{
						ToolUseID: use.ID, Content: []mcp.Content{&mcp.TextContent{Text: "36"}},
					}}})
			}
		})
		x.answers(t, time.Hour, `{"role":"assistant","model":"m1","stopReason":"toolUse","content":[{"type":"tool_use","id":"t1","name":"age","input":{}}]}`, nil)
		x.answers(t, 2*time.Hour, `{"role":"assistant","model":"m1","content":{"type":"text","text":"She is 36."}}`, func(in task.InputRequest) {
			for _, part := range []string{`"tool_use"`, `"toolUseId":"t1"`, `"36"`} {
				if !strings.Contains(string(in.Params), part) {
					t.Errorf("%s is not in %s", part, in.Params)
				}
			}
		})
		if got := text(t, x.result(t)); got != `"She is 36."` {
			t.Errorf("got %s", got)
		}
	})

	t.Run("the client's error is the function's", func(t *testing.T) {
		var got error
		x := setup(t, func(ctx workflow.Context, _ input) (output, error) {
			_, got = workflowtool.Sample(ctx, question("?"))
			return output{}, nil
		})
		x.answers(t, time.Hour, `{"action":"cancel","error":{"code":-1,"message":"the user rejected it"}}`, nil)
		x.result(t)
		var rpc *task.RPCError
		if !errors.As(got, &rpc) || rpc.Code != -1 {
			t.Errorf("got %v", got)
		}
	})

	t.Run("several at once", func(t *testing.T) {
		x := setup(t, func(ctx workflow.Context, _ input) ([]string, error) {
			answers := make([]string, 2)
			all := workflow.NewWaitGroup(ctx)
			for i := range answers {
				all.Add(1)
				workflow.Go(ctx, func(ctx workflow.Context) {
					defer all.Done()
					r, err := workflowtool.Sample(ctx, question(fmt.Sprint("question ", i)))
					if err == nil {
						answers[i] = r.Content[0].(*mcp.TextContent).Text
					}
				})
			}
			all.Wait(ctx)
			return answers, nil
		})
		x.RegisterDelayedCallback(func() {
			responses := map[string]json.RawMessage{}
			for _, in := range x.asked(t) {
				answer := strings.Replace(`{"role":"assistant","model":"m","content":{"type":"text","text":"TEXT"}}`, "TEXT", in.Key, 1)
				responses[in.Key] = json.RawMessage(answer)
			}
			x.SignalWorkflow(task.SignalInput, task.InputSignal{Responses: responses})
		}, time.Hour)
		if got := text(t, x.result(t)); got != `["ask-1","ask-2"]` {
			t.Errorf("got %s", got)
		}
	})
}

func TestRoots(t *testing.T) {
	x := setup(t, func(ctx workflow.Context, _ input) (string, error) {
		roots, err := workflowtool.Roots(ctx)
		if err != nil {
			return "", err
		}
		return roots[0].URI, nil
	})
	x.answers(t, time.Hour, `{"roots":[{"uri":"file:///home/ada","name":"home"}]}`, nil)
	if got := text(t, x.result(t)); got != `"file:///home/ada"` {
		t.Errorf("got %s", got)
	}
}

func TestProgress(t *testing.T) {
	x := setup(t, func(ctx workflow.Context, _ input) (output, error) {
		return output{}, workflowtool.Progress(ctx, 1, 3, "one of three")
	})
	x.result(t)
	want := task.Progress{Progress: 1, Total: 3, Message: "one of three"}
	if len(x.memo) != 1 || x.memo[0].Progress == nil || *x.memo[0].Progress != want {
		t.Errorf("projected %+v", x.memo)
	}
}

func TestContinueAsNew(t *testing.T) {
	f := func(_ workflow.Context, in input) (output, error) {
		if in.Name == "Ada" {
			return output{}, workflowtool.ContinueAsNew(input{"Grace"})
		}
		return output{Greeting: "Hello, " + in.Name + "!"}, nil
	}
	x := setup(t, f)
	x.ExecuteWorkflow(task.WorkflowTask, x.in)
	var next *workflow.ContinueAsNewError
	if err := x.GetWorkflowError(); !errors.As(err, &next) {
		t.Fatalf("the first run ended with %v", err)
	}
	y := setup(t, f)
	if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &y.in); err != nil {
		t.Fatal(err)
	}
	if got := text(t, y.result(t)); got != `{"greeting":"Hello, Grace!"}` {
		t.Errorf("got %s", got)
	}
}

// stepped runs the given step, at most three times.
func stepped(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 3},
	})
}

func TestActivities(t *testing.T) {
	for _, tc := range []struct {
		name     string
		failures int
		want     string
		isError  bool
	}{
		{"one that fails is tried again", 2, `{"greeting":"Hi"}`, false},
		{"one that goes on failing is the tool's error", 3, "the step: out of paper", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			attempts := 0
			x := setup(t, func(ctx workflow.Context, _ input) (out output, err error) {
				if err := workflow.ExecuteActivity(stepped(ctx), "step").Get(ctx, &out.Greeting); err != nil {
					return output{}, fmt.Errorf("the step: %w", err)
				}
				return out, nil
			})
			x.RegisterActivityWithOptions(func(context.Context) (string, error) {
				if attempts++; attempts <= tc.failures {
					return "", errors.New("out of paper")
				}
				return "Hi", nil
			}, activity.RegisterOptions{Name: "step"})
			if r := x.result(t); text(t, r) != tc.want || r.IsError != tc.isError {
				t.Errorf("got %+v, %q", r, text(t, r))
			}
		})
	}
}

func TestCancelCompensates(t *testing.T) {
	undone := false
	x := setup(t, func(ctx workflow.Context, _ input) (output, error) {
		_, err := elicit(ctx, input{})
		if !temporal.IsCanceledError(err) {
			t.Errorf("Elicit returned %v", err)
		}
		ctx, _ = workflow.NewDisconnectedContext(ctx)
		return output{}, workflow.ExecuteActivity(stepped(ctx), "undo").Get(ctx, nil)
	})
	x.RegisterActivityWithOptions(func(context.Context) error {
		undone = true
		return nil
	}, activity.RegisterOptions{Name: "undo"})
	x.RegisterDelayedCallback(func() { x.SignalWorkflow(task.SignalCancel, task.CancelSignal{}) }, 24*time.Hour)
	if o := x.run(t); o.Kind != task.OutcomeCancelled || !undone {
		t.Errorf("outcome %s, undone: %v", o.Kind, undone)
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}
