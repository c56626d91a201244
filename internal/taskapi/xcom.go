package taskapi

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

func xcomResult(key string, value json.RawMessage) protocol.XComResult {
	return protocol.XComResult{Type: "XComResult", Key: key, Value: value, Found: true}
}

func (c *call) getXCom() (any, error) {
	k := c.key()
	read := c.store.XCom
	if c.req.Files {
		read = c.store.XComInPlace
	}
	x, err := read(c.ctx, k, c.req.Key)
	if err == nil {
		r := xcomResult(c.req.Key, x.Value)
		r.File = x.File
		return r, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if c.req.PriorDates {
		return c.priorXCom(k)
	}
	return missing(c.req.Key), nil
}

func missing(key string) protocol.XComResult {
	return protocol.XComResult{Type: "XComResult", Key: key, Value: json.RawMessage("null")}
}

// priorXCom looks in earlier runs, the newest first.
func (c *call) priorXCom(k run.Key) (any, error) {
	r, err := c.store.Run(c.ctx, k.DAGID, k.RunID)
	if err != nil || r.LogicalDate == nil {
		return missing(c.req.Key), ignoreNotFound(err)
	}
	before := r.LogicalDate.Add(-time.Microsecond)
	for offset := 0; ; offset += 50 {
		runs, _, err := c.store.Runs(c.ctx, store.RunFilter{DAGID: k.DAGID, LogicalDateLTE: &before,
			OrderBy: []string{"-logical_date"}, Limit: 50, Offset: offset})
		if err != nil {
			return nil, err
		}
		for _, prior := range runs {
			k.RunID = prior.RunID
			x, err := c.store.XCom(c.ctx, k, c.req.Key)
			if err == nil {
				return xcomResult(c.req.Key, x.Value), nil
			}
			if !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
		}
		if len(runs) < 50 {
			return missing(c.req.Key), nil
		}
	}
}

// sequence is what the instances of a mapped task pushed under one key, in order of map index.
func (c *call) sequence() ([]store.XCom, error) {
	k := c.key()
	xs, err := c.store.XComsOfTask(c.ctx, k.DAGID, k.RunID, k.TaskID, c.req.Key)
	return slices.DeleteFunc(xs, func(x store.XCom) bool { return x.Key.MapIndex < 0 }), err
}

// getXComCount and getXComItem are asked by every instance of a task that is mapped over a mapped task: neither may read
// all values.
func (c *call) getXComCount() (any, error) {
	k := c.key()
	n, err := c.store.CountMappedXComs(c.ctx, k.DAGID, k.RunID, k.TaskID, c.req.Key)
	return struct {
		Type string `json:"type"`
		Len  int    `json:"len"`
	}{"XComCountResponse", n}, err
}

func (c *call) getXComItem() (any, error) {
	k, i := c.key(), c.req.Offset
	if i < 0 {
		n, err := c.store.CountMappedXComs(c.ctx, k.DAGID, k.RunID, k.TaskID, c.req.Key)
		if err != nil {
			return nil, err
		}
		i += n
	}
	x, err := store.XCom{}, store.ErrNotFound
	if i >= 0 {
		x, err = c.store.MappedXCom(c.ctx, k.DAGID, k.RunID, k.TaskID, c.req.Key, i)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault(protocol.CodeXComNotFound, "there is no element %d of what task %s pushed under %q", c.req.Offset, c.req.TaskID, c.req.Key)
	case err != nil:
		return nil, err
	}
	return xcomResult(c.req.Key, x.Value), nil
}

func (c *call) getXComSlice() (any, error) {
	xs, err := c.sequence()
	if err != nil {
		return nil, err
	}
	root := []json.RawMessage{}
	for _, i := range sliceIndexes(len(xs), c.req.Start, c.req.Stop, c.req.Step) {
		root = append(root, xs[i].Value)
	}
	return struct {
		Type string            `json:"type"`
		Root []json.RawMessage `json:"root"`
	}{"XComSequenceSliceResult", root}, nil
}

// sliceIndexes are the positions that sequence[start:stop:step] takes in Python.
func sliceIndexes(n int, start, stop, step *int) []int {
	by := 1
	if step != nil && *step != 0 {
		by = *step
	}
	low, high := 0, n // where positions are cut off
	from, to := 0, n
	if by < 0 {
		low, high = -1, n-1
		from, to = n-1, -1
	}
	place := func(p *int, otherwise int) int {
		if p == nil {
			return otherwise
		}
		i := *p
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	from, to = place(start, from), place(stop, to)
	var out []int
	for i := from; (by > 0 && i < to) || (by < 0 && i > to); i += by {
		out = append(out, i)
	}
	return out
}

func (c *call) setXCom() (any, error) {
	k := c.key()
	if c.req.Key == "" {
		return nil, fault(protocol.CodeInvalid, "an XCom needs a key")
	}
	length := -1
	if c.req.MapLength != nil {
		length = *c.req.MapLength
	}
	if err := c.store.StageXCom(c.req.Value); err != nil {
		return nil, err
	}
	err := c.update(func(tx *store.Tx) error { return tx.PutXCom(k, c.req.Key, c.req.Value, length) })
	if err != nil {
		return nil, err
	}
	if k == c.attempt.Key {
		c.sched.Pushed(c.attempt.ID, c.req.Key, length)
	}
	return ok, nil
}

// setXComFile stores a value that the attempt has written to a file in its folder, as JSON.
func (c *call) setXComFile() (any, error) {
	k, name := c.key(), c.req.File
	switch {
	case c.req.Key == "":
		return nil, fault(protocol.CodeInvalid, "an XCom needs a key")
	case c.scratch == "" || !filepath.IsLocal(c.attempt.ID):
		return nil, fault(protocol.CodeNotSupported, "this attempt has no folder that the control plane can read")
	case name == "" || name != filepath.Base(name) || !filepath.IsLocal(name):
		return nil, fault(protocol.CodeInvalid, "%q is not the name of a file in the folder of the attempt", name)
	}
	length := -1
	if c.req.MapLength != nil {
		length = *c.req.MapLength
	}
	var blob string
	var size int64
	err := c.patiently(func() (err error) { // apart from the update, whose tries need not read the file again
		blob, size, err = c.store.StageXComFile(filepath.Join(c.scratch, c.attempt.ID, name))
		return err
	})
	if err != nil {
		return nil, err
	}
	err = c.update(func(tx *store.Tx) error { return tx.PutXComFile(k, c.req.Key, blob, size, length) })
	if err != nil {
		return nil, err
	}
	if k == c.attempt.Key {
		c.sched.Pushed(c.attempt.ID, c.req.Key, length)
	}
	return ok, nil
}

func (c *call) deleteXCom() (any, error) {
	k := c.key()
	if c.req.Key == "" {
		return nil, fault(protocol.CodeInvalid, "say which XCom to delete")
	}
	return ok, c.update(func(tx *store.Tx) error { return tx.DeleteXComs(k, c.req.Key) })
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
