package demo

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
)

// maxCountdown is the longest countdown in seconds: a day.
const maxCountdown = 24 * 60 * 60

type countdownInput struct {
	Seconds float64 `json:"seconds" jsonschema:"how long to count, at most 86400"`
	Label   string  `json:"label,omitempty" jsonschema:"what is being waited for"`
}

type countdownOutput struct {
	Label    string    `json:"label,omitempty" jsonschema:"the label given"`
	Seconds  float64   `json:"seconds" jsonschema:"the seconds counted"`
	Deadline time.Time `json:"deadline" jsonschema:"the moment that was counted down to"`
	Resumed  bool      `json:"resumed" jsonschema:"whether the count went on after an interruption"`
}

// countdownState is the checkpoint of countdown. A moment rather than what is
// left: the time between two attempts counts.
type countdownState struct {
	Deadline time.Time `json:"deadline"`
}

func countdownSchema() (*jsonschema.Schema, error) {
	schema, err := jsonschema.For[countdownInput](nil)
	if err != nil {
		return nil, err
	}
	schema.Properties["seconds"].Minimum = new(0.0)
	schema.Properties["seconds"].Maximum = new(float64(maxCountdown))
	return schema, nil
}

func (d *demo) countdown(ctx context.Context, req *mcp.CallToolRequest, in countdownInput) (*mcp.CallToolResult, *countdownOutput, error) {
	total := time.Duration(in.Seconds * float64(time.Second))
	state, resumed, err := longhaul.LoadCheckpoint[countdownState](req)
	if err != nil {
		d.logger.Warn("cannot resume, starting over", "tool", "countdown", "error", err)
	}
	left := total
	if resumed {
		// Never longer than asked for: the clock of the machine that began may
		// have been ahead of this one's.
		left = min(time.Until(state.Deadline), total)
	}
	state.Deadline = time.Now().UTC().Add(left)

	name := in.Label
	if name == "" {
		name = "countdown"
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for left > 0 {
		message := fmt.Sprintf("%s: %.0f s left", name, math.Ceil(left.Seconds()))
		err := longhaul.SaveCheckpoint(ctx, req, (total - left).Seconds(), in.Seconds, message, state)
		if err != nil {
			return nil, nil, err
		}
		timer.Reset(min(left, time.Second))
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-timer.C:
		}
		left = time.Until(state.Deadline)
	}
	if err := longhaul.Progress(ctx, req, in.Seconds, in.Seconds, name+": done"); err != nil {
		return nil, nil, err
	}
	return nil, &countdownOutput{
		Label:    in.Label,
		Seconds:  in.Seconds,
		Deadline: state.Deadline,
		Resumed:  resumed,
	}, nil
}
