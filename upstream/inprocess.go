package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// inProcess dials a server in this process.
type inProcess struct{ server *mcp.Server }

func (p *inProcess) dial(ctx context.Context, t *tap) (link, error) {
	client, server := newMessagePipe(t)
	// Its handlers are cancelled by the end of the pipe, not of ctx. The server's
	// session is never closed from here: that waits for handlers, even for one
	// that ignores its context. It ends with the pipe.
	if _, err := p.server.Connect(context.WithoutCancel(ctx), connected{server}, nil); err != nil {
		client.Close()
		return nil, err
	}
	return &pipeLink{client}, nil
}

// pipeLink is a connection within this process.
type pipeLink struct{ conn *clientEnd }

func (l *pipeLink) transport() mcp.Transport { return connected{l.conn} }
func (l *pipeLink) lost() <-chan struct{}    { return l.conn.pipe.closed }
func (l *pipeLink) explain() string          { return "" }
func (l *pipeLink) close()                   { l.conn.Close() }

// connected is a transport whose connection is there already.
type connected struct{ conn mcp.Connection }

func (c connected) Connect(context.Context) (mcp.Connection, error) { return c.conn, nil }

// containPanics turns panics of a server's handlers into JSON-RPC errors, and
// handlers' results that are nil, which the SDK would dereference.
func containPanics(logger *slog.Logger) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (result mcp.Result, err error) {
			what := method
			if p, ok := req.GetParams().(*mcp.CallToolParamsRaw); ok && p != nil {
				what = fmt.Sprintf("tool %q", p.Name)
			}
			defer func() {
				if cause := recover(); cause != nil {
					logger.Error("a handler panicked", "handler", what, "panic", cause, "stack", string(debug.Stack()))
					result, err = nil, internalError("%s panicked: %v", what, cause)
				}
			}()
			result, err = next(ctx, method, req)
			if v := reflect.ValueOf(result); err == nil && v.Kind() == reflect.Pointer && v.IsNil() {
				return nil, internalError("the handler of %s returned neither a result nor an error", what)
			}
			return result, err
		}
	}
}

func internalError(format string, args ...any) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf(format, args...)}
}
