package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAConnectionOfAFileIsAURIOrAnObject(t *testing.T) {
	for raw, want := range map[string]string{
		`"postgres://u:p@h:5432/s"`:                       `{"conn_type":"postgres","extra":null,"host":"h","login":"u","password":"p","port":5432,"schema":"s"}`,
		`{"conn_type":"http","host":"h","extra":{"a":1}}`: `{"conn_type":"http","description":null,"extra":"{\"a\":1}","host":"h","login":null,"password":null,"port":null,"schema":null}`,
	} {
		body, err := connectionOf(json.RawMessage(raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		got, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
	if body, err := connectionOf(json.RawMessage(`{"conn_type":"x","extra":null}`)); err != nil || body["extra"] != nil {
		t.Errorf("no extra: %v, %v", body["extra"], err)
	}
	for raw, want := range map[string]string{`7`: "neither a URI nor an object", `null`: "no URI", `{"host":"h"}`: "it has no conn_type", `"h"`: "no URI",
		`{"conn_type":"x","extra":"[1]"}`: "the extra is not a JSON object",
		`{"conn_type":"x","port":1.5}`:    "1.5 is not a port", `{"conn_type":5}`: "the conn_type is not a text", `{"conn_type":"x","port":"70000"}`: "70000 is not a port"} {
		if _, err := connectionOf(json.RawMessage(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

func TestAPoolOfAFileNeedsItsSlots(t *testing.T) {
	got, err := poolOf(json.RawMessage(`{"slots":3,"description":"d","include_deferred":true}`))
	if diff := cmp.Diff(exportedPool{3, "d", true}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{`{}`, `{"slots":-2}`, `3`, `{"slots":"x"}`} {
		if _, err := poolOf(json.RawMessage(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestAnExportThatFindsNoRoomEndsWithTheCodeOfTheHome(t *testing.T) {
	var errs bytes.Buffer
	c := &command{Streams: Streams{Out: &errs, Err: &errs}}
	err := c.writeExport("/dev/full", "1 pool(s)", map[string]int{"p": 1})
	if code, _ := codeOf(err); code != exitHome {
		t.Errorf("exit code %d: %v", code, err)
	}
	if code, _ := codeOf(c.writeExport(t.TempDir(), "1 pool(s)", 1)); code != exitUsage {
		t.Errorf("to a folder: exit code %d", code)
	}
}
