package cli

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/api/v2/wire"
)

func TestAConnectionIsReadFromItsURI(t *testing.T) {
	for uri, want := range map[string]map[string]any{
		"postgresql://me:s%40x@db.example.com:5432/sales?sslmode=require": {"conn_type": "postgres", "login": "me", "password": "s@x",
			"host": "db.example.com", "port": 5432, "schema": "sales", "extra": `{"sslmode":"require"}`},
		"google-cloud-platform://?__extra__=%7B%22a%22%3A+1%7D": {"conn_type": "google_cloud_platform", "extra": `{"a": 1}`},
		"http://[::1]:8080":                                    {"conn_type": "http", "host": "::1", "port": 8080},
		"postgres://u:p@%2Fvar%2Frun%2Fpostgresql/db":          {"conn_type": "postgres", "login": "u", "password": "p", "host": "/var/run/postgresql", "schema": "db"},
		"http://https%3A%2F%2Fexample.com":                     {"conn_type": "http", "host": "https://example.com"},
		"http://https://example.com:8443/":                     {"conn_type": "http", "host": "https://example.com", "port": 8443},
		"my_type://h":                                          {"conn_type": "my_type", "host": "h"},
		"postgres://jürgen:pässwort@höst/db":                   {"conn_type": "postgres", "login": "jürgen", "password": "pässwort", "host": "höst", "schema": "db"},
		"postgres://j%C3%BCrgen:p%C3%A4sswort@h%c3%b6st/db":    {"conn_type": "postgres", "login": "jürgen", "password": "pässwort", "host": "höst", "schema": "db"},
		"x://u:100%@h?sprache=ä+ö&%C3%BC=%E6%97%A5&a=1;b=2&n=": {"conn_type": "x", "login": "u", "password": "100%", "host": "h", "extra": `{"a":"1;b=2","n":"","sprache":"ä ö","ü":"日"}`},
		"sqlite:///tmp%2Fx.db":                                 {"conn_type": "sqlite", "schema": "tmp/x.db"},
	} {
		got := map[string]any{}
		if err := connectionOfURI(got, uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		maps.DeleteFunc(got, func(_ string, value any) bool { return value == nil })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
	}
	for _, bad := range []string{"nonsense", "postgres://h:port/x", ""} {
		if err := connectionOfURI(map[string]any{}, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTheInstancesOfAMappedTaskAreNamedByState(t *testing.T) {
	state := func(s string) *string { return &s }
	tis := []wire.TaskInstance{{TaskID: "m", MapIndex: 2, State: state("failed")}, {TaskID: "other", MapIndex: -1, State: state("success")},
		{TaskID: "m", MapIndex: 0, State: state("success")}, {TaskID: "m", MapIndex: 1, State: state("success")}}
	if got, want := instancesOf(tis, "m"), "0–1 success, 2 failed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := instancesOf(tis, "gone"); got != "" {
		t.Errorf("got %q of a task that is not there", got)
	}
}

func TestWhatAURIOfAConnectionDoesNotSayIsUnset(t *testing.T) {
	body := map[string]any{}
	if err := connectionOfURI(body, "postgres://h"); err != nil {
		t.Fatal(err)
	}
	if password, there := body["password"]; !there || password != nil {
		t.Errorf("the password of another host would be kept: %v", body)
	}
}

func TestAPortThatWasMeantForTheConnectionIsToldFromTheServers(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := run("connections", "set", "c", "--conn-type", "http", "--port", "1", "--home", home)
	if code != exitUnreachable || !strings.Contains(errs, "the connection's port is set with --conn-port") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
