// Package workflowtool makes MCP tools of Temporal workflow functions.
//
// An ordinary tool is a function that runs from its call to its result. A
// process that takes days, asks people on the way and consists of several
// steps is better written as a workflow: plain code that is deterministic and
// lives through the restart of every process, whose waits hold nothing.
//
//	release := workflowtool.New(&mcp.Tool{Name: "release"},
//		func(ctx workflow.Context, in Release) (Released, error) {
//			ok, err := workflowtool.Elicit[Approval](ctx, "Release "+in.Version+"?")
//			...
//			err = workflow.ExecuteActivity(ctx, "deploy", in).Get(ctx, nil)
//			...
//		})
//
// The function is called with the context of its task's workflow. All of
// package workflow works on it: activities, timers, child workflows, selectors,
// GetVersion. What Temporal asks of workflow code it asks here: no clock, no
// randomness, no I/O but through the workflow's own.
//
// When the task is cancelled or its time is over, the context is cancelled and
// the task says so at once. The function then has [Tool].CleanupTimeout to
// compensate what it did, on a context of workflow.NewDisconnectedContext.
//
// A program lists its workflow tools in longhaul.Options.WorkflowTools, and has
// their activities and child workflows registered by its RegisterSteps.
package workflowtool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/workflows"
)

// Tool is a tool whose calls are workflows. Make one with [New].
type Tool struct {
	// CleanupTimeout is how long the function may go on after its task was
	// cancelled or expired. Default [workflows.FunctionCleanupTimeout].
	CleanupTimeout time.Duration

	name     string
	function workflows.Function
	list     func(*mcp.Server)
}

// New makes a tool of a workflow function. As with [mcp.AddTool], the tool's
// input and output schemas are inferred from In and Out where t has none, the
// output is the structured content of the result, an error of the function is
// a result with isError, and a [*jsonrpc.Error] is an error of the protocol.
// Unlike there, a default that a schema of t's own has is not filled in. New
// panics if t is not a valid tool.
//
// The name of the tool is persisted with every running call: a worker has to
// have the function under that name for as long as there are any.
func New[In, Out any](t *mcp.Tool, f func(ctx workflow.Context, in In) (Out, error)) Tool {
	if t == nil || t.Name == "" || f == nil {
		panic("workflowtool: a tool needs a name and a function")
	}
	tool := Tool{
		name: t.Name,
		list: func(s *mcp.Server) {
			mcp.AddTool(s, t, func(context.Context, *mcp.CallToolRequest, In) (*mcp.CallToolResult, Out, error) {
				var none Out
				return nil, none, errors.New("this tool is a workflow, which is not called on its MCP server")
			})
		},
		function: func(ctx workflow.Context, arguments json.RawMessage) (task.RoundResult, error) {
			var in In
			if len(arguments) > 0 {
				if err := json.Unmarshal(arguments, &in); err != nil {
					return failed(fmt.Errorf("the arguments: %w", err))
				}
			}
			out, err := f(ctx, in)
			if err != nil {
				return failed(err)
			}
			return succeeded(out)
		},
	}
	// What is wrong with a tool shows where it is made.
	tool.List(mcp.NewServer(&mcp.Implementation{Name: t.Name}, nil))
	return tool
}

// Name is the tool's name, under which its function is known to workers.
func (t Tool) Name() string { return t.name }

// Function is what workers register under Name.
func (t Tool) Function() workflows.Function { return t.function }

// List adds the tool to the list of a server, or replaces it there. Its calls
// are not the server's.
func (t Tool) List(s *mcp.Server) { t.list(s) }

// succeeded words the output as mcp.AddTool does.
func succeeded(out any) (task.RoundResult, error) {
	// The schema is that of what a pointer points to.
	if v := reflect.ValueOf(out); v.Kind() == reflect.Pointer && v.IsNil() {
		out = reflect.Zero(v.Type().Elem()).Interface()
	}
	if out == nil {
		return encode(&mcp.CallToolResult{Content: []mcp.Content{}})
	}
	structured, err := json.Marshal(out)
	if err != nil {
		return failed(fmt.Errorf("the result: %w", err))
	}
	return encode(&mcp.CallToolResult{
		Content:           []mcp.Content{&mcp.TextContent{Text: string(structured)}},
		StructuredContent: json.RawMessage(structured),
	})
}

func failed(err error) (task.RoundResult, error) {
	var rpc *jsonrpc.Error
	var own *task.RPCError
	switch {
	case workflows.IsContinueAsNew(err), errors.As(err, &own):
		return task.RoundResult{}, err
	case errors.As(err, &rpc):
		return task.RoundResult{}, &task.RPCError{Code: rpc.Code, Message: rpc.Message, Data: rpc.Data}
	default:
		return encode(&mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: workflows.Reason(err)}}})
	}
}

func encode(r *mcp.CallToolResult) (task.RoundResult, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return task.RoundResult{}, err
	}
	return task.RoundResult{Result: raw, IsError: r.IsError}, nil
}

// ContinueAsNew is the error with which a function asks to be called again
// with other arguments, in a run with an empty history: do so when
// workflow.GetInfo(ctx).GetContinueAsNewSuggested() says that the history has
// grown, with nothing running and nobody asked. The task goes on: its ID and
// state stay, and no request for input is issued under a used key.
func ContinueAsNew[In any](in In) error {
	arguments, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("the arguments of the next run: %w", err)
	}
	return workflows.ContinueAsNew(arguments)
}

