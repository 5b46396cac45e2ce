package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/workflowtool"
)

type releaseInput struct {
	Version string   `json:"version" jsonschema:"what to release, like 1.2.3"`
	Regions []string `json:"regions" jsonschema:"where to, in this order"`
}

type releaseOutput struct {
	Released bool   `json:"released"`
	Note     string `json:"note"`
}

// approval is the form that a person fills in.
type approval struct {
	Decision string `json:"decision" jsonschema:"may this be released?"`
	Note     string `json:"note,omitempty" jsonschema:"for the record"`
}

func decisions(form *jsonschema.Schema) {
	form.Properties["decision"].Enum = []any{"release", "reject"}
}

// release is the process. It may take days, through which the process it runs
// in may be stopped, killed and deployed anew.
func release(ctx workflow.Context, in releaseInput) (releaseOutput, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 8},
		// A step that is cancelled while it runs may still do something: what
		// it did is undone only after it has ended.
		WaitForCancellation: true,
	})

	var do *steps // for the names of its methods
	var plan plan
	if err := workflow.ExecuteActivity(ctx, do.Plan, in).Get(ctx, &plan); err != nil {
		return releaseOutput{}, err
	}

	// The first version of this process asked without a check. Releases that
	// were waiting for an answer when the check was added have a history without
	// it: for them GetVersion says so, and they go on as they began.
	if workflow.GetVersion(ctx, "check", workflow.DefaultVersion, 1) >= 1 {
		if err := workflow.ExecuteActivity(ctx, do.Check, plan).Get(ctx, nil); err != nil {
			return releaseOutput{}, err
		}
	}

	// Nothing is held while somebody thinks about it: no process, no connection.
	answer, err := workflowtool.Elicit[approval](ctx, plan.String(), decisions)
	if err != nil {
		return releaseOutput{}, err
	}
	if !answer.Accepted() || answer.Content.Decision != "release" {
		return releaseOutput{Note: "not approved. " + answer.Content.Note}, nil
	}

	if err := rollOut(ctx, plan); err != nil {
		return releaseOutput{}, err
	}
	return releaseOutput{Released: true, Note: answer.Content.Note}, nil
}

// rollOut deploys region by region. If that fails, or is cancelled, the regions
// go back to what they had, the last one first.
func rollOut(ctx workflow.Context, p plan) (err error) {
	var do *steps
	var begun []change
	defer func() {
		if err == nil {
			return
		}
		// A cancelled context does nothing any more. This one does, for as long
		// as the tool's CleanupTimeout.
		ctx, _ := workflow.NewDisconnectedContext(ctx)
		for i := len(begun) - 1; i >= 0; i-- {
			if undo := workflow.ExecuteActivity(ctx, do.Restore, begun[i]).Get(ctx, nil); undo != nil {
				err = fmt.Errorf("%w; and %s still has %s: %w", err, begun[i].Region, begun[i].To, undo)
			}
		}
	}()
	for i, c := range p.Changes {
		if err := workflowtool.Progress(ctx, float64(i), float64(len(p.Changes)), "deploying to "+c.Region); err != nil {
			return err
		}
		begun = append(begun, c) // before it is: a step that fails may have done half of its work
		if err := workflow.ExecuteActivity(ctx, do.Deploy, c).Get(ctx, nil); err != nil {
			return fmt.Errorf("deploying to %s: %w", c.Region, err)
		}
	}
	return nil
}

// plan is what a release would change.
type plan struct {
	Changes []change `json:"changes"`
}

type change struct {
	Region string `json:"region"`
	From   string `json:"from,omitempty"`
	To     string `json:"to"`
}

func (p plan) String() string {
	var b strings.Builder
	b.WriteString("Release this?\n")
	for _, c := range p.Changes {
		from := c.From
		if from == "" {
			from = "nothing"
		}
		b.WriteString("\n- " + c.Region + ": from " + from + " to " + c.To)
	}
	return b.String()
}
