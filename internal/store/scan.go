package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// scanner is one row.
type scanner interface{ Scan(dest ...any) error }

// drain scans every row and closes.
func drain(rows *sql.Rows, scan func(scanner) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// micros is how the store keeps a time.
func micros(t time.Time) int64 { return t.UnixMicro() }

func optMicros(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

func optInt(i *int) any {
	if i == nil {
		return nil
	}
	return int64(*i)
}

func optText(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// The types below read a column into a field of another type.

type timeIn struct{ t *time.Time }

func (x timeIn) Scan(v any) error {
	i, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is %T", v)
	}
	*x.t = time.UnixMicro(i).UTC()
	return nil
}

type optTimeIn struct{ t **time.Time }

func (x optTimeIn) Scan(v any) error {
	if v == nil {
		*x.t = nil
		return nil
	}
	var t time.Time
	if err := (timeIn{&t}).Scan(v); err != nil {
		return err
	}
	*x.t = &t
	return nil
}

type optIntIn struct{ i **int }

func (x optIntIn) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*x.i = nil
	case int64:
		i := int(v)
		*x.i = &i
	default:
		return fmt.Errorf("a number is %T", v)
	}
	return nil
}

type jsonIn struct{ j *json.RawMessage }

func (x jsonIn) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*x.j = nil
	case string:
		*x.j = json.RawMessage(v)
	case []byte:
		*x.j = append(json.RawMessage(nil), v...)
	default:
		return fmt.Errorf("JSON is %T", v)
	}
	return nil
}

type stringsIn struct{ s *[]string }

func (x stringsIn) Scan(v any) error {
	var raw json.RawMessage
	if err := (jsonIn{&raw}).Scan(v); err != nil || raw == nil {
		*x.s = nil
		return err
	}
	return json.Unmarshal(raw, x.s)
}

// decodeIn reads a value that is stored as JSON; NULL leaves it as it is.
type decodeIn struct{ into any }

func (x decodeIn) Scan(v any) error {
	var raw json.RawMessage
	if err := (jsonIn{&raw}).Scan(v); err != nil || raw == nil {
		return err
	}
	return json.Unmarshal(raw, x.into)
}

type durationIn struct{ d *time.Duration }

func (x durationIn) Scan(v any) error {
	us, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a duration is %T", v)
	}
	*x.d = time.Duration(us) * time.Microsecond
	return nil
}
