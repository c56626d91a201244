package dag

import "slices"

// This file indexes what reaches beyond direct edges: mappings and the scopes of setup tasks.

// Mapping returns how a task unfolds: by its own mapping, or by that of the mapped group around it; nil when it does not.
func (x *Index) Mapping(pos int) *Mapping {
	if m := x.At(pos).Mapped; m != nil {
		return m
	}
	if g := x.mapGroup[pos]; g != nil {
		return g.Mapped
	}
	return nil
}

// MapGroup returns the mapped group a task is in, nil when there is none.
func (x *Index) MapGroup(pos int) *TaskGroup { return x.mapGroup[pos] }

// Paired tells whether instances of two tasks belong together by map index, because one mapped group holds both.
func (x *Index) Paired(a, b int) bool { return x.mapGroup[a] != nil && x.mapGroup[a] == x.mapGroup[b] }

// MapSources returns the tasks whose values decide into how many instances a task unfolds.
func (x *Index) MapSources(pos int) []int { return x.sources[pos] }

// Mappers returns the tasks that unfold by a value of this task: the inverse of MapSources.
func (x *Index) Mappers(pos int) []int { return x.mappers[pos] }

// Setups returns the setup tasks that a task needs although it does not wait for them directly: it runs within their
// scope. Those it waits for directly are judged by its trigger rule.
func (x *Index) Setups(pos int) []int { return x.setups[pos] }

// Scope returns the tasks that need a setup without waiting for it directly: the inverse of Setups.
func (x *Index) Scope(pos int) []int { return x.scope[pos] }

func (x *Index) indexMappings() {
	x.mapGroup = make([]*TaskGroup, x.Len())
	x.sources = make([][]int, x.Len())
	x.mappers = make([][]int, x.Len())
	for p := range x.DAG.Tasks {
		for id := x.At(p).Group; id != "" && x.mapGroup[p] == nil; id = x.groups[id].Parent {
			if g := x.groups[id]; g.Mapped != nil {
				x.mapGroup[p] = g
			}
		}
	}
	for p := range x.DAG.Tasks {
		m := x.Mapping(p)
		if m == nil {
			continue
		}
		for _, s := range m.Sources() {
			u := x.mustPos(s.Task)
			if !slices.Contains(x.sources[p], u) {
				x.sources[p] = append(x.sources[p], u)
				x.mappers[u] = append(x.mappers[u], p)
			}
		}
	}
}

func (x *Index) indexSetups() {
	x.setups = make([][]int, x.Len())
	x.scope = make([][]int, x.Len())
	if !slices.ContainsFunc(x.DAG.Tasks, func(t Task) bool { return t.Setup }) {
		return
	}
	for p := range x.DAG.Tasks {
		if t := x.At(p); t.Teardown || t.Rule() == Always {
			continue
		}
		for _, s := range x.relevantSetups(p) {
			if !slices.Contains(x.upstream[p], s) {
				x.setups[p] = append(x.setups[p], s)
				x.scope[s] = append(x.scope[s], p)
			}
		}
	}
}

// relevantSetups returns the setups before a task whose scope the task is in: those with a teardown after the task, and
// those without any teardown.
func (x *Index) relevantSetups(pos int) []int {
	var after []int
	var relevant []int
	for _, s := range x.Ancestors(pos) {
		if !x.At(s).Setup {
			continue
		}
		if after == nil {
			after = append(x.Descendants(pos), pos)
		}
		teardowns := slices.DeleteFunc(slices.Clone(x.downstream[s]), func(d int) bool { return !x.At(d).Teardown })
		if len(teardowns) == 0 || slices.ContainsFunc(teardowns, func(d int) bool { return slices.Contains(after, d) }) {
			relevant = append(relevant, s)
		}
	}
	return relevant
}
