package protocol

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The transcripts are conversations between a worker, a host and a task. The Python side replays the same files.
func TestEveryMessageOfTheTranscriptsIsUnderstoodInFull(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			lines := bufio.NewScanner(f)
			lines.Buffer(nil, 1<<20)
			for n := 1; lines.Scan(); n++ {
				var line struct {
					Frame json.RawMessage `json:"frame"`
				}
				if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
					t.Fatalf("line %d: %v", n, err)
				}
				replay(t, n, line.Frame)
			}
		})
	}
}

// replay sends one frame through the framing and its type and compares what comes out with what went in.
func replay(t *testing.T, n int, raw json.RawMessage) {
	t.Helper()
	var sent Frame
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Errorf("line %d: %v", n, err)
		return
	}
	wire, err := AppendFrame(nil, sent.ID, sent.Body, sent.Error)
	if err != nil {
		t.Errorf("line %d: %v", n, err)
		return
	}
	got, err := ReadFrame(bytes.NewReader(wire))
	if err != nil {
		t.Errorf("line %d: %v", n, err)
		return
	}
	if got.Error != nil {
		if diff := cmp.Diff(sent.Error, got.Error); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", n, diff)
		}
		return
	}
	name, err := TypeOf(got.Body)
	if err != nil || message(name) == nil {
		return // answers that have no struct, such as VariableResult, pass through the worker as they are
	}
	m, err := Decode(got.Body)
	if err != nil {
		t.Errorf("line %d: %v", n, err)
		return
	}
	again, err := json.Marshal(m)
	if err != nil {
		t.Errorf("line %d: %v", n, err)
		return
	}
	if diff := cmp.Diff(filled(t, sent.Body), filled(t, again)); diff != "" {
		t.Errorf("line %d, %s: something is lost or invented (-want +got):\n%s", n, name, diff)
	}
}

// filled decodes JSON and leaves out what is empty, which a struct may or may not write.
func filled(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return prune(v)
}

func prune(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		if s, ok := v.([]any); ok {
			for i := range s {
				s[i] = prune(s[i])
			}
		}
		return v
	}
	for k := range m {
		m[k] = prune(m[k])
		rv := reflect.ValueOf(m[k])
		if m[k] == nil || rv.IsZero() || (rv.Kind() == reflect.Map || rv.Kind() == reflect.Slice) && rv.Len() == 0 {
			delete(m, k)
		}
	}
	return m
}
