package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/store"
)

func (c *command) db() *cobra.Command {
	return c.parent("db", "Migrate, check, clean and back up the database", "  ostro db check\n  ostro db backup /backups/ostro.db",
		c.dbMigrate(), c.dbCheck(), c.dbClean(), c.dbBackup(), c.dbRelease())
}

// controlDB is where the home keeps its database.
func (c *command) controlDB() (store.Options, error) {
	cfg, err := c.loadConfig(config.LoadOptions{})
	return store.Options{URL: cfg.Database, Path: filepath.Join(cfg.Home, "control.db"), BlobDir: filepath.Join(cfg.Home, "blobs")}, err
}

// withDB opens the home's database, which must exist, and closes it.
func (c *command) withDB(ctx context.Context, f func(*store.DB) error) (err error) {
	o, err := c.controlDB()
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.Path); err != nil && o.URL == "" {
		return &problem{code: exitNotFound, err: fmt.Errorf("there is no database at %s", o.Path), hint: "name its home with --home"}
	}
	db, err := store.Open(ctx, o)
	if err != nil {
		return dbProblem(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(db)
}

// place names the database for people.
func place(o store.Options) string {
	if o.URL != "" {
		return config.Masked(o.URL)
	}
	return o.Path
}

// dbProblem gives what a command on the database is refused its exit code; what is wrong with the home codeOf knows.
func dbProblem(err error) error {
	switch {
	case errors.Is(err, store.ErrBackup), errors.Is(err, store.ErrInvalid):
		return &problem{code: exitUsage, err: err}
	case errors.Is(err, store.ErrNotFound):
		return &problem{code: exitNotFound, err: err}
	case errors.Is(err, store.ErrConflict):
		return &problem{code: exitConflict, err: err}
	}
	return err
}

func (c *command) dbMigrate() *cobra.Command {
	return &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date (the server does so at its start)", Example: "  ostro db migrate --home ~/.ostro", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := c.controlDB()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
				return fmt.Errorf("make the home folder: %w", err)
			}
			from, to, err := store.Migrate(cmd.Context(), o)
			if err != nil {
				return dbProblem(err)
			}
			return c.show(map[string]any{"path": place(o), "from": from, "to": to}, func() {
				if from == to {
					fmt.Fprintf(c.Out, "%s is up to date: schema %d\n", place(o), to)
					return
				}
				fmt.Fprintf(c.Out, "Migrated %s from schema %d to %d\n", place(o), from, to)
			})
		}}
}

func (c *command) dbCheck() *cobra.Command {
	return &cobra.Command{Use: "check", Short: "Check the database and the large values beside it", Example: "  ostro db check", Args: args(0, 0),
		Long: "Check the database and the large values beside it. The exit code is 1 when something is damaged.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.withDB(cmd.Context(), func(db *store.DB) error { return c.checked(cmd.Context(), db) })
			if errors.Is(err, store.ErrCorrupt) { // the finding of a check, also where it cannot even be opened
				return &problem{code: exitFailed, err: err, hint: "restore a backup, or start with a new home"}
			}
			return err
		}}
}

// checked shows what a check finds.
func (c *command) checked(ctx context.Context, db *store.DB) error {
	r, err := db.Check(ctx)
	if err != nil {
		return dbProblem(err)
	}
	if r.Problems == nil {
		r.Problems = []string{} // none is an empty list for programs
	}
	err = c.show(r, func() {
		for _, p := range r.Problems {
			fmt.Fprintln(c.Out, p)
		}
		if len(r.Problems) == 0 {
			fmt.Fprintf(c.Out, "The database is sound; %d large value(s), %d that nobody refers to (%d bytes)\n", r.Blobs, r.OrphanBlobs, r.OrphanBytes)
		}
	})
	if err == nil && len(r.Problems) > 0 {
		return errFailed
	}
	return err
}

func (c *command) dbClean() *cobra.Command {
	keep, dry, sure := "90d", false, false
	cmd := &cobra.Command{Use: "clean", Short: "Delete the history that is older than --keep",
		Example: "  ostro db clean --keep 30d --dry-run\n  ostro db clean --keep 30d", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := parseAge(keep)
			if err != nil {
				return err
			}
			return c.withDB(cmd.Context(), func(db *store.DB) error {
				if age == 0 && !dry {
					if ok, err := c.confirm(sure, "Delete the whole history, all that has ended by now?"); err != nil || !ok {
						return err
					}
				}
				r, err := db.Clean(cmd.Context(), time.Now().Add(-age), dry)
				if err != nil {
					return dbProblem(err)
				}
				verb := "Deleted"
				if dry {
					verb = "Would delete"
				}
				return c.show(r, func() {
					fmt.Fprintf(c.Out, "%s %d DAG runs, %d task instances, %d attempts, %d XComs, %d events, %d asset events, %d large values (%d bytes)\n",
						verb, r.Runs, r.TaskInstances, r.Attempts, r.XComs, r.Events, r.AssetEvents, r.Blobs, r.BlobBytes)
				})
			})
		}}
	cmd.Flags().StringVar(&keep, "keep", keep, "keep what is younger, such as 30d, 12h")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be deleted")
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask, which --keep 0 does")
	return cmd
}

func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, usage("%q is not an age; write 30d or 12h", s)
	}
	return d, nil
}

func (c *command) dbBackup() *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Write a consistent copy of the database, also while the server runs",
		Long:    "Write a consistent copy of the database to FILE, and its large values to FILE.blobs. To restore, stop Ostro and put\nthem in the places of control.db and blobs/ in the home folder.\n\nA PostgreSQL database is copied with pg_dump instead: the command says how. Copy HOME/blobs and HOME/secret.key as well.",
		Example: "  ostro db backup /backups/ostro-2024-01-31.db", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := checkFolder(filepath.Dir(a[0])); err != nil {
				return err
			}
			return c.withDB(cmd.Context(), func(db *store.DB) error {
				if err := db.Backup(cmd.Context(), a[0]); err != nil {
					return dbProblem(err)
				}
				return c.show(map[string]string{"path": a[0]}, func() { fmt.Fprintln(c.Out, "Backed up to "+a[0]) })
			})
		}}
}

// checkFolder refuses a place for a file that is no folder.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &problem{code: exitNotFound, err: fmt.Errorf("there is no folder %s", path)}
	case err != nil:
		return usage("look at the folder %s: %w", path, reason(err))
	case !info.IsDir():
		return usage("%s is not a folder", path)
	}
	return nil
}

func (c *command) dbRelease() *cobra.Command {
	return &cobra.Command{Use: "release", Short: "Let another home lead a PostgreSQL database whose last leader is gone for good",
		Long: `Let another home lead a PostgreSQL database whose last leader is gone for good.

A server does not take over tasks that another home's worker may still be running. When the machine of that home is surely
off, and stays off, this gives its tasks up: the next server counts them as lost and runs them again. While the leader is
alive it is refused.`,
		Example: "  ostro db release", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withDB(cmd.Context(), func(db *store.DB) error {
				was, err := db.Release(cmd.Context())
				if err != nil {
					return dbProblem(err)
				}
				n, err := db.AtWork(cmd.Context())
				if err != nil {
					return dbProblem(err)
				}
				return c.show(map[string]any{"server": was.Server, "given_up": n}, func() {
					fmt.Fprintf(c.Out, "Any server may lead now. Given up: %d task(s) or callback(s) of %s\n", n, was.Server)
				})
			})
		}}
}
