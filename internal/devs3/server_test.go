package devs3

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// clients runs the real clients of testdata/clients.py.
func clients(t *testing.T, s *Server, args ...string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(root, ".venvs", "test-newest", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("needs the Python environment test-newest: make envs")
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"testdata/clients.py"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_EC2_METADATA_DISABLED=true"}
	for name, value := range s.Env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func TestRealClientsReadAndWriteAndWhatTheyStoredSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	s := start(t, Options{Dir: dir})
	env := s.Env()
	t.Run("boto3, pandas and s3fs", func(t *testing.T) { clients(t, s) })
	stop(t, s)
	if t.Failed() {
		return
	}
	if err := os.MkdirAll(filepath.Join(dir, "data", "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "bucket", "by-hand.txt"), []byte("put there by a person"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, Options{Dir: dir})
	defer stop(t, s)
	for name, value := range env {
		if s.Env()[name] != value {
			t.Errorf("%s changed with the restart", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "bucket", "features")); err == nil {
		t.Run("after the restart", func(t *testing.T) { clients(t, s, "survived") })
	}
	for _, sub := range []string{"tmp", "uploads"} {
		if left, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(left) > 0 {
			t.Errorf("%s is left in %s, %v", left, sub, err)
		}
	}
}

func TestRequestsWithoutASignatureAreRefused(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	defer stop(t, s)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, request := range []struct{ method, path, auth string }{
		{"GET", "/", ""}, {"PUT", "/bucket/key", ""}, {"GET", "/bucket/../../../credentials", ""}, {"DELETE", "/bucket", ""},
		{"GET", "/", "AWS4-HMAC-SHA256 Credential=" + s.keys.id + "/20240101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"},
		{"GET", "/", "AWS " + s.keys.id + ":c2lnbmF0dXJl"}, {"GET", "/?X-Amz-Signature=00", ""}, {"GET", "/", "Bearer x"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, s.URL()+request.path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if request.auth != "" {
			r.Header.Set("Authorization", request.auth)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden && response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s %s with %q: %s", request.method, request.path, request.auth, response.Status)
		}
	}
	if entries, err := fs.ReadDir(s.store.root.FS(), dataDir); err != nil || len(entries) > 0 {
		t.Errorf("a refused request left %v, %v", entries, err)
	}
}

func TestTheKeysAreForTheOwnerOnlyAndDifferFromFolderToFolder(t *testing.T) {
	dir := t.TempDir()
	first, second := start(t, Options{Dir: dir}), start(t, Options{Dir: t.TempDir()})
	defer stop(t, first)
	defer stop(t, second)
	info, err := os.Stat(filepath.Join(dir, "credentials"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials: %v, %v", info, err)
	}
	if first.keys == second.keys || len(first.keys.secret) != 40 || len(first.keys.id) != 20 {
		t.Errorf("keys %q and %q", first.keys.id, second.keys.id)
	}
}

func TestACredentialsFileThatCannotBeTrustedIsAnError(t *testing.T) {
	for want, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"others may read":          {"aws_access_key_id=a\naws_secret_access_key=b\n", 0o644},
		"lacks aws_access_key_id":  {"[default]\n", 0o600},
		"remove it for new keys":   {"", 0o600},
		"or aws_secret_access_key": {"aws_access_key_id = a\n", 0o600},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "credentials")
		if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestItListensOnThisMachineOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.org:80", "nonsense"} {
		if s, err := Start(t.Context(), Options{Dir: t.TempDir(), Addr: addr}); err == nil {
			t.Errorf("listens on %s", addr)
			stop(t, s)
		}
	}
}

func TestALinkDoesNotLeadOutOfTheFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Dir: dir})
	defer stop(t, s)
	if err := s.store.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "data", "bucket", "link")); err != nil {
		t.Fatal(err)
	}
	if object, err := s.store.GetObject(t.Context(), "bucket", "link/secret", nil); err == nil {
		object.Contents.Close()
		t.Error("a link led out of the folder")
	}
	if _, err := s.store.PutObject(t.Context(), "bucket", "link/new", nil, strings.NewReader("x"), 1); err == nil {
		t.Error("a link led out of the folder")
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("a file was written outside")
	}
}
