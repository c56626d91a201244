package dag

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResourcesAreReadAsTheyWereWrittenBefore(t *testing.T) {
	for text, want := range map[string]Resources{
		`{"cpu":1.5,"memory":7,"gpus":2,"gpu_memory":9,"pod":true}`: {CPU: 1.5, Memory: 7, GPUs: 2, GPUMemory: 9, Pod: true},
		`{"gpu":2}`: {GPUs: 2},
		`{}`:        {},
	} {
		var got Resources
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", text, d)
		}
	}
	b, err := json.Marshal(Resources{GPUs: 1, GPUMemory: 2})
	if err != nil || string(b) != `{"gpus":1,"gpu_memory":2}` {
		t.Errorf("%s %v", b, err)
	}
}

func TestResourcesAreInTheCanonicalForm(t *testing.T) {
	with := func(r *Resources) string { return Hash(graph("a:", on("a", func(t *Task) { t.Resources = r }))) }
	if with(nil) == with(&Resources{GPUs: 1}) || with(&Resources{GPUs: 1}) == with(&Resources{GPUs: 1, GPUMemory: 5}) {
		t.Error("another request does not make another version")
	}
}

func TestResourcesThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct {
		r    Resources
		want string
	}{
		{Resources{GPUs: -1}, `task "a": resources: gpus must not be negative`},
		{Resources{Memory: -1}, `task "a": resources must not be negative`},
		{Resources{GPUMemory: 5}, `task "a": resources: gpu_memory without gpus`},
	} {
		err := Validate(graph("a:", on("a", func(t *Task) { t.Resources = &c.r })))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.r, err, c.want)
		}
	}
}
