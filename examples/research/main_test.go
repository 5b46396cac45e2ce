package main

import (
	"context"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }

// fakeModel is the caller's model.
func fakeModel(_ context.Context, params json.RawMessage) (any, error) {
	var p struct {
		Messages []struct{ Content struct{ Text string } }
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, err
	}
	said := "nobody knows"
	switch prompt := p.Messages[0].Content.Text; {
	case strings.HasPrefix(prompt, "Split"):
		said = "How tall is it?\nWho built it?"
	case strings.Contains(prompt, "from these notes"):
		said = "Summed up: " + prompt[strings.Index(prompt, "\n\n")+2:]
	case strings.Contains(prompt, "How tall"):
		said = "330 m."
	case strings.Contains(prompt, "Who built"):
		said = "Koechlin."
	}
	return map[string]any{"role": "assistant", "model": "fake", "content": map[string]any{"type": "text", "text": said}}, nil
}

func connect(t *testing.T) *taskclient.Client {
	t.Helper()
	p := programtest.Start(t, programtest.DevArgs(t.TempDir())...)
	c, err := taskclient.ConnectAnswering(t.Context(), p.URL(t, "MCP endpoint"), map[string]taskclient.Answer{
		"sampling/createMessage": fakeModel,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestResearch(t *testing.T) {
	c := connect(t)

	t.Run("is answered part by part by the caller's model", func(t *testing.T) {
		id, err := c.Create(t.Context(), "research", researchInput{Question: "What about the tower?"})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ StructuredContent researchOutput }
		if err := c.Result(t.Context(), id, &got); err != nil {
			t.Fatal(err)
		}
		want := researchOutput{
			Summary:  "Summed up: - How tall is it? 330 m.\n- Who built it? Koechlin.",
			Findings: []finding{{"How tall is it?", "330 m."}, {"Who built it?", "Koechlin."}},
		}
		if !reflect.DeepEqual(got.StructuredContent, want) {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("its status shows what was found so far", func(t *testing.T) {
		id, err := c.Create(t.Context(), "research", researchInput{Question: "What about the tower?", PauseSeconds: 3600})
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { waited <- c.Result(t.Context(), id, nil) }()
		var s taskclient.Task
		for !strings.Contains(s.StatusMessage, "330 m.") {
			if s, err = c.Get(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if s.Status != "working" || s.StatusMessage != "- How tall is it? 330 m." {
			t.Errorf("the task is %+v", s)
		}
		if _, err := c.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err == nil {
			t.Error("the wait ended without an error")
		}
	})
}

// 2025-11-25, client/sampling, "Capabilities": who has not declared it is not
// asked. The tool gets an error, not silence.
func TestResearchForAClientWithoutAModel(t *testing.T) {
	p := programtest.Start(t, programtest.DevArgs(t.TempDir())...)
	c, err := taskclient.Connect(t.Context(), p.URL(t, "MCP endpoint"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.Create(t.Context(), "research", researchInput{Question: "What about the tower?"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Result(t.Context(), id, nil); err == nil || !strings.Contains(err.Error(), "capability") {
		t.Errorf("got %v", err)
	}
}
