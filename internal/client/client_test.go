package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/client"
)

func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return client.New(s.URL+"/", "tok")
}

func TestRefusalsSayWhatTheServerSaid(t *testing.T) {
	for body, want := range map[string]string{
		`{"detail":"not there"}`: "not there",
		`{"detail":[{"type":"missing","loc":["body","key"],"msg":"Field required","input":{}},{"type":"x","loc":["body","slots"],"msg":"Too few","input":1}]}`: "key: Field required; slots: Too few",
		`{"detail":{"reason":"Unique constraint violation","message":"exists already"}}`:                                                                       "exists already",
		`{"error":"API route not found"}`: "API route not found",
		`<html>`:                          "does another program listen there?",
	} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer tok" {
				t.Errorf("authorization %q", r.Header.Get("Authorization"))
			}
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, body)
		})
		_, err := c.DAGDetails(t.Context(), "a/b")
		if client.StatusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestIdsAreEscapedInPaths(t *testing.T) {
	if got := client.Path("variables", "a/b c", "manual__2024-01-01T00:00:00+00:00"); got != "/api/v2/variables/a%2Fb%20c/manual__2024-01-01T00:00:00+00:00" {
		t.Error(got)
	}
}

func TestAListIsReadPageByPage(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("offset") {
		case "0":
			fmt.Fprint(w, `{"pools":[{"name":"a"},{"name":"b"}],"total_entries":3}`)
		case "2":
			fmt.Fprint(w, `{"pools":[{"name":"c"}],"total_entries":3}`)
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	pools, err := c.Pools(t.Context())
	if err != nil || len(pools) != 3 || pools[2].Name != "c" {
		t.Errorf("%v, %v", pools, err)
	}
}

func TestAStreamThatBreaksOffIsNotAnEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"type":"ping"}`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	n := 0
	err := c.Live(t.Context(), "d", "r", func(wire.Live) error { n++; return nil })
	var gone *client.Unreachable
	if n != 1 || !errors.As(err, &gone) {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestNobodyAnswering(t *testing.T) {
	_, err := client.New("http://127.0.0.1:1", "t").Version(t.Context())
	var gone *client.Unreachable
	if !errors.As(err, &gone) || err.Error() != "no server answers at http://127.0.0.1:1" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.New("http://127.0.0.1:1", "t").Version(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
