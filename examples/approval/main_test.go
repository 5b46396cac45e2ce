package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }

// setup makes the directory with what the regions have.
func setup(t *testing.T, versions map[string]string) (regions string) {
	t.Helper()
	regions = t.TempDir()
	t.Setenv("RELEASES_DIR", regions)
	for region, version := range versions {
		if err := os.WriteFile(filepath.Join(regions, region), []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return regions
}

// checkRegions fails unless the regions have exactly these versions.
func checkRegions(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) {
		t.Errorf("there are %v, want %v", files, want)
	}
	for region, version := range want {
		if got, err := os.ReadFile(filepath.Join(dir, region)); err != nil || string(got) != version {
			t.Errorf("%s has %q (%v), want %q", region, got, err, version)
		}
	}
}

// connect connects a client whose person answers as told.
func connect(t *testing.T, p *programtest.Program, person taskclient.Answer) *taskclient.Client {
	t.Helper()
	c, err := taskclient.ConnectAnswering(t.Context(), p.URL(t, "MCP endpoint"), map[string]taskclient.Answer{
		"elicitation/create": person,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func create(t *testing.T, c *taskclient.Client, in releaseInput) (id string) {
	t.Helper()
	id, err := c.Create(t.Context(), "release", in)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func checkStatus(t *testing.T, c *taskclient.Client, id, status, message string) {
	t.Helper()
	s, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if s.Status != status || !strings.Contains(s.StatusMessage, message) {
		t.Errorf("the task is %+v, want %s: %s", s, status, message)
	}
}

type result struct {
	IsError           bool
	Content           []struct{ Text string }
	StructuredContent releaseOutput
}

// decide is a person's answer.
func decide(decision string) taskclient.Answer {
	return func(context.Context, json.RawMessage) (any, error) {
		return map[string]any{"action": "accept", "content": approval{Decision: decision, Note: "as discussed"}}, nil
	}
}

func TestReleaseOutlivesTheProcessWhileAPersonThinks(t *testing.T) {
	regions, data := setup(t, map[string]string{"us": "1.0"}), t.TempDir()
	p := programtest.Start(t, programtest.DevArgs(data)...)

	asked := make(chan string, 1)
	c := connect(t, p, func(ctx context.Context, params json.RawMessage) (any, error) {
		asked <- string(params)
		<-ctx.Done() // thinking
		return nil, ctx.Err()
	})
	id := create(t, c, releaseInput{Version: "1.1", Regions: []string{"us", "eu"}})
	waiting, stop := context.WithCancel(t.Context())
	defer stop()
	waited := make(chan error, 1)
	go func() { waited <- c.Result(waiting, id, nil) }()
	if got := <-asked; !strings.Contains(got, "us: from 1.0 to 1.1") || !strings.Contains(got, `"enum":["release","reject"]`) {
		t.Errorf("asked %s", got)
	}
	checkStatus(t, c, id, "input_required", "Release this?")
	p.Kill()
	stop()
	if err := <-waited; err == nil {
		t.Error("the wait ended without an error")
	}

	c = connect(t, programtest.Start(t, programtest.DevArgs(data)...), decide("release"))
	checkStatus(t, c, id, "input_required", "Release this?")
	var r result
	if err := c.Result(t.Context(), id, &r); err != nil {
		t.Fatal(err)
	}
	if want := (releaseOutput{Released: true, Note: "as discussed"}); r.IsError || r.StructuredContent != want {
		t.Errorf("got %+v", r)
	}
	checkStatus(t, c, id, "completed", "")
	checkRegions(t, regions, map[string]string{"us": "1.1", "eu": "1.1"})
}

func TestWhatEndsAReleaseLeavesTheRegionsAsTheyWere(t *testing.T) {
	before := map[string]string{"us": "1.0"}
	regions := setup(t, before)
	p := programtest.Start(t, programtest.DevArgs(t.TempDir())...)

	t.Run("rejected", func(t *testing.T) {
		c := connect(t, p, decide("reject"))
		var r result
		if err := c.Result(t.Context(), create(t, c, releaseInput{Version: "1.1", Regions: []string{"us", "eu"}}), &r); err != nil {
			t.Fatal(err)
		}
		if r.IsError || r.StructuredContent.Released {
			t.Errorf("got %+v", r)
		}
		checkRegions(t, regions, before)
	})

	t.Run("not possible", func(t *testing.T) {
		c := connect(t, p, nil)
		var r result
		if err := c.Result(t.Context(), create(t, c, releaseInput{Version: "1.0", Regions: []string{"us"}}), &r); err != nil {
			t.Fatal(err)
		}
		if !r.IsError || r.Content[0].Text != "every region has that version already" {
			t.Errorf("got %+v", r)
		}
	})

	t.Run("cancelled half way", func(t *testing.T) {
		// With a directory in its place, what eu has cannot be written: that step
		// fails and is tried again.
		blocked := filepath.Join(regions, "eu")
		c := connect(t, p, func(ctx context.Context, _ json.RawMessage) (any, error) {
			if err := os.Mkdir(blocked, 0o700); err != nil {
				return nil, err
			}
			return decide("release")(ctx, nil)
		})
		id := create(t, c, releaseInput{Version: "1.1", Regions: []string{"us", "eu"}})
		waited := make(chan error, 1)
		go func() { waited <- c.Result(t.Context(), id, nil) }()
		for {
			s, err := c.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if s.StatusMessage == "deploying to eu" {
				break
			}
			if s.Status == "failed" || s.Status == "completed" {
				t.Fatalf("the task is %+v", s)
			}
		}
		if got, err := os.ReadFile(filepath.Join(regions, "us")); string(got) != "1.1" {
			t.Errorf("us has %q (%v)", got, err)
		}
		s, err := c.Cancel(t.Context(), id)
		if err != nil || s.Status != "cancelled" {
			t.Fatalf("the task is %+v, %v", s, err)
		}
		if err := <-waited; err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("the wait ended with %v", err)
		}

		// The task is over at once, its workflow when it has cleaned up.
		temporal, err := client.DialContext(t.Context(), client.Options{HostPort: p.URL(t, "Temporal gRPC"), Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer temporal.Close()
		_ = temporal.GetWorkflow(t.Context(), id, "").Get(t.Context(), nil)
		checkRegions(t, regions, before)
	})
}
