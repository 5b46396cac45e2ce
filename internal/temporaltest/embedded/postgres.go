package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema"
	postgresqlschema "go.temporal.io/server/schema/postgresql/v12"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
	"github.com/longhaul-mcp/longhaul/internal/temporalserver"
)

const (
	// databaseFile holds the name of a data directory's databases, once they are complete.
	databaseFile = "postgres-database"
	// shards is Temporal's own default.
	shards = 4
	// maxConns bounds the connections to each database.
	maxConns = 20
)

// engine is Temporal on PostgreSQL.
type engine struct{ *temporalserver.Server }

func (e engine) TemporalAddr() string { return e.Addr() }
func (e engine) UIURL() string        { return "" }
func (e engine) Stop()                { e.Server.Stop() }

// startOn starts engines on the PostgreSQL server with this URL.
func startOn(server string) enginereg.StartFunc {
	return func(ctx context.Context, o enginereg.Options) (enginereg.Engine, error) {
		if o.Namespace == "" {
			o.Namespace = "default"
		}
		if o.Retention == 0 {
			o.Retention = 7 * 24 * time.Hour
		}
		if o.Logger == nil {
			o.Logger = slog.New(slog.DiscardHandler)
		}
		u, err := url.Parse(server)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
			return nil, err
		}
		ports, err := temporalserver.ReservePorts(o.TemporalAddr)
		if err != nil {
			return nil, err
		}
		defer ports.Release()
		name, err := prepareDatabases(u, o.DataDir)
		if err != nil {
			return nil, fmt.Errorf("databases on %s: %w", u.Redacted(), err)
		}
		store := sqlConfig(u, name)
		if err := temporalserver.CreateNamespace(store, o); err != nil {
			return nil, err
		}
		s, err := temporalserver.Start(ctx, temporalserver.Options{
			Ports: ports, Store: store, Visibility: sqlConfig(u, visibility(name)),
			Shards: shards, Namespace: o.Namespace, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		if err := temporalserver.RaiseRetention(ctx, s.Addr(), o); err != nil {
			s.Stop()
			return nil, err
		}
		return engine{s}, nil
	}
}

// visibility is the name of the second database of the two.
func visibility(name string) string { return name + "_visibility" }

func sqlConfig(u *url.URL, database string) *config.SQL {
	password, _ := u.User.Password()
	return &config.SQL{
		PluginName:        postgresql.PluginNamePGX,
		ConnectAddr:       u.Host,
		ConnectAttributes: map[string]string{"sslmode": "disable"},
		User:              u.User.Username(),
		Password:          password,
		DatabaseName:      database,
		MaxConns:          maxConns,
		MaxIdleConns:      maxConns,
	}
}

// prepareDatabases returns the name of the databases of a data directory. It creates them if there
// are none, or if whoever did was killed meanwhile.
func prepareDatabases(u *url.URL, dir string) (string, error) {
	path := filepath.Join(dir, databaseFile)
	existing, err := os.ReadFile(path)
	if err == nil && len(existing) > 0 {
		return string(existing), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	name := "longhaul_" + strings.ToLower(rand.Text())
	for database, part := range map[string]struct{ schema, version string }{
		name:             {"temporal", postgresqlschema.Version},
		visibility(name): {"visibility", postgresqlschema.VisibilityVersion},
	} {
		if err := createDatabase(u, database, part.schema, part.version); err != nil {
			return "", err
		}
	}
	return name, os.WriteFile(path, []byte(name), 0o600)
}

// createDatabase does what Temporal's temporal-sql-tool does.
func createDatabase(u *url.URL, name, part, version string) error {
	err := administer(sqlConfig(u, "postgres"), func(db sqlplugin.AdminDB) error { return db.CreateDatabase(name) })
	if err != nil {
		return err
	}
	file, err := schema.Assets().Open("postgresql/v12/" + part + "/schema.sql")
	if err != nil {
		return err
	}
	defer file.Close()
	statements, err := persistence.LoadAndSplitQueryFromReaders([]io.Reader{file})
	if err != nil {
		return err
	}
	return administer(sqlConfig(u, name), func(db sqlplugin.AdminDB) error {
		for _, statement := range statements {
			if err := db.Exec(statement); err != nil {
				return fmt.Errorf("%.60s: %w", statement, err)
			}
		}
		return errors.Join(db.CreateSchemaVersionTables(), db.UpdateSchemaVersion(name, version, version))
	})
}

func administer(cfg *config.SQL, do func(sqlplugin.AdminDB) error) error {
	db, err := sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, cfg, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}
