package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/effects"
	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// tools are the tools of the program. Each takes a label, which is also in its
// effects and in its result.
type tools struct {
	log     effects.Log
	process string
}

// call is what every tool takes.
type call struct {
	Label string `json:"label" jsonschema:"the caller's name for this call"`
	// Millis is how long the call takes.
	Millis int `json:"ms,omitempty" jsonschema:"how long the call takes, in milliseconds"`
	// Questions is how many things are asked, by tools that ask.
	Questions int `json:"questions,omitempty" jsonschema:"how much a tool asks that asks"`
}

// answer is what is asked for.
type answer struct {
	Value string `json:"value" jsonschema:"any word"`
}

// done is what tools return.
type done struct {
	Label   string   `json:"label"`
	Answers []string `json:"answers,omitempty"`
}

func (t tools) options() longhaul.Options {
	plain := mcp.NewServer(&mcp.Implementation{Name: "plain", Version: "1"}, nil)
	safe := &mcp.ToolAnnotations{IdempotentHint: true}
	mcp.AddTool(plain, &mcp.Tool{Name: "quick", Description: "Returns.", Annotations: safe}, t.quick)
	mcp.AddTool(plain, &mcp.Tool{Name: "slow", Description: "Takes its time.", Annotations: safe}, t.slow)
	mcp.AddTool(plain, &mcp.Tool{Name: "once", Description: "Has an effect, and may not be run twice."}, t.once)
	mcp.AddTool(plain, &mcp.Tool{Name: "commit", Description: "Has an effect that its idempotency key makes one.", Annotations: safe}, t.commit)
	mcp.AddTool(plain, &mcp.Tool{Name: "refuse", Description: "Fails, as tools fail."}, t.refuse)
	mcp.AddTool(plain, &mcp.Tool{Name: "break", Description: "Fails, as servers fail."}, t.broken)
	mcp.AddTool(plain, &mcp.Tool{Name: "ask", Description: "Asks, and ends its round to do so.", Annotations: safe}, t.ask)

	held := mcp.NewServer(&mcp.Implementation{Name: "held", Version: "1"}, nil)
	mcp.AddTool(held, &mcp.Tool{Name: "ask", Description: "Asks while it runs.", Annotations: safe}, t.askHeld)
	mcp.AddTool(held, &mcp.Tool{Name: "once", Description: "Has an effect, asks while it runs, and may not be run twice."}, t.onceHeld)
	mcp.AddTool(held, &mcp.Tool{Name: "glance", Description: "Asks while it runs, and does not wait long.", Annotations: safe}, t.glance)
	legacy := upstream.InProcess("held", held)
	legacy.Protocol = upstream.Protocol2025

	return longhaul.Options{
		Name: "workflow",
		WorkflowTools: []workflowtool.Tool{
			workflowtool.New(&mcp.Tool{Name: "ask", Description: "Asks, then has an effect."}, t.askWorkflow),
		},
		RegisterSteps: func(r worker.Registry) {
			r.RegisterActivityWithOptions(t.step, activity.RegisterOptions{Name: "step"})
		},
		Servers: []upstream.Server{upstream.InProcess("plain", plain), legacy},
	}
}

// effect is one of a call: its idempotency key is what Longhaul gave it.
func (t tools) effect(kind effects.Kind, req *mcp.CallToolRequest, in call) effects.Effect {
	key, _ := req.Params.Meta[task.MetaIdempotencyKey].(string)
	return effects.Effect{Kind: kind, Tool: req.Params.Name, Label: in.Label, Key: key, Process: t.process}
}

func (t tools) add(kind effects.Kind, req *mcp.CallToolRequest, in call) error {
	return t.log.Add(t.effect(kind, req, in))
}

func (t tools) quick(_ context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	return nil, done{Label: in.Label}, t.add(effects.Began, req, in)
}

func (t tools) slow(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := t.add(effects.Began, req, in); err != nil {
		return nil, done{}, err
	}
	const steps = 5
	for i := range steps {
		if err := take(ctx, in.Millis/steps); err != nil {
			return nil, done{}, err
		}
		if err := longhaul.Progress(ctx, req, float64(i+1), steps, "still here"); err != nil {
			return nil, done{}, err
		}
	}
	return nil, done{Label: in.Label}, nil
}

// once has its effect in the middle.
func (t tools) once(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := errors.Join(t.add(effects.Began, req, in), take(ctx, in.Millis/2)); err != nil {
		return nil, done{}, err
	}
	if err := t.add(effects.Happened, req, in); err != nil {
		return nil, done{}, err
	}
	return nil, done{Label: in.Label}, take(ctx, in.Millis/2)
}

