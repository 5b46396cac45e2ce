package engine

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/longhaul-mcp/longhaul/claims"
)

// OperatorOptions configure an [Operator].
type OperatorOptions struct {
	// Client is connected to Temporal. Required. It remains the caller's to close.
	Client client.Client
	// DataConverter has to be the one Client was made with. Default: the SDK's.
	DataConverter converter.DataConverter
	// Namespace has to be Client's. Default "default".
	Namespace string
	// TaskQueue is where the tasks run. Default [task.DefaultTaskQueue].
	TaskQueue string
	// Claims is [Options.Claims]: what is kept for a task is deleted with it.
	// Default: none, then it is left to the next sweep that has them.
	Claims claims.Store
	// Logger gets what no caller is told. Default: nothing is logged.
	Logger *slog.Logger
}

// Operator is what whoever runs Longhaul can do with tasks, whose ever they
// are. Nothing that serves callers has one.
type Operator struct{ e *Engine }

// NewOperator returns an operator. It does not talk to Temporal.
func NewOperator(o OperatorOptions) (*Operator, error) {
	if o.Client == nil {
		return nil, errors.New("engine: no Temporal client")
	}
	return &Operator{newEngine(Options{
		Client: o.Client, DataConverter: o.DataConverter, Namespace: o.Namespace, TaskQueue: o.TaskQueue, Claims: o.Claims, Logger: o.Logger,
	}.withDefaults())}, nil
}

// quote is s as a value in a query. Temporal has two ways to quote in one.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// stamp is t as a time in a query, between quotes.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
