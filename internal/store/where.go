package store

import (
	"fmt"
	"strings"
)

// where collects the conditions of a listing.
type where struct {
	conds []string
	args  []any
}

func (w *where) add(cond string, args ...any) {
	w.conds = append(w.conds, cond)
	w.args = append(w.args, args...)
}

// equal adds a condition unless the value is empty or Airflow's wildcard.
func (w *where) equal(cond, value string) {
	if value != "" && value != "~" {
		w.add(cond, value)
	}
}

func (w *where) text() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// in adds that column is one of values, unless there are none.
func in[T ~string](w *where, column string, values []T) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	w.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

// orderBy turns the names of a filter's OrderBy ("start_date", "-start_date") into SQL. Nothing sorts before everything,
// on every engine. last makes the order complete; it takes the direction of the first name.
func orderBy(names []string, columns map[string]string, last ...string) (string, error) {
	var terms []string
	direction := " ASC"
	for i, name := range names {
		plain, desc := strings.CutPrefix(name, "-")
		column, ok := columns[plain]
		if !ok {
			return "", fmt.Errorf("cannot order by %q: %w", name, ErrInvalid)
		}
		if desc {
			terms = append(terms, column+" DESC NULLS LAST")
		} else {
			terms = append(terms, column+" ASC NULLS FIRST")
		}
		if i == 0 && desc {
			direction = " DESC"
		}
	}
	for _, column := range last {
		terms = append(terms, column+direction)
	}
	return " ORDER BY " + strings.Join(terms, ", "), nil
}

// page is the end of a listing.
func page(limit, offset int) string {
	switch {
	case limit > 0:
		return fmt.Sprintf(" LIMIT %d OFFSET %d", limit, max(offset, 0))
	case offset > 0:
		return fmt.Sprintf(" LIMIT 9223372036854775807 OFFSET %d", offset)
	}
	return ""
}