// commit has its effect in the middle.
func (t tools) commit(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := errors.Join(t.add(effects.Began, req, in), take(ctx, in.Millis/2)); err != nil {
		return nil, done{}, err
	}
	if _, err := t.log.Commit(t.effect(effects.Committed, req, in)); err != nil {
		return nil, done{}, err
	}
	return nil, done{Label: in.Label}, take(ctx, in.Millis/2)
}

func (t tools) refuse(_ context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	return nil, done{}, errors.Join(t.add(effects.Began, req, in), fmt.Errorf("refused: %s", in.Label))
}

func (t tools) broken(_ context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := t.add(effects.Began, req, in); err != nil {
		return nil, done{}, err
	}
	return nil, done{}, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "broken: " + in.Label}
}

// ask asks everything at once.
func (t tools) ask(_ context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	asked := mcp.InputRequestMap{}
	out := done{Label: in.Label}
	for i := range in.Questions {
		name := question(i)
		a, ok := req.Params.InputResponses[name].(*mcp.ElicitResult)
		if !ok {
			asked[name] = form(name)
			continue
		}
		given, err := t.answered(req, in, name, a)
		if err != nil {
			return nil, done{}, err
		}
		out.Answers = append(out.Answers, given)
	}
	if len(asked) > 0 {
		return &mcp.CallToolResult{InputRequests: asked}, done{}, nil
	}
	return nil, out, nil
}

// askHeld asks one thing after the other.
func (t tools) askHeld(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := t.add(effects.Began, req, in); err != nil {
		return nil, done{}, err
	}
	out := done{Label: in.Label}
	for i := range in.Questions {
		name := question(i)
		a, err := req.Session.Elicit(ctx, form(name))
		if err != nil {
			return nil, done{}, err
		}
		given, err := t.answered(req, in, name, a)
		if err != nil {
			return nil, done{}, err
		}
		out.Answers = append(out.Answers, given)
	}
	return nil, out, take(ctx, in.Millis)
}

func (t tools) onceHeld(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	if err := t.add(effects.Happened, req, in); err != nil {
		return nil, done{}, err
	}
	return t.askHeld(ctx, req, in)
}

// glance ends while what it asked is outstanding, unless that was quick.
func (t tools) glance(ctx context.Context, req *mcp.CallToolRequest, in call) (*mcp.CallToolResult, done, error) {
	patient, cancel := context.WithTimeout(ctx, time.Duration(in.Millis)*time.Millisecond)
	defer cancel()
	_, out, err := t.askHeld(patient, req, call{Label: in.Label, Questions: in.Questions})
	if err != nil && ctx.Err() == nil {
		return nil, done{Label: in.Label}, nil
	}
	return nil, out, err
}

// askWorkflow asks one thing after the other, then has its effect.
func (t tools) askWorkflow(ctx workflow.Context, in call) (done, error) {
	out := done{Label: in.Label}
	for i := range in.Questions {
		a, err := workflowtool.Elicit[answer](ctx, question(i))
		if err != nil {
			return done{}, err
		}
		out.Answers = append(out.Answers, given(a.Action, a.Content.Value))
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Second, // a worker that was killed is given up then
	})
	return out, workflow.ExecuteActivity(ctx, "step", in.Label, out.Answers).Get(ctx, nil)
}

// step is the effect of a workflow tool.
func (t tools) step(ctx context.Context, label string, answers []string) error {
	info := activity.GetInfo(ctx)
	e := effects.Effect{
		Tool: "ask", Label: label, Key: info.WorkflowExecution.ID + "/" + info.ActivityID, Process: t.process,
	}
	for i, given := range answers {
		e.Kind, e.Question, e.Answer = effects.Answered, question(i), given
		if err := t.log.Add(e); err != nil {
			return err
		}
	}
	e.Question, e.Answer = "", ""
	_, err := t.log.Commit(e)
	return err
}

func (t tools) answered(req *mcp.CallToolRequest, in call, name string, a *mcp.ElicitResult) (string, error) {
	value, _ := a.Content["value"].(string)
	e := t.effect(effects.Answered, req, in)
	e.Question, e.Answer = name, given(a.Action, value)
	return e.Answer, t.log.Add(e)
}

// given is what a tool saw of an answer: its value, or what was done instead.
func given(action, value string) string {
	if action == "accept" {
		return value
	}
	return strings.ToUpper(action)
}

func question(i int) string { return fmt.Sprintf("q%d", i+1) }

func form(message string) *mcp.ElicitParams {
	return &mcp.ElicitParams{Message: message, RequestedSchema: json.RawMessage(answerSchema)}
}

const answerSchema = `{"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}`

// take takes some time.
func take(ctx context.Context, millis int) error {
	end := time.NewTimer(time.Duration(millis) * time.Millisecond)
	defer end.Stop()
	select {
	case <-end.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
