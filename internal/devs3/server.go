// Package devs3 is a small S3 for one machine: an endpoint on the loopback address over a local folder, so that code that
// reads and writes s3://… runs unchanged on a laptop.
//
// The protocol comes from a maintained library (github.com/rclone/gofakes3); this package adds the folder, the keys and the
// life cycle. It promises that only requests signed with its own keys are answered, that what was stored survives a
// restart as plain files, that the address stays the same, and that no key leads out of the folder. It is for development: no
// versions, no access rules, no tags of buckets, and no key that is also the folder of another. It must not know what a task is.
package devs3

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// Options say where the endpoint keeps its things and listens.
type Options struct {
	// Dir is the endpoint's own folder: data/BUCKET/KEY, credentials, and the address it had.
	Dir string
	// Addr is a loopback address; "" and port 0 take the port of the last time, or else a free one, so that tasks that
	// outlived the server find it again.
	Addr string
	// Guest says that a server may be serving the folder: then its endpoint is used, and else one is made that nobody is to
	// find again.
	Guest bool
	// Region is what clients are told; "" is us-east-1.
	Region string
	// Logger gets refused requests and faults; nil discards them.
	Logger *slog.Logger
}

// A Server is a running endpoint.
type Server struct {
	url    string
	region string
	keys   credentials
	store  *store
	held   *os.File // locked while a server serves the folder
	http   *http.Server
	served chan error
}

// Start opens the folder, makes keys at the first time, and serves until Close. ctx bounds the start alone.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the S3 folder: %w", err)
	}
	keys, err := loadCredentials(filepath.Join(o.Dir, "credentials"), o.Region)
	if err != nil {
		return nil, err
	}
	held, err := hold(ctx, o)
	if err != nil {
		return nil, err
	}
	if held == nil && o.Guest {
		return guestOf(o, keys)
	}
	backing, err := openStore(o.Dir, o.Guest)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	listener, err := listen(ctx, o)
	if err != nil {
		return nil, errors.Join(err, backing.close(), held.Close())
	}
	options := []gofakes3.Option{gofakes3.WithAutoBucket(true), gofakes3.WithoutVersioning(), gofakes3.WithLogger(bridge{o.Logger})}
	open := gofakes3.New(backing, options...).Server()
	signed := gofakes3.New(backing, append(options, gofakes3.WithV4Auth(map[string]string{keys.id: keys.secret}))...).Server()
	s := &Server{
		url: "http://" + listener.Addr().String(), region: o.Region, keys: keys, store: backing, held: held, served: make(chan error, 1),
		http: &http.Server{Handler: withLength(withOldLinks(keys, open, signed)), ReadHeaderTimeout: 10 * time.Second,
			ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)},
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// withLength gives the library the length of a body that came in chunks: Arrow's C++ client sends the parts of a large
// object so, with the true length in a header of its own, and the library asks for Content-Length.
func withLength(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if length := r.Header.Get("X-Amz-Decoded-Content-Length"); length != "" && r.Header.Get("Content-Length") == "" {
			r.Header.Set("Content-Length", length)
		}
		next.ServeHTTP(w, r)
	})
}

// URL is the endpoint, such as http://127.0.0.1:34567.
func (s *Server) URL() string { return s.url }

// Env is what a process needs in its environment to use the endpoint: boto3, s3fs, pandas, pyarrow, MLflow and the
// libraries built on Rust's object_store read these names. With an IP address as endpoint they all address buckets by path.
func (s *Server) Env() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL":       s.url,
		"AWS_ENDPOINT_URL_S3":    s.url,
		"AWS_ACCESS_KEY_ID":      s.keys.id,
		"AWS_SECRET_ACCESS_KEY":  s.keys.secret,
		"AWS_DEFAULT_REGION":     s.region,
		"AWS_REGION":             s.region,
		"AWS_ALLOW_HTTP":         "true",
		"MLFLOW_S3_ENDPOINT_URL": s.url,
	}
}

// Secrets are the values of Env that must not show in logs.
func (s *Server) Secrets() []string { return []string{s.keys.secret} }

// Close stops taking requests, waits for those under way until ctx ends, and returns when nothing runs any more.
func (s *Server) Close(ctx context.Context) error {
	if s.http == nil {
		return nil // a guest of another's
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop S3: %w", err), s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve S3: %w", served))
	}
	return errors.Join(err, s.store.close(), s.held.Close())
}

type credentials struct{ id, secret string }

// loadCredentials reads the keys, or makes them. The file has the form of ~/.aws/credentials.
func loadCredentials(path, region string) (credentials, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeCredentials(path, region)
	}
	if err != nil {
		return credentials{}, fmt.Errorf("read S3 keys: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return credentials{}, fmt.Errorf("read S3 keys: %w", err)
	} else if info.Mode().Perm()&0o077 != 0 {
		return credentials{}, fmt.Errorf("read S3 keys: others may read %s (mode %o); run chmod 600 on it, or remove it for new keys", path, info.Mode().Perm())
	}
	var c credentials
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			c.id = strings.TrimSpace(value)
		case "aws_secret_access_key":
			c.secret = strings.TrimSpace(value)
		}
	}
	if c.id == "" || c.secret == "" {
		return credentials{}, fmt.Errorf("read S3 keys: %s lacks aws_access_key_id or aws_secret_access_key; remove it for new keys", path)
	}
	return c, nil
}

func makeCredentials(path, region string) (credentials, error) {
	random := make([]byte, 10+30)
	if _, err := rand.Read(random); err != nil {
		return credentials{}, fmt.Errorf("make S3 keys: %w", err)
	}
	c := credentials{id: "OSTR" + base32.StdEncoding.EncodeToString(random[:10]), secret: base64.StdEncoding.EncodeToString(random[10:])}
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\nregion = %s\n", c.id, c.secret, region)
	temp, err := os.CreateTemp(filepath.Dir(path), ".credentials-*") // mode 0600
	if err != nil {
		return credentials{}, fmt.Errorf("make S3 keys: %w", err)
	}
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return credentials{}, fmt.Errorf("make S3 keys: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return c, nil
}

// bridge hands the library's messages to slog: refused requests as warnings, the rest for debugging.
type bridge struct{ logger *slog.Logger }

func (b bridge) Print(level gofakes3.LogLevel, v ...any) {
	at := slog.LevelDebug
	switch level {
	case gofakes3.LogErr:
		at = slog.LevelError
	case gofakes3.LogWarn:
		at = slog.LevelWarn
	}
	if b.logger.Enabled(context.Background(), at) {
		b.logger.Log(context.Background(), at, strings.TrimSpace(fmt.Sprintln(v...)))
	}
}
