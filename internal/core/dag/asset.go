package dag

import "iter"

// AssetKey names an asset. Declarations with the same name and URI, in whatever file, mean the same asset.
type AssetKey struct{ Name, URI string }

// Key is the asset a complete reference names; false for an alias and for a reference by name or by URI alone.
func (r AssetRef) Key() (AssetKey, bool) {
	return AssetKey{r.Name, r.URI}, !r.Alias && r.Name != "" && r.URI != ""
}

// Matches says whether the reference means an asset: by what it gives of name and URI. An alias means none by itself.
func (r AssetRef) Matches(k AssetKey) bool {
	return !r.Alias && (r.Name != "" || r.URI != "") && (r.Name == "" || r.Name == k.Name) && (r.URI == "" || r.URI == k.URI)
}

// Refs yields the assets and aliases an expression names, in order. An alias has Alias set.
func (e *AssetExpr) Refs() iter.Seq[AssetRef] {
	return func(yield func(AssetRef) bool) { e.visit(yield) }
}

func (e *AssetExpr) visit(yield func(AssetRef) bool) bool {
	switch {
	case e == nil:
		return true
	case e.Asset != nil:
		return yield(*e.Asset)
	case e.Alias != "":
		return yield(AssetRef{Name: e.Alias, Alias: true})
	}
	for _, parts := range [][]AssetExpr{e.All, e.Any} {
		for i := range parts {
			if !parts[i].visit(yield) {
				return false
			}
		}
	}
	return true
}

// AssetRefs yields the assets and aliases a DAG names: in its schedule, and among what its tasks read and write.
func (d *DAG) AssetRefs() iter.Seq[AssetRef] {
	return func(yield func(AssetRef) bool) {
		if !d.Schedule.Assets.visit(yield) {
			return
		}
		for i := range d.Tasks {
			for _, refs := range [][]AssetRef{d.Tasks[i].Inlets, d.Tasks[i].Outlets} {
				for _, ref := range refs {
					if !yield(ref) {
						return
					}
				}
			}
		}
	}
}

// Satisfied evaluates the expression: updated says of each asset and alias it names whether it has been updated. An
// expression without parts is never satisfied.
func (e *AssetExpr) Satisfied(updated func(AssetRef) bool) bool {
	switch {
	case e == nil:
		return false
	case e.Asset != nil:
		return updated(*e.Asset)
	case e.Alias != "":
		return updated(AssetRef{Name: e.Alias, Alias: true})
	case len(e.All) > 0:
		for i := range e.All {
			if !e.All[i].Satisfied(updated) {
				return false
			}
		}
		return true
	}
	for i := range e.Any {
		if e.Any[i].Satisfied(updated) {
			return true
		}
	}
	return false
}
