package dag

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This file checks the shape of a DAG: cycles, the nesting of groups, and mappings.

// acyclic reports every cycle that a depth-first walk closes, each as a path, and tells whether there was none.
func (v *validator) acyclic() bool {
	const unseen, open, done = 0, 1, 2
	state := map[string]int{}
	clean := true
	var path []string
	var visit func(id string)
	visit = func(id string) {
		state[id] = open
		path = append(path, id)
		for _, u := range v.tasks[id].Upstream {
			switch {
			case v.tasks[u] == nil:
			case state[u] == unseen:
				visit(u)
			case state[u] == open:
				clean = false
				v.fault("cycle: %s", cyclePath(path, u))
			}
		}
		path = path[:len(path)-1]
		state[id] = done
	}
	for _, id := range v.ids {
		if state[id] == unseen {
			visit(id)
		}
	}
	return clean
}

// cyclePath writes the part of an upstream walk that leads back to start in the direction of the edges, beginning with the
// smallest id so that one cycle always reads the same.
func cyclePath(walk []string, start string) string {
	cycle := slices.Clone(walk[slices.Index(walk, start):])
	slices.Reverse(cycle)
	first := slices.Index(cycle, slices.Min(cycle))
	cycle = slices.Concat(cycle[first:], cycle[:first+1])
	return strings.Join(cycle, " → ")
}

// nesting checks that groups form a forest and that mappings are not nested.
func (v *validator) nesting() {
	for i := range v.dag.Groups {
		g := &v.dag.Groups[i]
		if g.Parent != "" && v.groups[g.Parent] == nil {
			v.fault("group %q: parent group %q does not exist%s", g.ID, g.Parent, didYouMean(g.Parent, sortedKeys(v.groups)))
		}
		outer, endless := v.mappedAround(g.Parent)
		switch {
		case endless:
			v.fault("group %q is inside itself", g.ID)
		case g.Mapped != nil && outer != "":
			v.fault("group %q: a mapped group cannot be inside the mapped group %q", g.ID, outer)
		}
	}
	for i := range v.dag.Tasks {
		t := &v.dag.Tasks[i]
		if outer, _ := v.mappedAround(t.Group); t.Mapped != nil && outer != "" {
			v.fault("task %q: a mapped task cannot be inside the mapped group %q", t.ID, outer)
		}
	}
}

// mappedAround finds the nearest mapped group from a group outwards; endless is true when the parents form a ring.
func (v *validator) mappedAround(id string) (mapped string, endless bool) {
	for range len(v.groups) + 1 {
		g := v.groups[id]
		if g == nil {
			return "", false
		}
		if g.Mapped != nil {
			return g.ID, false
		}
		id = g.Parent
	}
	return "", true
}

// mappings checks every mapping; the graph is known to have no cycle.
func (v *validator) mappings() {
	for i := range v.dag.Tasks {
		if t := &v.dag.Tasks[i]; t.Mapped != nil {
			v.mapping(fmt.Sprintf("task %q: ", t.ID), t.Mapped, v.before([]string{t.ID}))
		}
	}
	for i := range v.dag.Groups {
		g := &v.dag.Groups[i]
		if g.Mapped == nil {
			continue
		}
		members := v.members(g.ID)
		before := v.before(members)
		for _, id := range members {
			delete(before, id) // a group cannot unfold by what happens inside it
		}
		v.mapping(fmt.Sprintf("group %q: ", g.ID), g.Mapped, before)
	}
}

// members returns the tasks in a group and in the groups inside it.
func (v *validator) members(group string) []string {
	var ids []string
	for i := range v.dag.Tasks {
		id := v.dag.Tasks[i].Group
		for range len(v.groups) {
			if id == group {
				ids = append(ids, v.dag.Tasks[i].ID)
				break
			}
			if v.groups[id] == nil {
				break
			}
			id = v.groups[id].Parent
		}
	}
	return ids
}

func (v *validator) mapping(name string, m *Mapping, before map[string]bool) {
	switch {
	case m.Kind != "expand" && m.Kind != "expand_kwargs":
		v.fault("%smapping kind %q is neither expand nor expand_kwargs", name, m.Kind)
	case m.Kind == "expand_kwargs" && len(m.Args) != 1:
		v.fault("%sexpand_kwargs takes one argument, not %d", name, len(m.Args))
	case len(m.Args) == 0:
		v.fault("%sit is mapped over nothing", name)
	}
	for _, a := range m.Args {
		if a.Length < 0 && a.Source == nil {
			v.fault("%smapped argument %q has neither a length nor a source", name, a.Name)
		}
		if a.Source != nil {
			a.Source.check(func(format string, args ...any) {
				v.fault("%smapped argument %q: %s", name, a.Name, fmt.Sprintf(format, args...))
			})
		}
	}
	for _, s := range m.Sources() {
		switch {
		case s.Task == "": // reported above
		case v.tasks[s.Task] == nil:
			v.fault("%sit is mapped over task %q, which does not exist%s", name, s.Task, didYouMean(s.Task, v.ids))
		case !before[s.Task]:
			v.fault("%sit is mapped over task %q, which is not upstream of it", name, s.Task)
		}
	}
}

// check reports operations that do not exist or lack what they need.
func (s *MapSource) check(fault func(format string, args ...any)) {
	switch {
	case s.Length != nil:
		return
	case !slices.Contains([]string{MapXCom, MapMap, MapZip, MapConcat}, s.Op):
		fault("unknown operation %q", s.Op)
	case s.Op == MapXCom && s.Task == "":
		fault("an xcom source names no task")
	case s.Op != MapXCom && len(s.Args) == 0:
		fault("%s of nothing", s.Op)
	case s.Op == MapMap && len(s.Args) != 1:
		fault("map takes one source, not %d", len(s.Args))
	}
	for i := range s.Args {
		s.Args[i].check(fault)
	}
}

// before returns every task upstream of the given ones.
func (v *validator) before(ids []string) map[string]bool {
	ids = slices.Clone(ids)
	seen := map[string]bool{}
	for len(ids) > 0 {
		t := v.tasks[ids[len(ids)-1]]
		ids = ids[:len(ids)-1]
		if t == nil {
			continue
		}
		for _, u := range t.Upstream {
			if !seen[u] {
				seen[u] = true
				ids = append(ids, u)
			}
		}
	}
	return seen
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
