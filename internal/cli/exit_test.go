package cli

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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
		if strings.Contains(r.URL.Path, "[") {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"detail":"Not Found"}`)
			return
		}
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"dag_id":"d","dag_run_id":"r","state":"failed","task_instances":[{"dag_id":"d","dag_run_id":"r","task_id":"t","map_index":-1,"state":"failed"}],"total_entries":1,
				"dag_runs":[{"dag_id":"d","dag_run_id":"r","state":"failed"}],"tasks":[{"task_id":"t"}],"name":"p","key":"k","value":"v","connection_id":"c","conn_type":"http"}`)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return flagsFor(t, s.URL)
}

// flagsFor are flags that name a home with a token and the port of a server.
func flagsFor(t *testing.T, base string) []string {
	t.Helper()
	u, err := url.Parse(base)
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

func TestARefusalByTheServerHasTheCodeOfItsKind(t *testing.T) {
	for _, c := range []struct {
		line   string
		status int
		want   int
	}{
		{"pools delete default_pool", 400, exitConflict}, {"variables delete k", 400, exitConflict}, {"pools delete p", 409, exitConflict},
		{"pools set p 3", 400, exitUsage}, {"dags trigger d", 422, exitUsage}, {"dags trigger d", 409, exitConflict},
		{"dags trigger d", 403, exitRefused}, {"variables set k v", 413, exitUsage}, {"dags trigger d", 500, exitInternal},
	} {
		flags := fakeServer(t, c.status, `{"detail":"It says why"}`)
		if code, _, errs := run(append(strings.Fields(c.line), flags...)...); code != c.want || !strings.Contains(errs, "It says why") {
			t.Errorf("ostro %s, answered %d: exit code %d, want %d: %q", c.line, c.status, code, c.want, errs)
		}
	}
}

func TestAnInstanceNamedAsTheTablesShowItIsToldHowToNameIt(t *testing.T) {
	flags := fakeServer(t, http.StatusOK, "{}")
	for _, line := range []string{"tasks logs d t[3]", "tasks state d t[3] r", "tasks render d t[3]", "tasks clear d --task t[3] --yes", "xcoms get d r t[3]"} {
		code, _, errs := run(append(strings.Fields(line), flags...)...)
		if code != exitNotFound || !strings.Contains(errs, "the index is given apart: t with --map-index 3") {
			t.Errorf("ostro %s: exit code %d, %q", line, code, errs)
		}
	}
	if code, _, errs := run(append(strings.Fields("tasks logs d other[3]"), flags...)...); code != exitNotFound || strings.Contains(errs, "--map-index") {
		t.Errorf("of a task that is not there: exit code %d, %q", code, errs)
	}
}

func TestAListIsReadUpToTheLimitAndSaysWhenThereIsMore(t *testing.T) {
	const there = 730
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		rows := []string{}
		for i := offset; i < min(offset+min(limit, 100), there); i++ {
			rows = append(rows, fmt.Sprintf(`{"id":%[1]d,"dag_id":"d","dag_run_id":"r%[1]d","state":"success"}`, i))
		}
		list := strings.Join(rows, ",")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"dag_runs":[%[1]s],"asset_events":[%[1]s],"total_entries":%[2]d}`, list, there)
	}))
	t.Cleanup(s.Close)
	for _, list := range []string{"runs list", "assets events"} {
		for limit, more := range map[int]string{0: "0 of 730; more with --limit\n", 25: "25 of 730; more with --limit\n", 250: "250 of 730; more with --limit\n", 730: "", 1000: ""} {
			for _, format := range formats {
				line := fmt.Sprintf("%s --limit %d -o %s", list, limit, format)
				code, out, errs := run(append(strings.Fields(line), flagsFor(t, s.URL)...)...)
				if rows := strings.Count(out, "r1") > 0 || strings.Count(out, "1") > 0; code != exitOK || errs != more || (limit > 0) != rows {
					t.Errorf("ostro %s: exit code %d, %q", line, code, errs)
				}
				if n := strings.Count(out, `"id"`) + strings.Count(out, `"dag_run_id"`); format == "json" && n < min(limit, there) {
					t.Errorf("ostro %s: %d rows", line, n)
				}
			}
		}
		if code, _, errs := run(append(strings.Fields(list+" --limit -1"), flagsFor(t, s.URL)...)...); code != exitUsage || !strings.Contains(errs, "--limit") {
			t.Errorf("ostro %s --limit -1: exit code %d, %q", list, code, errs)
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