// Progress makes the tool's progress visible in the task's status. A total of
// 0 is unknown. Each call is an event in the workflow's history, so this is for
// steps, not for percents.
func Progress(ctx workflow.Context, progress, total float64, message string) error {
	return workflows.Report(ctx, task.Progress{Progress: progress, Total: total, Message: message})
}

// Answer is what came of an elicitation.
type Answer[T any] struct {
	// Action is accept, decline (the person said no) or cancel (they said
	// nothing: the form was closed, or the client failed).
	Action string
	// Content is the form as it was filled in, and zero if it was not accepted.
	Content T
}

// Accepted reports whether the person accepted.
func (a Answer[T]) Accepted() bool { return a.Action == "accept" }

// Elicit asks the task's owner to fill in a form, and waits for as long as
// that takes. The form has a field for each field of the struct T, of which
// only strings, booleans, numbers and lists of strings to choose from may be
// (2025-11-25, elicitation, "Requested Schema"); an empty struct is a plain
// question. edit, if given, may add to the inferred schema what a type cannot
// say: titles, bounds, and the values to choose from, which a list has to have.
//
// An answer that does not fit the schema never gets here: the request is made
// again. The error is a [*task.RPCError] if the caller cannot be asked.
func Elicit[T any](ctx workflow.Context, message string, edit ...func(*jsonschema.Schema)) (Answer[T], error) {
	schema, err := formOf[T](edit)
	if err != nil {
		return Answer[T]{}, fmt.Errorf("the form %T: %w", *new(T), err)
	}
	return ask[T](ctx, &mcp.ElicitParams{Mode: "form", Message: message, RequestedSchema: schema})
}

// formOf is the schema of a form with the fields of T. Clients know forms, not
// JSON Schema at large.
func formOf[T any](edit []func(*jsonschema.Schema)) (any, error) {
	if reflect.TypeFor[T]().Kind() != reflect.Struct {
		return nil, errors.New("it is not a struct")
	}
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		return nil, err
	}
	if len(schema.Properties) == 0 {
		// The schema would be written without properties, which a form has to have.
		return map[string]any{"type": "object", "properties": map[string]any{}}, nil
	}
	schema.AdditionalProperties = nil
	for _, name := range schema.PropertyOrder {
		// What Go can leave nil is merely not filled in.
		if field := schema.Properties[name]; len(field.Types) == 2 && field.Types[0] == "null" {
			field.Type, field.Types = field.Types[1], nil
		}
	}
	for _, e := range edit {
		e(schema)
	}
	for _, name := range schema.PropertyOrder {
		switch field := schema.Properties[name]; field.Type {
		case "string", "boolean", "number", "integer":
		case "array":
			if of := field.Items; of == nil || of.Type != "string" && of.Type != "" || len(of.Enum)+len(of.AnyOf) == 0 {
				return nil, fmt.Errorf("the list %q does not say which strings to choose from", name)
			}
		default:
			return nil, fmt.Errorf("the field %q is neither a string, a boolean, a number nor a list of strings", name)
		}
	}
	return schema, nil
}

// ElicitURL asks the task's owner to visit a URL (2025-11-25, elicitation, "URL
// Mode Elicitation Requests"). That it was accepted means that the person
// agreed to go there, not that they are done.
func ElicitURL(ctx workflow.Context, message, url string) (accepted bool, err error) {
	a, err := ask[struct{}](ctx, &mcp.ElicitParams{Mode: "url", Message: message, URL: url})
	return a.Accepted(), err
}

func ask[T any](ctx workflow.Context, p *mcp.ElicitParams) (Answer[T], error) {
	var a struct {
		Action  string          `json:"action"`
		Content json.RawMessage `json:"content"`
	}
	if err := request(ctx, task.MethodElicit, p, &a); err != nil {
		return Answer[T]{}, err
	}
	answer := Answer[T]{Action: cmp.Or(a.Action, "cancel")} // an error has none
	if answer.Accepted() && len(a.Content) > 0 {
		if err := json.Unmarshal(a.Content, &answer.Content); err != nil {
			return Answer[T]{}, fmt.Errorf("the answer: %w", err)
		}
	}
	return answer, nil
}

// Sample has the caller's model answer (2025-11-25, sampling).
func Sample(ctx workflow.Context, p *mcp.CreateMessageWithToolsParams) (*mcp.CreateMessageWithToolsResult, error) {
	var r mcp.CreateMessageWithToolsResult
	if err := request(ctx, task.MethodSample, p, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// Roots are the caller's roots (2025-11-25, roots).
func Roots(ctx workflow.Context) ([]*mcp.Root, error) {
	var r mcp.ListRootsResult
	if err := request(ctx, task.MethodRoots, struct{}{}, &r); err != nil {
		return nil, err
	}
	return r.Roots, nil
}

// request puts a request to the task's owner. Where it was refused with an
// error, that is the error.
func request(ctx workflow.Context, method string, params, result any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	response, err := workflows.Ask(ctx, method, raw)
	if err != nil {
		return err
	}
	var refused struct {
		Error *task.RPCError `json:"error"`
	}
	if json.Unmarshal(response, &refused) == nil && refused.Error != nil && method != task.MethodElicit {
		return refused.Error
	}
	return json.Unmarshal(response, result)
}
