package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// rooms are the meeting rooms, and how many people each of them holds.
var rooms = []room{{"Attic", 4}, {"Garden", 8}, {"Hall", 60}}

type room struct {
	Name  string `json:"name"`
	Seats int    `json:"seats"`
}

// newServer returns an MCP server for meeting rooms.
func newServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "rooms", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "find_rooms",
		Description: "Lists the rooms that hold a number of people.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, findRooms)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "air_room",
		Description: "Opens the windows of a room for some seconds, and closes them again.",
		Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
	}, airRoom)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "book_room",
		Description: "Books a room, after asking what for.",
	}, bookRoom)
	return server
}

type findInput struct {
	People int `json:"people" jsonschema:"how many people will come"`
}

type findOutput struct {
	Rooms []room `json:"rooms"`
}

func findRooms(_ context.Context, _ *mcp.CallToolRequest, in findInput) (*mcp.CallToolResult, findOutput, error) {
	out := findOutput{Rooms: []room{}}
	for _, r := range rooms {
		if r.Seats >= in.People {
			out.Rooms = append(out.Rooms, r)
		}
	}
	return nil, out, nil
}

type airInput struct {
	Room    string `json:"room"`
	Seconds int    `json:"seconds"`
}

type airOutput struct {
	Done string `json:"done"`
}

func airRoom(ctx context.Context, req *mcp.CallToolRequest, in airInput) (*mcp.CallToolResult, airOutput, error) {
	if err := checkRoom(in.Room); err != nil {
		return nil, airOutput{}, err
	}
	for second := range in.Seconds {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, airOutput{}, ctx.Err()
		}
		token := req.Params.GetProgressToken()
		if token == nil {
			continue
		}
		if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: token,
			Progress:      float64(second + 1),
			Total:         float64(in.Seconds),
			Message:       "the windows are open",
		}); err != nil {
			return nil, airOutput{}, err
		}
	}
	return nil, airOutput{Done: "There is fresh air in " + in.Room + "."}, nil
}

type bookInput struct {
	Room string `json:"room"`
}

type bookOutput struct {
	Booked  bool   `json:"booked"`
	Purpose string `json:"purpose,omitempty"`
}

func bookRoom(ctx context.Context, req *mcp.CallToolRequest, in bookInput) (*mcp.CallToolResult, bookOutput, error) {
	if err := checkRoom(in.Room); err != nil {
		return nil, bookOutput{}, err
	}
	answer, err := req.Session.Elicit(ctx, &mcp.ElicitParams{
		Message: "What is " + in.Room + " to be booked for?",
		RequestedSchema: map[string]any{
			"type":       "object",
			"properties": map[string]any{"purpose": map[string]any{"type": "string", "minLength": 1}},
			"required":   []string{"purpose"},
		},
	})
	if err != nil {
		return nil, bookOutput{}, err
	}
	if answer.Action != "accept" {
		return nil, bookOutput{}, nil
	}
	purpose, _ := answer.Content["purpose"].(string)
	return nil, bookOutput{Booked: true, Purpose: purpose}, nil
}

func checkRoom(name string) error {
	if !slices.ContainsFunc(rooms, func(r room) bool { return r.Name == name }) {
		return fmt.Errorf("there is no room %q", name)
	}
	return nil
}
