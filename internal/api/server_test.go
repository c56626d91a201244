package api_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/api"
	v2 "ostro.dev/ostro/internal/api/v2"
	"ostro.dev/ostro/internal/store"
)

// noScheduler panics at every command, which is what the tests of panics want.
type noScheduler struct{ v2.Scheduler }

func handler(t *testing.T, log *slog.Logger) http.Handler {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "control.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := api.New(api.Options{Options: v2.Options{Store: db, Scheduler: noScheduler{}, Version: "1", Log: log}, Token: "tok\n", Loopback: true, Home: "/home/<me>", DAGs: "/dags"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func do(h http.Handler, method, path, host, authorization, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestANameWithDotsAndSlashesIsAName(t *testing.T) {
	h := handler(t, nil)
	for _, name := range []string{"..%2Fp", "a%20b", "%2E%2E", "a%2F%2Fb", "%C3%BC"} {
		if w := do(h, "GET", "/api/v2/variables/"+name, "localhost", "Bearer tok", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "The Variable with key") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/api/v2/variables/../dags", "/api/v2/./dags", "/api/v2/variables//x", "/api/v2/"} {
		if w := do(h, "GET", path, "localhost", "Bearer tok", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "route not found") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestOnlyTheTokenOpensTheAPI(t *testing.T) {
	h := handler(t, nil)
	for _, c := range []struct {
		path, host, auth string
		want             int
	}{
		{"/api/v2/dags", "localhost:8080", "Bearer tok", 200}, {"/api/v2/dags", "127.0.0.1", "bearer  tok", 200}, {"/api/v2/dags", "[::1]:80", "Bearer tok", 200},
		{"/api/v2/dags", "localhost", "", 401}, {"/api/v2/dags", "localhost", "Bearer no", 403}, {"/api/v2/dags", "localhost", "Basic tok", 403}, {"/api/v2/dags", "localhost", "Bearer ", 403},
		{"/api/v2/version", "localhost", "", 200}, {"/api/v2/version", "localhost", "Bearer no", 200}, {"/api/v2/monitor/health", "localhost", "", 200}, {"/", "localhost", "", 200},
		{"/api/v2/nope", "localhost", "", 401}, {"/api/v2/nope", "localhost", "Bearer tok", 404}, {"/live/dags/d/dagRuns/r", "localhost", "", 401}, {"/live/dags/d/dagRuns/r", "localhost", "Bearer tok", 404},
		{"/api/v2/version", "evil.example", "", 403}, {"/", "evil.example:8080", "Bearer tok", 403}, {"/api/v2//dags", "localhost", "Bearer tok", 404}, {"/api/v2/version/../dags", "localhost", "", 401},
	} {
		if w := do(h, "GET", c.path, c.host, c.auth, ""); w.Code != c.want {
			t.Errorf("%s at %s with %q: %d, want %d: %s", c.path, c.host, c.auth, w.Code, c.want, w.Body)
		}
	}
}

func TestNoOtherSiteMayReadAnAnswer(t *testing.T) {
	w := do(handler(t, nil), "GET", "/api/v2/version", "localhost", "", "")
	for name := range w.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("header %s opens the API to other sites", name)
		}
	}
	if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("X-Request-Id") == "" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestABodyBeyondTheLimitIsRefused(t *testing.T) {
	w := do(handler(t, nil), "POST", "/api/v2/variables", "localhost", "Bearer tok", `{"key":"a","value":"`+strings.Repeat("x", 9<<20)+`"}`)
	if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != `{"detail":"The body is larger than 8388608 bytes"}` {
		t.Errorf("%d %.200s", w.Code, w.Body)
	}
}

func TestAPanicTellsTheClientItsRequestIdOnly(t *testing.T) {
	var log bytes.Buffer
	w := do(handler(t, slog.New(slog.NewTextHandler(&log, nil))), "POST", "/api/v2/pools", "localhost", "Bearer tok", `{"name":"p","slots":1}`)
	id := w.Header().Get("X-Request-Id")
	if want := `{"detail":"Internal Server Error; request id ` + id + `"}`; w.Code != 500 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "pools.go") {
		t.Errorf("the log does not say what happened: %s", log.String())
	}
}

func TestTheFrontPageEscapesWhatItShows(t *testing.T) {
	w := do(handler(t, nil), "GET", "/", "localhost:8080", "Bearer tok", "")
	if body := w.Body.String(); !strings.Contains(body, "/home/&lt;me&gt;") || strings.Contains(body, "<me>") || !strings.Contains(body, "http://localhost:8080/api/v2/dags") {
		t.Errorf("%s", body)
	}
}

func TestWithoutTheTokenTheFrontPageShowsNoPath(t *testing.T) {
	for _, auth := range []string{"", "Bearer no"} {
		body := do(handler(t, nil), "GET", "/", "localhost:8080", auth, "").Body.String()
		if strings.Contains(body, "/home/") || strings.Contains(body, "/dags</code>") || !strings.Contains(body, "HOME/token") {
			t.Errorf("with %q: %s", auth, body)
		}
	}
}

func TestAServerWithoutATokenIsNotBuilt(t *testing.T) {
	if _, err := api.New(api.Options{Token: " \n"}); err == nil {
		t.Error("a server without a token was built")
	}
}
