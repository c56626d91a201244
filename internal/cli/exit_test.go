package cli

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ostro.dev/ostro/internal/store"
)

// fakeServer answers every request that changes something in one way, and gives flags that name its home and port. What
// only reads is answered with an object that has every name asked for.
func fakeServer(t *testing.T, status int, body string) []string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"dag_id":"d","dag_run_id":"r","state":"failed","task_instances":[{"dag_id":"d","dag_run_id":"r","task_id":"t","map_index":-1,"state":"failed"}],"total_entries":1,
				"dag_runs":[{"dag_id":"d","dag_run_id":"r","state":"failed"}],"tasks":[{"task_id":"t"}],"name":"p","key":"k","value":"v","connection_id":"c","conn_type":"http"}`)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--home", home, "--port", u.Port()}
}

var changes = []string{
	"variables set k v", "connections set c --conn-type http", "pools set p 3", "dags trigger d",
	"dags pause d", "dags unpause d", "dags delete d --yes", "tasks clear d r --yes", "tasks state d t r --set success", "variables delete k", "pools delete p",
}

func TestAChangeThatTheServersDatabaseRefusesEndsWithTheCodeOfTheHome(t *testing.T) {
	flags := fakeServer(t, http.StatusServiceUnavailable, `{"detail":"The database cannot be written now: no space left. Nothing was lost, try again","ostro":{"reason":"database"}}`)
	for _, line := range changes {
		for _, format := range formats {
			code, out, errs := run(append(strings.Fields(line+" -o "+format), flags...)...)
			if code != exitHome || !strings.Contains(errs, "no space left") || out != "" {
				t.Errorf("ostro %s -o %s: exit code %d, %q, %q on standard output", line, format, code, errs, out)
			}
		}
	}
}

func TestAServerThatEndsIsOneThatDoesNotAnswer(t *testing.T) {
	flags := fakeServer(t, http.StatusServiceUnavailable, `{"detail":"This server is stopping and does nothing any more; ask again"}`)
	for _, line := range changes {
		if code, _, errs := run(append(strings.Fields(line), flags...)...); code != exitUnreachable || !strings.Contains(errs, "stopping") {
			t.Errorf("ostro %s: exit code %d, %q", line, code, errs)
		}
	}
}

func TestWhatKeepsAHomeFromBeingUsedHasOneCode(t *testing.T) {
	for _, err := range []error{
		store.ErrUnavailable, store.ErrCorrupt, &fs.PathError{Op: "open", Path: "/h", Err: syscall.EROFS},
		&fs.PathError{Op: "mkdir", Path: "/h", Err: syscall.EACCES}, &fs.PathError{Op: "write", Path: "/h", Err: syscall.ENOSPC},
	} {
		if code, hint := codeOf(fmt.Errorf("do it: %w", dbProblem(err))); code != exitHome || hint == "" {
			t.Errorf("%v: exit code %d, hint %q", err, code, hint)
		}
	}
}
