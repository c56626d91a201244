package store

import (
	"context"
	"encoding/json"
	"fmt"

	"ostro.dev/ostro/internal/core/run"
)

const xcomColumns = `d.dag_id, r.run_id, x.task_id, x.map_index, x.key, x.value, coalesce(x.blob, ''), x.map_length, x.size, x.at`

// PutXCom stores a value; values above the threshold go to the blob folder, transparently. A large value that StageXCom
// has written before costs the writer nothing.
func (tx *Tx) PutXCom(k run.Key, key string, value json.RawMessage, mapLength int) error {
	pk, err := tx.s.runKey(k.DAGID, k.RunID)
	if err != nil {
		return fmt.Errorf("put XCom %q of %s: %w", key, keyText(k), err)
	}
	if value == nil {
		value = json.RawMessage("null")
	}
	var inline, blob any = []byte(value), nil
	if len(value) > tx.db.o.BlobThreshold {
		name, err := tx.db.blobs.put(value)
		if err != nil {
			return fmt.Errorf("put XCom %q of %s: %w", key, keyText(k), err)
		}
		inline, blob = nil, name
	}
	return tx.putXCom(pk, k, key, inline, blob, mapLength, int64(len(value)))
}

// PutXComFile stores a value that StageXComFile has taken, under the name that it gave.
func (tx *Tx) PutXComFile(k run.Key, key, name string, size int64, mapLength int) error {
	pk, err := tx.s.runKey(k.DAGID, k.RunID)
	if err == nil {
		err = tx.db.blobs.keep(name)
	}
	if err != nil {
		return fmt.Errorf("put XCom %q of %s: %w", key, keyText(k), err)
	}
	return tx.putXCom(pk, k, key, nil, name, mapLength, size)
}

func (tx *Tx) putXCom(pk int64, k run.Key, key string, inline, blob any, mapLength int, size int64) error {
	if err := tx.s.send(putXCom, nil, pk, k.TaskID, key, k.MapIndex, inline, blob, mapLength, size, micros(tx.Now)); err != nil {
		return fmt.Errorf("put XCom %q of %s: %w", key, keyText(k), err)
	}
	return tx.emit(pk, Event{Kind: "xcom.put", DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID, MapIndex: k.MapIndex,
		Detail: detail{"key": key, "size": size}.json()})
}

// StageXCom writes a large value to the blob folder ahead of the PutXCom that will refer to it, outside the writer; it
// does nothing for a small one.
func (db *DB) StageXCom(value json.RawMessage) error {
	if len(value) <= db.o.BlobThreshold {
		return nil
	}
	_, err := db.blobs.put(value)
	return err
}

// StageXComFile takes a value that is in a file into the blob folder, without reading it into memory, ahead of the PutXComFile
// that will refer to it. It is copied: what becomes of the file afterwards does not matter. ErrInvalid is for one that is not
// JSON, or larger than MaxXCom.
func (db *DB) StageXComFile(path string) (name string, size int64, err error) {
	return db.blobs.take(path)
}

// BlobDir is the folder of large XCom values.
func (db *DB) BlobDir() string { return db.blobs.dir }

// DeleteXComs removes one key, or all keys of the instance when key is empty.
func (tx *Tx) DeleteXComs(k run.Key, key string) error {
	pk, err := tx.s.runKey(k.DAGID, k.RunID)
	if err != nil {
		return fmt.Errorf("delete XComs of %s: %w", keyText(k), err)
	}
	var n int64
	if key == "" {
		n, err = tx.s.exec(deleteXComs, pk, k.TaskID, k.MapIndex)
	} else {
		n, err = tx.s.exec(deleteXCom, pk, k.TaskID, key, k.MapIndex)
	}
	if err != nil {
		return fmt.Errorf("delete XComs of %s: %w", keyText(k), err)
	}
	if n == 0 {
		return nil
	}
	return tx.emit(pk, Event{Kind: "xcom.deleted", DAGID: k.DAGID, RunID: k.RunID, TaskID: k.TaskID, MapIndex: k.MapIndex,
		Detail: detail{"key": key, "count": n}.json()})
}

