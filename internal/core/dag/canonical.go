package dag

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Canonical is the DAG as JSON with one spelling for one meaning: object keys are sorted, and so is every list whose order
// means nothing (tasks, groups, upstream ids, tags, edge labels …). Lists whose order has a meaning, such as the arguments
// of a mapping, stay as they are. The result is for hashing and for comparing; use json.Marshal to store a DAG.
func Canonical(d *DAG) []byte {
	c := d.Clone()
	slices.Sort(c.Tags)
	slices.Sort(c.AllowedRunTypes)
	for i := range c.Tasks {
		t := &c.Tasks[i]
		t.Upstream = sortedSet(t.Upstream)
		t.Setups = sortedSet(t.Setups)
		slices.Sort(t.TemplateFields)
		slices.SortStableFunc(t.Inlets, compareAssets)
		slices.SortStableFunc(t.Outlets, compareAssets)
	}
	slices.SortStableFunc(c.Tasks, func(a, b Task) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(c.Groups, func(a, b TaskGroup) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(c.EdgeLabels, func(a, b EdgeLabel) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Label, b.Label))
	})
	return sortKeys(c)
}

// Hash names a DAG version: the SHA-256 of the canonical form in hexadecimal.
func Hash(d *DAG) string {
	sum := sha256.Sum256(Canonical(d))
	return hex.EncodeToString(sum[:])
}

// sortKeys encodes v with the keys of all objects sorted, those inside raw JSON included. Numbers keep their digits.
func sortKeys(v any) []byte {
	b, err := json.Marshal(v)
	if err == nil {
		var tree any
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		if err = dec.Decode(&tree); err == nil {
			b, err = json.Marshal(tree)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("dag: canonical form: %v", err)) // a cloned DAG is valid JSON
	}
	return b
}

func sortedSet(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

func compareAssets(a, b AssetRef) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.URI, b.URI))
}
