package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, main)) }

func connect(t *testing.T) *taskclient.Client {
	t.Helper()
	p := programtest.Start(t, programtest.DevArgs(t.TempDir())...)
	c, err := taskclient.Connect(t.Context(), p.URL(t, "MCP endpoint"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// call calls a tool as a task and decodes its result.
func call(t *testing.T, c *taskclient.Client, tool string, arguments, result any) {
	t.Helper()
	id, err := c.Create(t.Context(), tool, arguments)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Result(t.Context(), id, result); err != nil {
		t.Fatal(err)
	}
}

func TestPlainTools(t *testing.T) {
	c := connect(t)

	t.Run("one that answers at once", func(t *testing.T) {
		var got struct{ StructuredContent findOutput }
		call(t, c, "find_rooms", findInput{People: 20}, &got)
		if want := []room{{"Hall", 60}}; !reflect.DeepEqual(got.StructuredContent.Rooms, want) {
			t.Errorf("got %v, want %v", got.StructuredContent.Rooms, want)
		}
	})
	t.Run("one that takes its time", func(t *testing.T) {
		var got struct{ StructuredContent airOutput }
		call(t, c, "air_room", airInput{Room: "Attic", Seconds: 1}, &got)
		if !strings.Contains(got.StructuredContent.Done, "Attic") {
			t.Errorf("got %q", got.StructuredContent.Done)
		}
	})
	t.Run("one that fails", func(t *testing.T) {
		var got struct {
			IsError bool
			Content []struct{ Text string }
		}
		call(t, c, "air_room", airInput{Room: "Cellar"}, &got)
		if !got.IsError || !strings.Contains(got.Content[0].Text, "Cellar") {
			t.Errorf("got %+v", got)
		}
	})
}

// A tool must not ask a client that has not declared that it can be asked
// (2025-11-25, client/elicitation, Capabilities): it gets an error, not silence.
func TestBookingForAClientThatCannotBeAsked(t *testing.T) {
	var got struct {
		IsError bool
		Content []struct{ Text string }
	}
	call(t, connect(t), "book_room", bookInput{Room: "Hall"}, &got)
	if !got.IsError || !strings.Contains(got.Content[0].Text, "does not support elicitation") {
		t.Errorf("got %+v", got)
	}
}
