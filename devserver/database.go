package devserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite" // also registers the database/sql driver
	sqliteschema "go.temporal.io/server/schema/sqlite"
)

const (
	databaseName = "temporal.db"
	driverName   = "sqlite"
)

// prepareDatabase returns the path of a database in dir that Temporal can be started on: the one
// that is there, if it passes its check, or a new one.
func prepareDatabase(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, databaseName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = createDatabase(ctx, path)
	case err == nil && info.Size() == 0:
		// SQLite deletes the log of an empty database, even when it may only read.
		err = refused(path, errors.New("it is empty"))
	case err == nil:
		err = checkDatabase(ctx, path)
	}
	return path, err
}

func refused(path string, err error) error {
	return fmt.Errorf("database %s is damaged or not a Temporal database and was left as it is: %w", path, err)
}

// checkDatabase reads the whole database and compares its schema, without writing to the file or
// to its write-ahead log.
func checkDatabase(ctx context.Context, path string) error {
	err := func() error {
		db, err := open(path, url.Values{"mode": {"ro"}})
		if err != nil {
			return err
		}
		defer db.Close()
		var result string
		// The first fault is enough to refuse the file.
		if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
			return err
		}
		if result != "ok" {
			return errors.New(strings.ReplaceAll(result, "\n", " "))
		}
		return checkSchema(ctx, db)
	}()
	if ctx.Err() != nil {
		return fmt.Errorf("check database %s: %w", path, context.Cause(ctx))
	}
	if err != nil {
		return refused(path, err)
	}
	return nil
}

// checkSchema reports the first table or index of Temporal's schema that db lacks or has otherwise.
func checkSchema(ctx context.Context, db *sql.DB) error {
	reference, err := open(":memory:", nil)
	if err != nil {
		return err
	}
	defer reference.Close()
	if err := createSchema(ctx, reference); err != nil {
		return err
	}
	want, err := readSchema(ctx, reference)
	if err != nil {
		return err
	}
	got, err := readSchema(ctx, db)
	if err != nil {
		return err
	}
	found := make(map[string]string, len(got))
	for _, o := range got {
		found[o.name] = o.definition
	}
	for _, o := range want {
		switch definition, ok := found[o.name]; {
		case !ok:
			return fmt.Errorf("it has no %s", o.name)
		case definition != o.definition:
			return fmt.Errorf("its %s is that of another Temporal version", o.name)
		}
	}
	return nil
}

// schemaObject is a table, index or trigger; the name says which, as in "table executions".
type schemaObject struct{ name, definition string }

// readSchema returns the objects in the order in which they were created, tables before their indexes.
func readSchema(ctx context.Context, db *sql.DB) ([]schemaObject, error) {
	rows, err := db.QueryContext(ctx, "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var objects []schemaObject
	for rows.Next() {
		var o schemaObject
		if err := rows.Scan(&o.name, &o.definition); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, rows.Err()
}

// createDatabase makes an empty database under another name and then renames it, so that path is
// never half of one.
func createDatabase(ctx context.Context, path string) error {
	// SQLite would replay the log of a database that is gone into the new one.
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return fmt.Errorf("database %s is missing but its write-ahead log %s is there: restore the database, or remove the log as well to start with an empty one",
			path, wal.Name())
	}
	err := func() error {
		unfinished := path + ".new"
		for _, name := range []string{unfinished, unfinished + "-journal"} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		db, err := open(unfinished, url.Values{"mode": {"rwc"}})
		if err != nil {
			return err
		}
		if err := errors.Join(createSchema(ctx, db), db.Close()); err != nil {
			return err
		}
		if err := os.Chmod(unfinished, 0o600); err != nil {
			return err
		}
		if err := os.Rename(unfinished, path); err != nil {
			return err
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return err
		}
		defer dir.Close()
		return dir.Sync()
	}()
	if err != nil {
		return fmt.Errorf("create database %s: %w", path, err)
	}
	return nil
}

// schemaTarget lends Temporal's schema set-up a transaction. Of the interface it uses Exec alone.
type schemaTarget struct {
	sqlplugin.AdminDB
	exec func(statement string, args ...any) error
}

func (t schemaTarget) Exec(statement string, args ...any) error { return t.exec(statement, args...) }

func createSchema(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // no-op once committed
	err = sqliteschema.SetupSchemaOnDB(schemaTarget{exec: func(statement string, args ...any) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}})
	if err != nil {
		return err
	}
	return tx.Commit()
}

// open opens a database on one connection, which an in-memory one needs in order to be one.
func open(path string, query url.Values) (*sql.DB, error) {
	db, err := sql.Open(driverName, "file:"+escape(path)+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// escape makes a path safe in an SQLite URI, where % and ? have a meaning.
func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// sqlConfig is how Temporal opens the database.
func sqlConfig(path string) (*config.SQL, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &config.SQL{
		PluginName:   sqlite.PluginName,
		DatabaseName: escape(path),
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			"synchronous":  "1",
			// Temporal's plugin keeps the connection of every database it ever opened, by its URI,
			// and a later server on the same path gets it. Should the file have been replaced
			// in between, that is a connection to a deleted file. So the URI names the file too, in
			// a parameter that has no effect with this value.
			"setup": strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Ino), 10),
		},
	}, nil
}
