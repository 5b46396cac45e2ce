package longhaul

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"

	"github.com/longhaul-mcp/longhaul/internal/heapfloor"
)

// newRoot returns the program: the commands, with o for the defaults of their
// flags.
func newRoot(o Options) *cobra.Command {
	logger := o.Logger
	o = o.withDefaults()
	o.Logger = logger // If there is none, it is what the flags say.
	if o.DataDir == "" {
		o.DataDir = defaultDataDir(o.Name)
	}
	root := &cobra.Command{
		Use:   o.Name,
		Short: "Durable tasks behind any MCP server",
		Long: fmt.Sprintf(`Longhaul turns slow MCP tools into durable MCP tasks.

Every call becomes a Temporal workflow: it survives the restart of every
process, waits for a person as long as it takes, can be cancelled, and can be
watched in the Temporal Web UI.

Begin with "%s dev". Every flag can also be given as an environment
variable: LONGHAUL_DATA_DIR for --data-dir, and so on.`, o.Name),
		SilenceUsage:  true,
		SilenceErrors: true,
		// A flag that is wrong is worth a look at the usage, an address that is
		// taken is not.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnv(cmd) },
	}
	root.AddCommand(newDev(o), newTemporal(o), newAPI(o), newWorker(o), newTasks(o), newHealthcheck(o), newVersion(o))
	return root
}

func newDev(o Options) *cobra.Command {
	f := flags{Options: o}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in this process: Temporal, its Web UI, a worker and the MCP endpoint",
		Long: `Run everything in this process: an embedded Temporal on one SQLite file, its
Web UI, a worker and the MCP endpoint. Tasks survive its end: start it again
with the same --data-dir and they go on.

` + f.aboutTools(),
		Example: fmt.Sprintf(`  %[1]s dev
  %[1]s dev --config mcp.json
  %[1]s dev --listen 127.0.0.1:0 --ui-addr off`, o.Name),
		Args: cobra.NoArgs,
	}
	f.addEndpoint(cmd)
	f.addReads(cmd)
	f.addLifetimes(cmd)
	f.addTools(cmd)
	f.addEngine(cmd)
	f.addDataDir(cmd)
	f.addClaims(cmd)
	f.addWorker(cmd)
	f.addLogging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := f.options(cmd)
		if err != nil {
			return err
		}
		return serve(cmd, engineGarbage, func(ctx context.Context) (*Process, error) { return Dev(ctx, o, f.embedded) })
	}
	return cmd
}

func newTemporal(o Options) *cobra.Command {
	f := flags{Options: o}
	cmd := &cobra.Command{
		Use:   "temporal",
		Short: "Run the embedded Temporal and its Web UI alone",
		Long: fmt.Sprintf(`Run the embedded Temporal and its Web UI alone, for "%[1]s api" and
"%[1]s worker" to use. It has no authentication and listens on loopback only.`, o.Name),
		Args: cobra.NoArgs,
	}
	f.addEngine(cmd)
	f.addDataDir(cmd)
	f.addLogging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := f.options(cmd)
		if err != nil {
			return err
		}
		return serve(cmd, engineGarbage, func(ctx context.Context) (*Process, error) { return Temporal(ctx, o, f.embedded) })
	}
	return cmd
}

// temporalEnv tells how api and worker find Temporal.
const temporalEnv = `
Temporal is found through the standard TEMPORAL_* environment variables and
profiles: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY,
TEMPORAL_TLS_*, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE. The default is
127.0.0.1:7233, namespace "default".`

func newAPI(o Options) *cobra.Command {
	f := flags{Options: o}
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Run the MCP endpoint against a Temporal that runs elsewhere",
		Long: `Run the MCP endpoint against a Temporal that runs elsewhere. Any number of
these processes may serve the same clients, if they share --key-file.
` + temporalEnv,
		Args: cobra.NoArgs,
	}
	f.addEndpoint(cmd)
	f.addReads(cmd)
	f.addHotReads(cmd)
	f.addLifetimes(cmd)
	f.addTools(cmd)
	f.addDataDir(cmd)
	f.addClaims(cmd)
	f.addLogging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.serveRemote(cmd, apiGarbage, API) }
	return cmd
}

func newWorker(o Options) *cobra.Command {
	o.Listen = "" // That is the endpoint's.
	f := flags{Options: o}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run tasks of a Temporal that runs elsewhere",
		Long: `Run tasks of a Temporal that runs elsewhere. Any number of these processes may
share the work. --listen serves /healthz and /readyz.
` + temporalEnv,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&f.Listen, "listen", "", "address that serves /healthz and /readyz (default: none)")
	f.addTools(cmd)
	f.addGrace(cmd)
	f.addDataDir(cmd)
	f.addClaims(cmd)
	f.addWorker(cmd)
	f.addLogging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.serveRemote(cmd, workerGarbage, Worker) }
	return cmd
}

// serveRemote runs a process that finds Temporal by the environment.
func (f *flags) serveRemote(cmd *cobra.Command, garbage uint64, start func(context.Context, Options, client.Options) (*Process, error)) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	t, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return fmt.Errorf("Temporal's client configuration: %w", err)
	}
	return serve(cmd, garbage, func(ctx context.Context) (*Process, error) { return start(ctx, o, t) })
}

// How many bytes of garbage a process may let lie, as it takes time to collect
// them, and the more often the less is alive.
const (
	workerGarbage = 64 << 20
	// Of the reads that an api answers from memory, those that meet a collection
	// take several times as long as the others.
	apiGarbage = 128 << 20
	// Temporal itself, which has more alive than the others.
	engineGarbage = 192 << 20
)

// serve starts a process, says where it can be reached, and runs it until a
// signal or a failure.
func serve(cmd *cobra.Command, garbage uint64, start func(context.Context) (*Process, error)) error {
	defer heapfloor.Raise(garbage)()
	ctx := cmd.Context()
	p, err := start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // Interrupted while starting: what was asked for.
		}
		return err
	}
	defer p.Stop()
	announce(cmd.OutOrStdout(), p)
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.Failed():
		return err
	}
}

func announce(w io.Writer, p *Process) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-13s %s\n", name, value)
		}
	}
	line("MCP endpoint", p.MCPURL)
	if p.MCPURL == "" {
		line("Health", p.HealthURL)
	}
	line("Temporal UI", p.UIURL)
	line("Temporal gRPC", p.TemporalAddr)
	fmt.Fprintln(w, "ready")
}

func newHealthcheck(o Options) *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 if a Longhaul process is ready, for containers without a shell",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answered %s", url, resp.Status)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&url, "url", readyURL(o.Listen), "what to ask")
	return cmd
}

// readyURL is where a process of this machine that listens on addr says
// whether it is ready.
func readyURL(addr string) string {
	host, port, _ := net.SplitHostPort(addr) // dev and api refuse what is no address
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz"
}

func newVersion(o Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%s, %s/%s)\n", o.Name, o.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
