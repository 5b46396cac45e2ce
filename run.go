package longhaul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

// Run is all that the main function of a Longhaul program does:
//
//	func main() {
//		os.Exit(longhaul.Run(longhaul.Options{Name: "hello", Server: server}))
//	}
//
// The program has the commands of longhaul itself. Its dev, api, worker and
// temporal run [Dev], [API], [Worker] and [Temporal] until they are
// interrupted; tasks, healthcheck and version are for those who operate it. The
// options are the defaults of the commands' flags, and LONGHAUL_* environment
// variables come between the two. With --config, the servers of a file
// ([upstream.Config]) are served beside those of the options.
//
// Run reads os.Args and the environment, and stops on SIGINT and SIGTERM; a
// second signal kills. Unless GOGC or GOMEMLIMIT is set, a process lets garbage lie
// for the sake of speed: 64 MB a worker, 128 MB an api, 192 MB one with Temporal in
// it, or as much as is alive if that is more. Run returns the exit code: 0, or 1
// after a line on standard error that says what went wrong.
func Run(o Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal kills: nobody should have to look for the process.
	context.AfterFunc(ctx, stop)
	return run(ctx, o, os.Args[1:], os.Stdout, os.Stderr)
}

// run is Run without the process.
func run(ctx context.Context, o Options, args []string, stdout, stderr io.Writer) int {
	root := newRoot(o)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", root.Name(), explain(err))
		return 1
	}
	return 0
}

// explain adds to an error what avoids it: a flag, or an import.
func explain(err error) string {
	var (
		engineAddr *enginereg.AddrError
		listen     *ListenError
	)
	switch {
	case errors.As(err, &engineAddr) && engineAddr.Listener == enginereg.ListenerUI:
		return err.Error() + " (choose another with --ui-addr, or --ui-addr off)"
	case errors.As(err, &engineAddr):
		return err.Error() + " (choose another with --temporal-addr)"
	case errors.As(err, &listen):
		return err.Error() + " (choose another with --listen)"
	case errors.Is(err, enginereg.ErrNotLinked):
		return err.Error() + " (a Go program has it if it imports github.com/longhaul-mcp/longhaul/devserver)"
	default:
		return err.Error()
	}
}
