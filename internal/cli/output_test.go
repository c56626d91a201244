package cli

import (
	"bytes"
	"testing"

	"ostro.dev/ostro/internal/api/v2/wire"
)

func TestNothingToListIsAnEmptyListForPrograms(t *testing.T) {
	for format, want := range map[string]string{"json": "[]\n", "yaml": "[]\n"} {
		var out bytes.Buffer
		c := &command{Streams: Streams{Out: &out}, output: format}
		var none []wire.DAG
		if err := c.show(none, nil); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", format, out.String(), want)
		}
	}
}
