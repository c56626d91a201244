package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ostro.dev/ostro/internal/store/postgres"
	"ostro.dev/ostro/internal/store/sqlite"
)

// Migrate brings a control database up to date without keeping it open, and returns the schema before and after. Open
// does so by itself.
func Migrate(ctx context.Context, o Options) (from, to int64, err error) {
	if o.URL != "" {
		from, to, err = postgres.Migrate(ctx, postgresOptions(o, controlSchema))
	} else {
		from, to, err = sqlite.Migrate(ctx, sqliteOptions(o, controlSchema))
	}
	return from, to, explain(err)
}

// SchemaVersion returns the schema version of the open database, and the newest this binary knows.
func (d *database) SchemaVersion(ctx context.Context) (current, newest int64, err error) {
	current, newest, err = d.eng.Version(ctx)
	return current, newest, explain(err)
}

// Health makes a small durable write. An error says that nothing can be written; without one, a change that needs more
// room may still be refused, and Refused says so.
func (db *DB) Health(ctx context.Context) error {
	now := db.o.Now()
	err := db.update(ctx, "health", now, func(tx *Tx) error {
		_, err := tx.s.exec(putMeta, "health", now.UTC().Format(time.RFC3339Nano))
		return err
	})
	if err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	return nil
}

// Meta returns a small value kept under a name by SetMeta; ErrNotFound.
func (db *DB) Meta(ctx context.Context, key string) (string, error) {
	var value string
	if err := db.get(ctx, getMeta, []any{key}, &value); err != nil {
		return "", fmt.Errorf("read %q: %w", key, err)
	}
	return value, nil
}

// SetMeta keeps a small value under a name. It is no event.
func (tx *Tx) SetMeta(key, value string) error {
	if err := tx.s.send(putMeta, nil, key, value); err != nil {
		return fmt.Errorf("write %q: %w", key, err)
	}
	return nil
}

// CheckReport is what Check found.
type CheckReport struct {
	// Problems are sentences about damage: none for a sound database.
	Problems []string `json:"problems"`
	// Blobs counts the large XCom values; OrphanBlobs those nobody refers to, which Clean collects, with their size.
	Blobs       int   `json:"blobs"`
	OrphanBlobs int   `json:"orphan_blobs"`
	OrphanBytes int64 `json:"orphan_bytes"`
}

// Check runs the engine's integrity checks and compares the blob folder with what refers to it.
func (db *DB) Check(ctx context.Context) (CheckReport, error) {
	var r CheckReport
	var err error
	if r.Problems, err = db.eng.Check(ctx); err != nil {
		if err = explain(err); !errors.Is(err, ErrCorrupt) {
			return r, fmt.Errorf("check the database: %w", err)
		}
		r.Problems = append(r.Problems, err.Error())
		return r, nil
	}
	used, err := db.usedBlobs(ctx)
	if err != nil {
		return r, fmt.Errorf("check the blob folder: %w", err)
	}
	r.Blobs = len(used)
	err = db.blobs.each(func(name, _ string, info fs.FileInfo) error {
		if name != "" && used[name] {
			delete(used, name)
			if _, err := db.blobs.get(name); err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
			return ctx.Err()
		}
		r.OrphanBlobs++
		r.OrphanBytes += info.Size()
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("check the blob folder: %w", err)
	}
	for name := range used {
		r.Problems = append(r.Problems, fmt.Sprintf("the file of blob %s is missing from %s", name, db.blobs.dir))
	}
	return r, nil
}

func (db *DB) usedBlobs(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	err := db.each(ctx, blobsInUse, nil, func(row scanner) error {
		var name string
		err := row.Scan(&name)
		used[name] = true
		return err
	})
	return used, err
}

// Backup writes a consistent copy of the database to path while it is in use, and the large XCom values to the folder
// path + ".blobs". Neither may exist. To restore, stop Ostro and put both in their places.
func (db *DB) Backup(ctx context.Context, path string) error {
	dir := path + ".blobs"
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("back up: %s exists: %w", dir, ErrConflict)
	}
	if err := db.eng.Backup(ctx, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: %w", ErrConflict, err)
		}
		return fmt.Errorf("back up: %w", explain(err))
	}
	// Values are never changed, so a copy made after the database's holds all it refers to.
	used, err := db.usedBlobs(ctx)
	if err != nil {
		return fmt.Errorf("back up large XCom values: %w", err)
	}
	for name := range used {
		if err := copyFile(db.blobs.path(name), (blobs{dir}).path(name)); err != nil {
			return fmt.Errorf("back up large XCom values: %w", err)
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}
