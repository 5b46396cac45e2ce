package upstream

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// messagePipe connects a client and a server in this process. Messages go through it as
// they are: to write them out as lines of JSON, as the SDK's own transport does,
// has the server's end read each of them five times.
type messagePipe struct {
	toServer, toClient chan jsonrpc.Message // without buffers, so that what was sent has arrived
	closed             chan struct{}
	once               sync.Once
}

func newMessagePipe(t *tap) (*clientEnd, *serverEnd) {
	p := &messagePipe{toServer: make(chan jsonrpc.Message), toClient: make(chan jsonrpc.Message), closed: make(chan struct{})}
	return &clientEnd{p, t}, &serverEnd{p}
}

func (p *messagePipe) read(from <-chan jsonrpc.Message) (jsonrpc.Message, error) {
	select {
	case msg := <-from:
		return msg, nil
	case <-p.closed:
		return nil, io.EOF
	}
}

func (p *messagePipe) write(ctx context.Context, to chan<- jsonrpc.Message, msg jsonrpc.Message) error {
	msg, err := arriving(msg)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case to <- msg:
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *messagePipe) close() { p.once.Do(func() { close(p.closed) }) }

// arriving is what becomes of a message on its way. The one who gets it may change
// the copy, and whatever else it was sent with stays behind. An error is what the
// SDK would make of it on the wire.
func arriving(msg jsonrpc.Message) (jsonrpc.Message, error) {
	switch msg := msg.(type) {
	case *jsonrpc.Request:
		return &jsonrpc.Request{ID: msg.ID, Method: msg.Method, Params: msg.Params}, nil
	case *jsonrpc.Response:
		if msg.Error == nil {
			return &jsonrpc.Response{ID: msg.ID, Result: msg.Result}, nil
		}
	}
	data, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		return nil, err
	}
	return jsonrpc.DecodeMessage(data)
}

// serverEnd is the [mcp.Connection] of the server.
type serverEnd struct{ pipe *messagePipe }

func (*serverEnd) SessionID() string { return "" }

// Read implements [mcp.Connection]. Close ends it.
func (e *serverEnd) Read(context.Context) (jsonrpc.Message, error) {
	return e.pipe.read(e.pipe.toServer)
}

// Write implements [mcp.Connection].
func (e *serverEnd) Write(ctx context.Context, msg jsonrpc.Message) error {
	return e.pipe.write(ctx, e.pipe.toClient, msg)
}

// Close implements [mcp.Connection]: it ends both ends.
func (e *serverEnd) Close() error {
	e.pipe.close()
	return nil
}

// clientEnd is the [mcp.Connection] of the client, which reports to the tap.
type clientEnd struct {
	pipe *messagePipe
	tap  *tap
}

func (*clientEnd) SessionID() string { return "" }

// Read implements [mcp.Connection]. Close ends it.
func (e *clientEnd) Read(context.Context) (jsonrpc.Message, error) {
	msg, err := e.pipe.read(e.pipe.toClient)
	if err != nil {
		return nil, err
	}
	if content(msg) > maxMessageBytes {
		e.tap.abort(errTooLarge)
		e.pipe.close()
		return nil, errTooLarge
	}
	e.tap.received(msg) // and perhaps changed
	return msg, nil
}

// content is what a message carries, in bytes.
func content(msg jsonrpc.Message) int {
	var carried json.RawMessage
	switch msg := msg.(type) {
	case *jsonrpc.Request:
		carried = msg.Params
	case *jsonrpc.Response:
		carried = msg.Result
	}
	return len(carried)
}

// Write implements [mcp.Connection].
func (e *clientEnd) Write(ctx context.Context, msg jsonrpc.Message) error {
	e.tap.sending(msg)
	if err := e.pipe.write(ctx, e.pipe.toServer, msg); err != nil {
		return err
	}
	e.tap.sent(msg)
	return nil
}

// Close implements [mcp.Connection]: it ends both ends.
func (e *clientEnd) Close() error {
	e.pipe.close()
	return nil
}
