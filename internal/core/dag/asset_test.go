package dag

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnAssetExpressionIsSatisfiedByWhatItNames(t *testing.T) {
	const a, b, c = `{"asset":{"name":"a","uri":"s3://a"}}`, `{"asset":{"name":"b"}}`, `{"alias":"c"}`
	for _, x := range []struct {
		name, expr string
		updated    []string
		want       bool
	}{
		{"one asset, not updated", a, nil, false},
		{"one asset, updated", a, []string{"a"}, true},
		{"all, one missing", `{"all":[` + a + `,` + b + `]}`, []string{"a"}, false},
		{"all, both there", `{"all":[` + a + `,` + b + `]}`, []string{"a", "b"}, true},
		{"any", `{"any":[` + a + `,` + b + `]}`, []string{"b"}, true},
		{"any of none", `{"any":[` + a + `,` + b + `]}`, []string{"c"}, false},
		{"nested, a alone", `{"all":[` + a + `,{"any":[` + b + `,` + c + `]}]}`, []string{"a"}, false},
		{"nested, a and an alias", `{"all":[` + a + `,{"any":[` + b + `,` + c + `]}]}`, []string{"a", "c"}, true},
		{"nothing named", `{}`, []string{"a"}, false},
	} {
		var e AssetExpr
		if err := json.Unmarshal([]byte(x.expr), &e); err != nil {
			t.Fatal(err)
		}
		if got := e.Satisfied(func(r AssetRef) bool { return slices.Contains(x.updated, r.Name) }); got != x.want {
			t.Errorf("%s: satisfied is %t, want %t", x.name, got, x.want)
		}
	}
}

func TestAReferenceByNameOrURIAloneMeansEveryAssetThatHasIt(t *testing.T) {
	k := AssetKey{Name: "orders", URI: "s3://orders"}
	for _, x := range []struct {
		ref  AssetRef
		want bool
	}{
		{AssetRef{Name: "orders", URI: "s3://orders"}, true},
		{AssetRef{Name: "orders"}, true},
		{AssetRef{URI: "s3://orders"}, true},
		{AssetRef{Name: "orders", URI: "s3://other"}, false},
		{AssetRef{Name: "orders", Alias: true}, false},
		{AssetRef{}, false},
	} {
		if got := x.ref.Matches(k); got != x.want {
			t.Errorf("%+v matches %+v: %t, want %t", x.ref, k, got, x.want)
		}
	}
	e := AssetExpr{Any: []AssetExpr{{Asset: &AssetRef{Name: "a"}}, {All: []AssetExpr{{Alias: "b"}, {Asset: &AssetRef{Name: "c"}}}}}}
	var names []string
	for r := range e.Refs() {
		names = append(names, r.Name)
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, names); d != "" {
		t.Error(d)
	}
}
