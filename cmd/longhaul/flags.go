package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/demo"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// flags are the values of the flags a command has declared.
type flags struct {
	listen         string
	tokensFile     string
	keyFile        string
	allowedHosts   []string
	allowedOrigins []string
	servesTools    bool
	configFile     string
	root           string
	temporalAddr   string
	uiAddr         string
	data           string
	taskQueue      string
	stopTimeout    time.Duration
	logLevel       slog.Level
	logFormat      string
}

func (f *flags) endpoint(cmd *cobra.Command, listen string) {
	cmd.Flags().StringVar(&f.listen, "listen", listen, "address of the MCP endpoint; port 0 is any free one")
	cmd.Flags().StringVar(&f.tokensFile, "tokens-file", "", `file of "name: token" lines, one for every caller (default: one user, no authentication, loopback only)`)
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", "file with the secret behind session ids and idempotency keys, made if missing (default: longhaul.key in the data directory)")
	cmd.Flags().StringSliceVar(&f.allowedHosts, "allowed-host", nil, "host name under which the endpoint may be addressed, besides loopback ones; may be repeated")
	cmd.Flags().StringSliceVar(&f.allowedOrigins, "allowed-origin", nil, "origin from which browsers may call, besides loopback ones; may be repeated")
}

func (f *flags) tools(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.configFile, "config", "", `the "mcpServers" file with the MCP servers whose tools are served (default: the demo tools)`)
	cmd.Flags().StringVar(&f.root, "root", ".", "directory the demo tools are confined to")
	cmd.Flags().StringVar(&f.taskQueue, "task-queue", "", `Temporal task queue of the tasks (default "longhaul")`)
	f.servesTools = true
}

func (f *flags) engine(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.temporalAddr, "temporal-addr", "127.0.0.1:7233", "loopback address of Temporal's gRPC frontend; port 0 is any free one")
	cmd.Flags().StringVar(&f.uiAddr, "ui-addr", "127.0.0.1:8233", `loopback address of the Temporal Web UI; port 0 is any free one, "off" is none`)
}

func (f *flags) dataDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data-dir", defaultDataDir(), "directory of the database and the key")
}

func (f *flags) worker(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.stopTimeout, "stop-timeout", 30*time.Second, "time that running calls which may not be repeated have to end when the process stops")
}

func (f *flags) logging(cmd *cobra.Command) {
	cmd.Flags().TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
}

func (f *flags) engineOptions() longhaul.EngineOptions {
	return longhaul.EngineOptions{TemporalAddr: f.temporalAddr, UIAddr: f.uiAddr}
}

// options are the options the flags say.
func (f *flags) options(cmd *cobra.Command) (longhaul.Options, error) {
	logger, err := newLogger(cmd.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return longhaul.Options{}, err
	}
	o := longhaul.Options{
		Listen:         f.listen,
		TokensFile:     f.tokensFile,
		KeyFile:        f.keyFile,
		DataDir:        f.data,
		AllowedHosts:   f.allowedHosts,
		AllowedOrigins: f.allowedOrigins,
		TaskQueue:      f.taskQueue,
		StopTimeout:    f.stopTimeout,
		Version:        buildVersion(),
		Logger:         logger,
	}
	switch {
	case f.configFile != "":
		c, err := upstream.LoadConfig(f.configFile)
		if err != nil {
			return longhaul.Options{}, err
		}
		o.Servers, o.Tools = c.Servers, c.Tools
	case f.servesTools:
		s, err := demo.NewServer(f.root, logger)
		if err != nil {
			return longhaul.Options{}, err
		}
		o.Servers = []upstream.Server{upstream.InProcess("demo", s)}
	}
	return o, nil
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