// XCom returns a value; ErrNotFound.
func (db *DB) XCom(ctx context.Context, k run.Key, key string) (XCom, error) {
	xs, err := db.xcoms(ctx, true, getXCom, k.DAGID, k.RunID, k.TaskID, key, k.MapIndex)
	if err == nil && len(xs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return XCom{}, fmt.Errorf("XCom %q of %s: %w", key, keyText(k), err)
	}
	return xs[0], nil
}

// XComInPlace is XCom, but a value that is in a file is left there: File is set and Value is not.
func (db *DB) XComInPlace(ctx context.Context, k run.Key, key string) (XCom, error) {
	xs, names, err := db.xcomRows(ctx, getXCom, k.DAGID, k.RunID, k.TaskID, key, k.MapIndex)
	if err == nil && len(xs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return XCom{}, fmt.Errorf("XCom %q of %s: %w", key, keyText(k), err)
	}
	if names[0] != "" {
		xs[0].File = db.blobs.path(names[0])
	}
	return xs[0], nil
}

// XComs lists an instance's XComs (values included when values is true).
func (db *DB) XComs(ctx context.Context, k run.Key, values bool) ([]XCom, error) {
	xs, err := db.xcoms(ctx, values, xcomsOfInstance, k.DAGID, k.RunID, k.TaskID, k.MapIndex)
	if err != nil {
		return nil, fmt.Errorf("XComs of %s: %w", keyText(k), err)
	}
	return xs, nil
}

// XComsOfTask lists one key over all map indexes of a task, in order of map index.
func (db *DB) XComsOfTask(ctx context.Context, dagID, runID, taskID, key string) ([]XCom, error) {
	xs, err := db.xcoms(ctx, true, xcomsOfTask, dagID, runID, taskID, key)
	if err != nil {
		return nil, fmt.Errorf("XComs %q of %s/%s/%s: %w", key, dagID, runID, taskID, err)
	}
	return xs, nil
}

// CountMappedXComs is how many instances of a mapped task have pushed a key.
func (db *DB) CountMappedXComs(ctx context.Context, dagID, runID, taskID, key string) (int, error) {
	n := 0
	err := db.each(ctx, countMappedXComs, []any{dagID, runID, taskID, key}, func(row scanner) error { return row.Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("count XComs %q of %s/%s/%s: %w", key, dagID, runID, taskID, err)
	}
	return n, nil
}

// MappedXCom is the value at an offset, from 0, among those that the instances of a mapped task have pushed under a key, in
// order of map index; ErrNotFound.
func (db *DB) MappedXCom(ctx context.Context, dagID, runID, taskID, key string, offset int) (XCom, error) {
	xs, err := db.xcoms(ctx, true, mappedXCom, dagID, runID, taskID, key, offset)
	if err == nil && len(xs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return XCom{}, fmt.Errorf("XCom %q of %s/%s/%s at %d: %w", key, dagID, runID, taskID, offset, err)
	}
	return xs[0], nil
}

// xcomRows reads rows as they are, with the names of the blobs that hold the values that are not in them.
func (db *DB) xcomRows(ctx context.Context, id statement, args ...any) (xs []XCom, names []string, err error) {
	err = db.each(ctx, id, args, func(row scanner) error {
		var x XCom
		var blob string
		if err := row.Scan(&x.Key.DAGID, &x.Key.RunID, &x.Key.TaskID, &x.Key.MapIndex, &x.Name, jsonIn{&x.Value}, &blob,
			&x.MapLength, &x.Size, timeIn{&x.At}); err != nil {
			return err
		}
		xs, names = append(xs, x), append(names, blob)
		return nil
	})
	return xs, names, err
}

func (db *DB) xcoms(ctx context.Context, values bool, id statement, args ...any) ([]XCom, error) {
	xs, names, err := db.xcomRows(ctx, id, args...)
	if err != nil {
		return nil, err
	}
	if !values {
		for i := range xs {
			xs[i].Value = nil
		}
		return xs, nil
	}
	for i, name := range names {
		if name == "" {
			continue
		}
		if xs[i].Value, err = db.blobs.get(name); err != nil {
			return nil, err
		}
	}
	return xs, nil
}
