package store

import (
	"context"
	"fmt"
	"slices"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/protocol"
)

// PutBundleVersion records a snapshot of a bundle. Recording it again changes nothing.
func (tx *Tx) PutBundleVersion(b BundleVersion) error {
	at := b.At
	if at.IsZero() {
		at = tx.Now
	}
	n, err := tx.s.exec(putBundleVersion, b.Bundle, b.Version, b.Path, micros(at))
	if err != nil {
		return fmt.Errorf("record version %s of bundle %s: %w", b.Version, b.Bundle, err)
	}
	if n == 0 {
		return nil
	}
	return tx.Emit(Event{Kind: "bundle.version", MapIndex: -1,
		Detail: detail{"bundle": b.Bundle, "version": b.Version}.json()})
}

// BundleVersion returns one recorded snapshot.
func (db *DB) BundleVersion(ctx context.Context, bundle, version string) (BundleVersion, error) {
	var b BundleVersion
	err := db.get(ctx, getBundleVersion, []any{bundle, version}, &b.Bundle, &b.Version, &b.Path, timeIn{&b.At})
	if err != nil {
		return BundleVersion{}, fmt.Errorf("version %s of bundle %s: %w", version, bundle, err)
	}
	return b, nil
}

// BundleVersions lists all recorded snapshots, newest first.
func (db *DB) BundleVersions(ctx context.Context) ([]BundleVersion, error) {
	var bs []BundleVersion
	err := db.each(ctx, bundleVersions, nil, func(row scanner) error {
		var b BundleVersion
		err := row.Scan(&b.Bundle, &b.Version, &b.Path, timeIn{&b.At})
		bs = append(bs, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read bundle versions: %w", err)
	}
	return bs, nil
}

const importErrorColumns = `import_error_pk, bundle, file, dag_id, line, message, traceback, at`

func scanImportError(row scanner) (ImportError, error) {
	var e ImportError
	err := row.Scan(&e.ID, &e.Bundle, &e.File, &e.DAGID, &e.Line, &e.Message, &e.Traceback, timeIn{&e.At})
	return e, err
}

// SetImportErrors replaces the import errors of one file of a bundle (none clears them). The same errors again change
// nothing, so their time is when they were first seen.
func (tx *Tx) SetImportErrors(bundle, file string, errs []protocol.ImportError) error {
	fail := func(err error) error { return fmt.Errorf("record import errors of %s: %w", file, err) }
	var stored []protocol.ImportError
	err := tx.s.each(importErrorsOfFile, []any{bundle, file}, func(row scanner) error {
		e, err := scanImportError(row)
		stored = append(stored, e.ImportError)
		return err
	})
	if err != nil {
		return fail(err)
	}
	errs = slices.Clone(errs)
	for i, e := range errs {
		errs[i].Message, errs[i].Traceback = excerpt.Of(e.Message, excerpt.Reason), excerpt.Of(e.Traceback, excerpt.Traceback)
	}
	if sameErrors(stored, errs) {
		return nil
	}
	if _, err := tx.s.exec(deleteImportErrors, bundle, file); err != nil {
		return fail(err)
	}
	for _, e := range errs {
		if _, err := tx.s.exec(insertImportError, bundle, file, e.DAGID, e.Line, e.Message, e.Traceback, micros(tx.Now)); err != nil {
			return fail(err)
		}
	}
	kind, d := "import_error.cleared", detail{"bundle": bundle, "file": file}
	if len(errs) > 0 {
		kind, d["message"], d["line"] = "import_error.set", errs[0].Message, errs[0].Line
	}
	return tx.Emit(Event{Kind: kind, MapIndex: -1, Detail: d.json()})
}

func sameErrors(a, b []protocol.ImportError) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		x.File, y.File = "", ""
		if x != y {
			return false
		}
	}
	return true
}

// ImportErrors lists all import errors by bundle and file.
func (db *DB) ImportErrors(ctx context.Context) ([]ImportError, error) {
	es, err := all(ctx, db.database, importErrors, nil, scanImportError)
	if err != nil {
		return nil, fmt.Errorf("read import errors: %w", err)
	}
	return es, nil
}
