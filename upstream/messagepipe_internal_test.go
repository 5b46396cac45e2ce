package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMessagePipe(t *testing.T) {
	deliver := func(t *testing.T, from, to mcp.Connection, msg jsonrpc.Message) jsonrpc.Message {
		t.Helper()
		sent := make(chan error, 1)
		go func() { sent <- from.Write(t.Context(), msg) }()
		got, err := to.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		return got
	}
	id, err := jsonrpc.MakeID("7")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("what arrives is a copy", func(t *testing.T) {
		client, server := newMessagePipe(new(tap))
		call := &jsonrpc.Request{ID: id, Method: "elicitation/create", Params: json.RawMessage(`{"message":"?"}`), Extra: "of the server"}
		got := deliver(t, server, client, call).(*jsonrpc.Request)
		if string(call.Params) != `{"message":"?"}` {
			t.Errorf("the server's own request became %s", call.Params)
		}
		if got.ID != id || got.Method != call.Method || string(got.Params) == string(call.Params) || got.Extra != nil {
			t.Errorf("got %+v, where the tap has the params", got)
		}
		reply := deliver(t, client, server, &jsonrpc.Response{ID: id, Result: json.RawMessage(`{"a":1}`), Extra: 1}).(*jsonrpc.Response)
		if reply.ID != id || string(reply.Result) != `{"a":1}` || reply.Error != nil || reply.Extra != nil {
			t.Errorf("got %+v", reply)
		}
	})

	t.Run("errors are those of the wire", func(t *testing.T) {
		client, server := newMessagePipe(new(tap))
		cause := &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "no", Data: json.RawMessage(`[1]`)}
		for _, c := range []struct {
			sent error
			want jsonrpc.Error
		}{
			{cause, *cause},
			{fmt.Errorf("tool: %w", cause), jsonrpc.Error{Code: cause.Code, Message: "tool: " + cause.Error()}},
			{io.ErrUnexpectedEOF, jsonrpc.Error{Message: io.ErrUnexpectedEOF.Error()}},
		} {
			reply := deliver(t, server, client, &jsonrpc.Response{ID: id, Error: c.sent}).(*jsonrpc.Response)
			var got *jsonrpc.Error
			if !errors.As(reply.Error, &got) || got.Code != c.want.Code || got.Message != c.want.Message || string(got.Data) != string(c.want.Data) {
				t.Errorf("%v became %+v", c.sent, reply.Error)
			}
		}
	})

	t.Run("the end of one is that of the other", func(t *testing.T) {
		msg := &jsonrpc.Request{Method: "notifications/initialized"}
		ended := func(closes, other mcp.Connection) {
			t.Helper()
			if err := errors.Join(closes.Close(), closes.Close()); err != nil {
				t.Error(err)
			}
			if _, err := other.Read(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("read with %v", err)
			}
			if err := other.Write(t.Context(), msg); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("wrote with %v", err)
			}
		}
		client, server := newMessagePipe(new(tap))
		ended(client, server)
		client, server = newMessagePipe(new(tap))
		ended(server, client)
	})

	t.Run("who stops waiting has sent nothing", func(t *testing.T) {
		tap := new(tap)
		client, server := newMessagePipe(tap)
		call := &exchange{method: methodCall}
		tap.begin(call)
		defer tap.end()
		ctx, stop := context.WithCancel(t.Context())
		wrote := make(chan error, 1)
		go func() { wrote <- client.Write(ctx, &jsonrpc.Request{ID: id, Method: methodCall}) }()
		stop()
		if err := <-wrote; !errors.Is(err, context.Canceled) || tap.pending(call) {
			t.Errorf("wrote with %v, and the call is pending: %t", err, tap.pending(call))
		}
		_ = server.Close()
	})
}
