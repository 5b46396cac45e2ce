package longhaul

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/longhaul-mcp/longhaul/upstream"
)

// flags are the options of one command: those of the program's author, and
// over them what is said by the flags the command has declared.
type flags struct {
	Options
	embedded   EngineOptions
	configFile string
	demo       bool   // the demo tools are served unless there is a config
	root       string // of the demo tools
	logLevel   slog.Level
	logFormat  string
}

func (f *flags) addEndpoint(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Listen, "listen", f.Listen, "address of the MCP endpoint; port 0 is any free one")
	addFile(cmd, &f.TokensFile, "tokens-file", `file of "name: token" lines, one for every caller`, "one user, no authentication, loopback only")
	addFile(cmd, &f.KeyFile, "key-file", "file with the secret behind session ids and idempotency keys, made if missing", "longhaul.key in the data directory")
	cmd.Flags().StringSliceVar(&f.AllowedHosts, "allowed-host", f.AllowedHosts, "host name under which the endpoint may be addressed, besides loopback ones; may be repeated")
	cmd.Flags().StringSliceVar(&f.AllowedOrigins, "allowed-origin", f.AllowedOrigins, "origin from which browsers may call, besides loopback ones; may be repeated")
}

// addFile declares a flag that names a file. Its usage tells what no file
// means, unless the program's author has given one.
func addFile(cmd *cobra.Command, file *string, name, usage, none string) {
	if *file == "" {
		usage += " (default: " + none + ")"
	}
	cmd.Flags().StringVar(file, name, *file, usage)
}

func (f *flags) addLifetimes(cmd *cobra.Command) {
	addDuration(cmd, &f.TTL, "ttl", "time to live of a task that does not ask for one", "24h, or --ttl-max if that is shorter")
	addDuration(cmd, &f.MinTTL, "ttl-min", "shortest time to live a client gets", "1s")
	addDuration(cmd, &f.MaxTTL, "ttl-max", "longest time to live a client gets", "720h, or what Temporal's namespace keeps")
	f.addGrace(cmd)
}

func (f *flags) addGrace(cmd *cobra.Command) {
	addDuration(cmd, &f.Grace, "grace", "time for which an expired task can still be read", "5m")
}

// addInt declares a flag that may be left open. Its usage tells what that means,
// unless the program's author has chosen.
func addInt(cmd *cobra.Command, n *int, name, usage string, none int) {
	if *n == 0 {
		usage += fmt.Sprintf(" (default: %d)", none)
	}
	cmd.Flags().IntVar(n, name, *n, usage)
}

// addDuration declares a flag that may be left open. Its usage tells what that
// means, unless the program's author has chosen.
func addDuration(cmd *cobra.Command, d *time.Duration, name, usage, none string) {
	if *d == 0 {
		usage += " (default: " + none + ")"
	}
	cmd.Flags().DurationVar(d, name, *d, usage)
}

func (f *flags) addTools(cmd *cobra.Command) {
	usage := `an "mcpServers" file with MCP servers whose tools are served beside this program's own`
	if f.demo = f.hasDemo(); f.demo {
		usage = `the "mcpServers" file with the MCP servers whose tools are served (default: the demo tools)`
		cmd.Flags().StringVar(&f.root, "root", ".", "directory the demo tools are confined to")
	}
	cmd.Flags().StringVar(&f.configFile, "config", "", usage)
	cmd.Flags().StringVar(&f.TaskQueue, "task-queue", f.TaskQueue, "Temporal task queue of the tasks")
}

// hasDemo reports whether the program has tools to show, and none of its own.
func (f *flags) hasDemo() bool { return f.Demo != nil && len(f.serverNames()) == 0 }

// aboutTools is what the help says on the tools that are served.
func (f *flags) aboutTools() string {
	if f.hasDemo() {
		return `Without --config it serves demo tools on the files below --root. With
--config it serves the tools of the MCP servers in the given file, the
"mcpServers" file that an MCP host already uses.`
	}
	return `With --config it serves, beside this program's own tools, those of the MCP
servers in the given file, the "mcpServers" file that an MCP host already uses.
A tool is then called <server>__<tool>.`
}

func (f *flags) addEngine(cmd *cobra.Command) {
	f.embedded = f.embedded.withDefaults()
	cmd.Flags().StringVar(&f.embedded.TemporalAddr, "temporal-addr", f.embedded.TemporalAddr, "loopback address of Temporal's gRPC frontend; port 0 is any free one")
	cmd.Flags().StringVar(&f.embedded.UIAddr, "ui-addr", f.embedded.UIAddr, `loopback address of the Temporal Web UI; port 0 is any free one, "off" is none`)
}

