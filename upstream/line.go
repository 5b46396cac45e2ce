package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/longhaul-mcp/longhaul/task"
)

// errTooLarge is the error of a connection that carried a message above
// maxMessageBytes.
var errTooLarge = fmt.Errorf("the server sent a message of more than %d bytes; a tool's result can have %d", maxMessageBytes, task.MaxBytes)

// strayError is a line on a server's standard output that is no JSON-RPC
// message (2025-11-25, transports, "stdio": the server MUST NOT write anything
// to its stdout that is not a valid MCP message).
type strayError struct{ line string }

func newStrayError(line []byte) *strayError {
	const most = 200
	more := ""
	if len(line) > most {
		line, more = line[:most], "…"
	}
	return &strayError{line: strings.ToValidUTF8(string(line), "?") + more}
}

func (e *strayError) Error() string {
	return fmt.Sprintf("it printed something that is not JSON-RPC on its standard output: %q", e.line)
}

// lineConn is an [mcp.Connection] of newline-delimited JSON, like the SDK's
// own, but for the tap, its own limit, and errors that show the line at fault.
type lineConn struct {
	tap    *tap
	stream io.ReadWriteCloser
	reader *bufio.Reader

	writing sync.Mutex
	// broken is closed when reading ends; failure says why.
	broken  chan struct{}
	failure error
	once    sync.Once
}

func newLineConn(stream io.ReadWriteCloser, t *tap) *lineConn {
	return &lineConn{tap: t, stream: stream, reader: bufio.NewReader(stream), broken: make(chan struct{})}
}

func (*lineConn) SessionID() string { return "" }

// Read implements [mcp.Connection]. Close ends it.
func (c *lineConn) Read(context.Context) (jsonrpc.Message, error) {
	msg, err := c.read()
	if err != nil {
		c.once.Do(func() {
			c.failure = err
			close(c.broken)
		})
		return nil, err
	}
	c.tap.received(msg) // and perhaps changed
	return msg, nil
}

func (c *lineConn) read() (jsonrpc.Message, error) {
	for {
		line, err := c.readLine()
		if line = bytes.TrimSpace(line); len(line) > 0 {
			msg, decodeErr := jsonrpc.DecodeMessage(line)
			if decodeErr == nil {
				return msg, nil
			}
			if err == nil { // and not the torn last line of a process that died
				return nil, newStrayError(line)
			}
		}
		switch {
		case errors.Is(err, errTooLarge):
			c.tap.abort(err)
			return nil, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			// The process is gone, but something it left behind holds its output.
			return nil, io.EOF
		case err != nil:
			return nil, err
		}
	}
}

func (c *lineConn) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := c.reader.ReadSlice('\n')
		if len(line)+len(part) > maxMessageBytes {
			return nil, errTooLarge
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Write implements [mcp.Connection].
func (c *lineConn) Write(ctx context.Context, msg jsonrpc.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	data, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.tap.sending(msg)
	// Without its last byte, the newline, a message has not been sent.
	if _, err := c.stream.Write(append(data, '\n')); err != nil {
		return err
	}
	c.tap.sent(msg)
	return nil
}

// Close implements [mcp.Connection].
func (c *lineConn) Close() error { return c.stream.Close() }
