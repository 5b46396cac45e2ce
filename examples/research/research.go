package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// maxParts is into how many parts a question is split at most.
const maxParts = 5

type researchInput struct {
	Question     string `json:"question"`
	PauseSeconds int    `json:"pauseSeconds,omitempty" jsonschema:"how long to leave the model alone between two parts"`
}

type researchOutput struct {
	Summary  string    `json:"summary"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Part   string `json:"part"`
	Answer string `json:"answer"`
}

// research is the process. Whatever the model has answered stays answered,
// whatever becomes of the process it runs in.
func research(ctx workflow.Context, in researchInput) (researchOutput, error) {
	list, err := model(ctx, "Split this question into simpler ones, one a line: "+in.Question)
	if err != nil {
		return researchOutput{}, err
	}
	parts := strings.FieldsFunc(list, func(r rune) bool { return r == '\n' })
	parts = parts[:min(len(parts), maxParts)]

	var found []finding
	for i, part := range parts {
		if i > 0 {
			// A timer of the workflow's: nothing waits but the task.
			if err := workflow.Sleep(ctx, time.Duration(in.PauseSeconds)*time.Second); err != nil {
				return researchOutput{}, err
			}
		}
		answer, err := model(ctx, "Answer in one sentence: "+part)
		if err != nil {
			return researchOutput{}, err
		}
		found = append(found, finding{Part: part, Answer: answer})
		// What there is so far, for whoever looks at the task's status.
		if err := workflowtool.Progress(ctx, float64(i+1), float64(len(parts)), notes(found)); err != nil {
			return researchOutput{}, err
		}
	}

	summary, err := model(ctx, fmt.Sprintf("Answer %q from these notes:\n\n%s", in.Question, notes(found)))
	return researchOutput{Summary: summary, Findings: found}, err
}

// model has the caller's model answer a prompt.
func model(ctx workflow.Context, prompt string) (string, error) {
	r, err := workflowtool.Sample(ctx, &mcp.CreateMessageWithToolsParams{
		MaxTokens: 1000,
		Messages:  []*mcp.SamplingMessageV2{{Role: "user", Content: []mcp.Content{&mcp.TextContent{Text: prompt}}}},
	})
	if err != nil {
		return "", err
	}
	if len(r.Content) == 1 {
		if text, ok := r.Content[0].(*mcp.TextContent); ok {
			return text.Text, nil
		}
	}
	return "", errors.New("the model did not answer with text")
}

func notes(found []finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString("- " + f.Part + " " + f.Answer + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}
