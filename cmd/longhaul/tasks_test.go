package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

// tasks runs "longhaul tasks", which has to succeed, and returns what it prints.
func tasks(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := programtest.Command(t, append([]string{"tasks"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tasks %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// listed are the tasks of a list in JSON, by ID.
func listed(t *testing.T, args ...string) map[string]string {
	t.Helper()
	var list struct {
		Tasks []struct{ ID, Status string }
	}
	if err := json.Unmarshal([]byte(tasks(t, append([]string{"list", "--json"}, args...)...)), &list); err != nil {
		t.Fatal(err)
	}
	statuses := map[string]string{}
	for _, listed := range list.Tasks {
		statuses[listed.ID] = listed.Status
	}
	return statuses
}

// An operator looks after tasks with nothing but Temporal.
func TestTasks(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	oneLine(t, programtest.Fails(t, "tasks", "list"), "127.0.0.1:1", `"longhaul dev"`, "TEMPORAL_ADDRESS")

	dev := programtest.Start(t, programtest.DevArgs(t.TempDir())...)
	t.Setenv("TEMPORAL_ADDRESS", dev.URL(t, "Temporal gRPC"))
	c, err := taskclient.Connect(t.Context(), dev.URL(t, "MCP endpoint"))
	if err != nil {
		t.Fatal(err)
	}
	create := func(seconds int, label string) string {
		t.Helper()
		id, err := c.Create(t.Context(), "countdown", map[string]any{"seconds": seconds, "label": label})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	quick, slow := create(0, "quick"), create(3600, "slow")
	if err := c.Result(t.Context(), quick, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	// Temporal's lists are a moment behind.
	for deadline := time.Now().Add(time.Minute); ; {
		if all := listed(t); all[quick] == "completed" && all[slow] == "working" && len(all) == 2 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("listed %v", all)
		}
	}

	t.Run("list", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(tasks(t, "list")), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "ID ") || !strings.Contains(lines[1], slow) || !strings.Contains(lines[2], "countdown(label=quick, seconds=0)") {
			t.Errorf("%s", strings.Join(lines, "\n"))
		}
		for args, want := range map[string]string{
			"--status working": slow, "--status completed": quick, "--tool countdown --status failed": "", "--owner bob": "", "--older-than 1h": "",
		} {
			got := listed(t, strings.Fields(args)...)
			if _, ok := got[want]; want == "" && len(got) != 0 || want != "" && (!ok || len(got) != 1) {
				t.Errorf("%s: %v", args, got)
			}
		}
		var page struct{ Next string }
		if err := json.Unmarshal([]byte(tasks(t, "list", "--limit", "1", "--json")), &page); err != nil {
			t.Fatal(err)
		}
		if got := listed(t, "--limit", "1", "--page", page.Next); got[quick] == "" || len(got) != 1 {
			t.Errorf("the second page: %v", got)
		}
		oneLine(t, programtest.Fails(t, "tasks", "list", "--status", "done"), "done")
		oneLine(t, programtest.Fails(t, "tasks", "list", "--page", "!"), "--page")
		oneLine(t, programtest.Fails(t, "tasks", "list", "--claims-s3", "s3://bucket?colour=red"), "colour")
	})

	t.Run("get", func(t *testing.T) {
		for _, part := range []string{quick, "completed", `"label": "quick"`, "default", "longhaul"} {
			if got := tasks(t, "get", quick); !strings.Contains(got, part) {
				t.Errorf("%q is not in\n%s", part, got)
			}
		}
		oneLine(t, programtest.Fails(t, "tasks", "get", "none"), "none", "tasks list")
		oneLine(t, programtest.Fails(t, "tasks", "get"), "ID")
	})

	t.Run("cancel", func(t *testing.T) {
		oneLine(t, programtest.Fails(t, "tasks", "delete", slow, "--yes"), "tasks cancel "+slow)
		if got := tasks(t, "cancel", slow, "--reason", "enough"); got != slow+" cancelled\n" {
			t.Errorf("%q", got)
		}
		if got, err := c.Get(t.Context(), slow); err != nil || got.Status != "cancelled" {
			t.Errorf("%+v, %v", got, err)
		}
		oneLine(t, programtest.Fails(t, "tasks", "cancel", slow), "already ended", "cancelled")
	})

	t.Run("delete", func(t *testing.T) {
		oneLine(t, programtest.Fails(t, "tasks", "delete", quick), "--yes", "nothing was deleted")
		if got := tasks(t, "delete", quick, "--yes"); got != quick+" deleted\n" {
			t.Errorf("%q", got)
		}
	})

	t.Run("prune", func(t *testing.T) {
		oneLine(t, programtest.Fails(t, "tasks", "prune", "--yes"), "--older-than")
		if got := tasks(t, "prune", "--older-than", "1h", "--yes", "--json"); !strings.Contains(got, `"deleted": 0`) {
			t.Errorf("%s", got)
		}
		oneLine(t, programtest.Fails(t, "tasks", "prune", "--older-than", "1ns"), "--yes")
		for deadline := time.Now().Add(time.Minute); len(listed(t)) > 0; {
			tasks(t, "prune", "--older-than", "1ns", "--yes")
			if time.Now().After(deadline) {
				t.Fatalf("still there: %v", listed(t))
			}
		}
	})

	oneLine(t, programtest.Fails(t, "tasks", "purge"), "purge")
}
