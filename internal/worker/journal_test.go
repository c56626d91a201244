package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func entriesOf(t interface{ Fatal(...any) }, path string) (map[string]string, *journal) {
	j := newJournal(path)
	entries, damaged, err := j.read()
	if err != nil || len(damaged) > 0 {
		t.Fatal(err, damaged)
	}
	found := map[string]string{}
	for _, e := range entries {
		found[e.id] = string(e.data)
	}
	return found, j
}

func TestAJournalHoldsWhatWasPutAndNotDroppedWhoeverReadsIt(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		j, want := newJournal(path), map[string]string{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			id := rapid.StringMatching(`[a-c]{1,2}`).Draw(t, "id")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				data := rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "data")
				if err := j.put(id, []byte(data)); err != nil {
					t.Fatal(err)
				}
				want[id] = data
			case 3, 4:
				_, there := want[id]
				if j.drop(id) != there {
					t.Fatalf("dropping %s: not %v", id, there)
				}
				delete(want, id)
			default:
				if _, err := os.Stat(path); err != nil {
					continue
				}
				j.close()
				_, j = entriesOf(t, path)
			}
		}
		j.close()
		if got, _ := entriesOf(t, path); cmp.Diff(want, got) != "" {
			t.Fatal(cmp.Diff(want, got))
		}
	})
}

func TestAJournalOfWhatIsOverStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := newJournal(path)
	defer j.close()
	long := []byte(strings.Repeat("x", 1000))
	if err := j.put("stays", long); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		id := fmt.Sprint(i)
		if err := j.put(id, long); err != nil {
			t.Fatal(err)
		}
		j.drop(id)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > journalSlack+4096 || info.Size() != j.size {
		t.Errorf("the file has %d bytes, %d are known; %v", info.Size(), j.size, err)
	}
	if got, _ := entriesOf(t, path); cmp.Diff(map[string]string{"stays": string(long)}, got) != "" {
		t.Errorf("%d entries", len(got))
	}
}

func TestADamagedJournalKeepsItsOtherEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, []byte("+a 1\n\x00\x00\x00\n+b 2\n-a\n\n+c 3\n+d 4"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := newJournal(path)
	entries, damaged, err := j.read()
	if terr := j.tidy(); terr != nil {
		t.Fatal(terr)
	}
	j.close()
	if err != nil || len(entries) != 2 || entries[0].id != "b" || entries[1].id != "c" || len(damaged) != 3 {
		t.Errorf("%v, %q, %v", entries, damaged, err)
	}
	if got, _ := entriesOf(t, path); cmp.Diff(map[string]string{"b": "2", "c": "3"}, got) != "" {
		t.Error(got)
	}
}

func TestAJournalThatCannotBeWrittenAnewIsReadAndGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, []byte("+a 1\n+b 2\n-b\n+c to"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // as a full disk would refuse it
		t.Fatal(err)
	}
	j := newJournal(path)
	entries, damaged, err := j.read()
	if err != nil || len(entries) != 1 || len(damaged) != 1 || j.tidy() == nil {
		t.Fatal(entries, damaged, err)
	}
	if err := j.put("d", []byte("4")); err != nil {
		t.Fatal(err)
	}
	if err := j.sync(); err != nil {
		t.Fatal(err)
	}
	j.close()
	if err := os.Remove(path + ".new"); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	again, _ := parseJournal(must(os.ReadFile(path)))
	for _, e := range again {
		got[e.id] = string(e.data)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "c": "to", "d": "4"}, got); diff != "" {
		t.Error(diff)
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func TestAnIdThatWouldSpoilAJournalIsRefused(t *testing.T) {
	j := newJournal(filepath.Join(t.TempDir(), "j"))
	for _, id := range []string{"", "a b", "a\nb"} {
		if j.put(id, nil) == nil {
			t.Errorf("%q was taken", id)
		}
	}
}