func (f *flags) addDataDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.DataDir, "data-dir", f.DataDir, "directory of the database, of the key and, unless --claims-dir says otherwise, of what is too large for Temporal")
}

func (f *flags) addClaims(cmd *cobra.Command) {
	addFile(cmd, &f.ClaimsDir, "claims-dir", "directory for arguments and results that are too large for Temporal; api and worker share it", "claims in the data directory")
	cmd.Flags().StringVar(&f.ClaimsS3, "claims-s3", f.ClaimsS3, "S3 bucket in place of --claims-dir, as s3://bucket/prefix?endpoint=https://host&region=name; credentials are found as AWS tools find them")
}

func (f *flags) addReads(cmd *cobra.Command) {
	addInt(cmd, &f.MaxWatches, "max-watches", "tasks followed by long poll at the same time, of 1,200 that each of Temporal's frontends serves a namespace; more are polled once a second, or less often", 1000)
	cache := "bytes of memory for tasks that have ended, which are then read without Temporal; -1 is none"
	if f.OutcomeCache == 0 {
		cache += " (default: 64 MiB)"
	}
	cmd.Flags().Int64Var(&f.OutcomeCache, "outcome-cache", f.OutcomeCache, cache)
}

func (f *flags) addHotReads(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.HotReads, "hot-reads", f.HotReads, "answer reads of tasks that somebody waits for from memory; only where all requests of a caller reach this process: one api, or sticky routing")
}

func (f *flags) addWorker(cmd *cobra.Command) {
	addDuration(cmd, &f.SweepInterval, "sweep-interval", "time between two looks for expired tasks to delete, by one worker for all of the task queue", "5m")
	cmd.Flags().DurationVar(&f.StopTimeout, "stop-timeout", f.StopTimeout, "time that running calls which may not be repeated have to end when the process stops")
	addInt(cmd, &f.MaxRounds, "max-rounds", "calls of tools that are run at once", 1000)
	addInt(cmd, &f.CachedWorkflows, "cached-workflows", "open tasks whose workflows are kept in memory, some 80 KB each; what happens to another costs a request more", 1000)
}

func (f *flags) addLogging(cmd *cobra.Command) {
	if f.Logger != nil {
		return
	}
	cmd.Flags().TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
}

// options are the options the flags say.
func (f *flags) options(cmd *cobra.Command) (Options, error) {
	o := f.Options
	if o.Logger == nil {
		logger, err := newLogger(cmd.ErrOrStderr(), f.logLevel, f.logFormat)
		if err != nil {
			return Options{}, err
		}
		o.Logger = logger
	}
	switch {
	case f.configFile != "":
		c, err := upstream.LoadConfig(f.configFile)
		if err != nil {
			return Options{}, err
		}
		o = o.with(c)
	case f.demo:
		s, err := o.Demo(f.root, o.Logger)
		if err != nil {
			return Options{}, err
		}
		o.Servers = []upstream.Server{upstream.InProcess("demo", s)}
	}
	return o, nil
}

// with adds the servers of c. What c says of single tools stands.
func (o Options) with(c *upstream.Config) Options {
	prefix := ""
	if own := o.serverNames(); len(own) == 1 && len(c.Servers) > 0 {
		// It was alone, and its tools were exposed under their own names.
		prefix = own[0] + "__"
	}
	tools := make(map[string]upstream.ToolOptions, len(o.Tools)+len(c.Tools))
	for name, t := range o.Tools {
		tools[prefix+name] = t
	}
	maps.Copy(tools, c.Tools)
	o.Tools, o.Servers = tools, slices.Concat(o.Servers, c.Servers)
	return o
}

func newLogger(w io.Writer, level slog.Level, format string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	default:
		return nil, fmt.Errorf("--log-format %q: want text or json", format)
	}
}

// flagsFromEnv sets the flags that were not given from LONGHAUL_* variables.
func flagsFromEnv(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := "LONGHAUL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || f.Changed {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

// defaultDataDir is where this user's programs keep their data, for the one
// with this name.
func defaultDataDir(name string) string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, name)
	}
	if runtime.GOOS != "darwin" && runtime.GOOS != "windows" {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "share", name)
		}
	}
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, name)
	}
	return name + "-data"
}
