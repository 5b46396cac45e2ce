package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

// version is set by the linker in releases.
var version = ""

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "longhaul",
		Short: "Durable tasks behind any MCP server",
		Long: `Longhaul turns slow MCP tools into durable MCP tasks.

Every call becomes a Temporal workflow: it survives the restart of every
process, waits for a person as long as it takes, can be cancelled, and can be
watched in the Temporal Web UI.

Begin with "longhaul dev". Every flag can also be given as an environment
variable: LONGHAUL_DATA_DIR for --data-dir, and so on.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		// A flag that is wrong is worth a look at the usage, an address that is
		// taken is not.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnv(cmd) },
	}
	root.AddCommand(newDev(), newTemporal(), newAPI(), newWorker(), newHealthcheck(), newVersion())
	return root
}

func newDev() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in this process: Temporal, its Web UI, a worker and the MCP endpoint",
		Long: `Run everything in this process: an embedded Temporal on one SQLite file, its
Web UI, a worker and the MCP endpoint. Tasks survive its end: start it again
with the same --data-dir and they go on.

Without --config it serves three demo tools on the files below --root. With
--config it serves the tools of the MCP servers in the given file, the
"mcpServers" file that an MCP host already uses.`,
		Example: `  longhaul dev
  longhaul dev --config mcp.json
  longhaul dev --listen 127.0.0.1:0 --ui-addr off`,
		Args: cobra.NoArgs,
	}
	f.endpoint(cmd, "127.0.0.1:8080")
	f.tools(cmd)
	f.engine(cmd)
	f.dataDir(cmd)
	f.worker(cmd)
	f.logging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := f.options(cmd)
		if err != nil {
			return err
		}
		return serve(cmd, func(ctx context.Context) (*longhaul.Process, error) {
			return longhaul.Dev(ctx, o, f.engineOptions())
		})
	}
	return cmd
}

func newTemporal() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "temporal",
		Short: "Run the embedded Temporal and its Web UI alone",
		Long: `Run the embedded Temporal and its Web UI alone, for "longhaul api" and
"longhaul worker" to use. It has no authentication and listens on loopback only.`,
		Args: cobra.NoArgs,
	}
	f.engine(cmd)
	f.dataDir(cmd)
	f.logging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := f.options(cmd)
		if err != nil {
			return err
		}
		return serve(cmd, func(ctx context.Context) (*longhaul.Process, error) {
			return longhaul.Temporal(ctx, o, f.engineOptions())
		})
	}
	return cmd
}

// temporalEnv tells how api and worker find Temporal.
const temporalEnv = `
Temporal is found through the standard TEMPORAL_* environment variables and
profiles: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY,
TEMPORAL_TLS_*, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE. The default is
127.0.0.1:7233, namespace "default".`

func newAPI() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Run the MCP endpoint against a Temporal that runs elsewhere",
		Long: `Run the MCP endpoint against a Temporal that runs elsewhere. Any number of
these processes may serve the same clients, if they share --key-file.
` + temporalEnv,
		Args: cobra.NoArgs,
	}
	f.endpoint(cmd, "127.0.0.1:8080")
	f.tools(cmd)
	f.dataDir(cmd)
	f.logging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.serveRemote(cmd, longhaul.API)
	}
	return cmd
}

func newWorker() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run tasks of a Temporal that runs elsewhere",
		Long: `Run tasks of a Temporal that runs elsewhere. Any number of these processes may
share the work. --listen serves /healthz and /readyz.
` + temporalEnv,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&f.listen, "listen", "", "address that serves /healthz and /readyz (default: none)")
	f.tools(cmd)
	f.worker(cmd)
	f.logging(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.serveRemote(cmd, longhaul.Worker)
	}
	return cmd
}

// serveRemote runs a process that finds Temporal by the environment.
func (f *flags) serveRemote(cmd *cobra.Command, start func(context.Context, longhaul.Options, client.Options) (*longhaul.Process, error)) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	t, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return fmt.Errorf("Temporal's client configuration: %w", err)
	}
	return serve(cmd, func(ctx context.Context) (*longhaul.Process, error) { return start(ctx, o, t) })
}

// serve starts a process, says where it can be reached, and runs it until a
// signal or a failure.
func serve(cmd *cobra.Command, start func(context.Context) (*longhaul.Process, error)) error {
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

func announce(w io.Writer, p *longhaul.Process) {
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

func newHealthcheck() *cobra.Command {
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
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:8080/readyz", "what to ask")
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "longhaul %s (%s, %s/%s)\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// buildVersion is the version that the linker or the module system knows.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// explain adds to an error which flag avoids it.
func explain(err error) string {
	var (
		engineAddr *enginereg.AddrError
		listen     *longhaul.ListenError
	)
	switch {
	case errors.As(err, &engineAddr) && engineAddr.Listener == enginereg.ListenerUI:
		return err.Error() + " (choose another with --ui-addr, or --ui-addr off)"
	case errors.As(err, &engineAddr):
		return err.Error() + " (choose another with --temporal-addr)"
	case errors.As(err, &listen):
		return err.Error() + " (choose another with --listen)"
	default:
		return err.Error()
	}
}

// defaultDataDir is where this user's programs keep their data.
func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "longhaul")
	}
	if runtime.GOOS != "darwin" && runtime.GOOS != "windows" {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "share", "longhaul")
		}
	}
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "longhaul")
	}
	return "longhaul-data"
}
