package conformance_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul"
	_ "github.com/longhaul-mcp/longhaul/internal/temporaltest/embedded"
	"github.com/longhaul-mcp/longhaul/upstream"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// One tool, sign, written in every way there is to ask somebody: it ends its
// rounds to ask, it asks while its round runs, and it is a workflow.
const (
	signByRounds   = "rounds__sign"
	signHeld       = "held__sign"
	signByWorkflow = "workflow__sign"
)

const whoSigns = "Who signs?"

// signature is the form that sign wants filled in.
type signature struct {
	Name string `json:"name" jsonschema:"your name"`
}

type signed struct {
	Outcome string `json:"outcome"`
}

func signedBy(action, name string) signed {
	if action != "accept" {
		return signed{"not signed: " + action}
	}
	return signed{"signed by " + name}
}

func signatureForm() (*mcp.ElicitParams, error) {
	schema, err := jsonschema.For[signature](nil)
	return &mcp.ElicitParams{Message: whoSigns, RequestedSchema: schema}, err
}

// signOptions are those of a Longhaul with all three.
func signOptions() longhaul.Options {
	sign := &mcp.Tool{Name: "sign", Description: "Has something signed."}
	rounds := mcp.NewServer(&mcp.Implementation{Name: "rounds", Version: "1"}, nil)
	mcp.AddTool(rounds, sign, func(_ context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, signed, error) {
		if a, ok := req.Params.InputResponses["who"].(*mcp.ElicitResult); ok {
			name, _ := a.Content["name"].(string)
			return nil, signedBy(a.Action, name), nil
		}
		form, err := signatureForm()
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"who": form}}, signed{}, err
	})
	held := mcp.NewServer(&mcp.Implementation{Name: "held", Version: "1"}, nil)
	mcp.AddTool(held, sign, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, signed, error) {
		a, err := elicitSignature(ctx, req)
		if err != nil {
			return nil, signed{}, err
		}
		name, _ := a.Content["name"].(string)
		return nil, signedBy(a.Action, name), nil
	})
	legacy := upstream.InProcess("held", held)
	legacy.Protocol = upstream.Protocol2025
	return longhaul.Options{
		Name: "workflow",
		WorkflowTools: []workflowtool.Tool{workflowtool.New(sign, func(ctx workflow.Context, _ struct{}) (signed, error) {
			a, err := workflowtool.Elicit[signature](ctx, whoSigns)
			if err != nil {
				return signed{}, err
			}
			return signedBy(a.Action, a.Content.Name), nil
		})},
		Servers: []upstream.Server{upstream.InProcess("rounds", rounds), legacy},
	}
}

// elicitSignature asks while the round runs.
func elicitSignature(ctx context.Context, req *mcp.CallToolRequest) (*mcp.ElicitResult, error) {
	form, err := signatureForm()
	if err != nil {
		return nil, err
	}
	return req.Session.Elicit(ctx, form)
}

// startDev runs Longhaul in this process until the test ends.
func startDev(t *testing.T, o longhaul.Options) *longhaul.Process {
	t.Helper()
	log := &syncBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o.DataDir, o.Listen = t.TempDir(), "127.0.0.1:0"
	p, err := longhaul.Dev(t.Context(), o, longhaul.EngineOptions{TemporalAddr: "127.0.0.1:0", UIAddr: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of Longhaul:\n%s", log)
		}
	})
	return p
}

// recordsEnv is set in the environment of a test binary that is a Longhaul with
// tools that leave records: it is the directory for them.
const recordsEnv = "CONFORMANCE_RECORDS"

// recorder is the program with these tools: records counts runs and answers, so
// that a test sees what happened in a process that it has killed.
func recorder(dir string) int {
	s := mcp.NewServer(&mcp.Implementation{Name: "recorder", Version: "1"}, nil)
	sign := func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, signed, error) {
		if err := records(dir, "runs").add(req.Params.Name); err != nil {
			return nil, signed{}, err
		}
		a, err := elicitSignature(ctx, req)
		if err != nil {
			return nil, signed{}, err
		}
		name, _ := a.Content["name"].(string)
		if err := records(dir, "answers").add(name); err != nil {
			return nil, signed{}, err
		}
		if _, err := os.Stat(filepath.Join(dir, "stall")); err == nil {
			<-ctx.Done()
			return nil, signed{}, ctx.Err()
		}
		if err := records(dir, "used").add(name); err != nil {
			return nil, signed{}, err
		}
		return nil, signedBy(a.Action, name), nil
	}
	mcp.AddTool(s, &mcp.Tool{Name: "repeatable"}, sign)
	mcp.AddTool(s, &mcp.Tool{Name: "once"}, sign)
	return longhaul.Run(longhaul.Options{
		Name:     "recorder",
		Server:   s,
		Protocol: upstream.Protocol2025,
		Tools:    map[string]upstream.ToolOptions{"repeatable": {Retry: upstream.RetryAlways}},
	})
}

// recordFile is a file of one line for each time that something happened.
type recordFile string

func records(dir, what string) recordFile { return recordFile(filepath.Join(dir, what)) }

func (r recordFile) add(line string) error {
	f, err := os.OpenFile(string(r), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
