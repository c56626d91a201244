package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/store"
)

// given writes a file as a task does, and keeps it open for writing.
func given(t *testing.T, text string, mode fs.FileMode) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "xcom-0.json"), os.O_CREATE|os.O_RDWR, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

// kept lists the files in the folder of large values.
func kept(t *testing.T, db *store.DB) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(db.BlobDir(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return paths
}

func TestAFileThatIsTakenIsOutOfItsWritersReach(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"open to all": 0o666, "for reading only": 0o400, "a program": 0o755} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			text := `["` + strings.Repeat("x", 1<<20) + `"]`
			f := given(t, text, mode)
			if err := f.Chmod(mode); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is there
				if _, size, err := db.StageXComFile(f.Name()); err != nil || size != int64(len(text)) {
					t.Fatalf("size %d: %v", size, err)
				}
			}
			if _, err := f.WriteAt([]byte("spoilt"), 0); err != nil {
				t.Fatal(err)
			}
			paths := kept(t, db)
			if len(paths) != 1 {
				t.Fatalf("kept: %v", paths)
			}
			if data, err := os.ReadFile(paths[0]); err != nil || string(data) != text {
				t.Errorf("what is kept begins with %.10q: %v", data, err)
			}
			if info, err := os.Stat(paths[0]); err != nil || info.Mode() != 0o600 {
				t.Errorf("its mode is %v: %v", info.Mode(), err)
			}
		})
	}
}

func TestAFileThatIsNoXComIsRefusedAndNothingOfItKept(t *testing.T) {
	db := open(t)
	large := given(t, "1", 0o600)
	if err := large.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(given(t, "1", 0o600).Name(), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		given(t, `["cut off`, 0o600).Name(): "xcom-0.json is not JSON: after 9 bytes: unexpected EOF",
		given(t, `[NaN]`, 0o600).Name():     `xcom-0.json is not JSON: at byte 1: "N" in the place of a value or "]"`,
		given(t, "", 0o600).Name():          "is not JSON",
		large.Name():                        "the value has 64.0 MiB as JSON, and an XCom can have at most 63 MiB; write it to a file",
		pipe:                                "pipe is not a file",
		link:                                "link is not a file",
		pipe + "-none":                      "pipe-none is not a file",
		t.TempDir():                         "is not a file",
	} {
		if _, _, err := db.StageXComFile(path); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid with %s", err, want)
		}
	}
	if paths := kept(t, db); len(paths) > 0 {
		t.Errorf("left behind: %v", paths)
	}
}

func TestAFileThatFindsNoRoomIsRefusedBeforeItIsRead(t *testing.T) {
	dir := tmpfs(t, "1m")
	db := open(t, func(o *store.Options) { o.BlobDir = dir })
	f := given(t, "no JSON", 0o600) // which would be said if it were read
	if err := f.Truncate(2 << 20); err != nil {
		t.Fatal(err)
	}
	_, _, err := db.StageXComFile(f.Name())
	wantUnavailable(t, err, "no space left for large XCom values")
}

func BenchmarkTakingALargeFile(b *testing.B) {
	db, err := store.Open(b.Context(), store.Options{Path: filepath.Join(b.TempDir(), "control.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	path := filepath.Join(b.TempDir(), "xcom-0.json")
	if err := os.WriteFile(path, []byte(`"`+strings.Repeat("x", 62<<20)+`"`), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(62 << 20)
	for b.Loop() {
		if _, _, err := db.StageXComFile(path); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(db.BlobDir()); err != nil {
			b.Fatal(err)
		}
	}
}
