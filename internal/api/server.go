// Package api is the program's HTTP face: who may ask, what every request gets (an id, limits, a line in the log), and
// which dialect answers. Airflow's REST API v2 is package v2; this package adds what no dialect has, the live stream of a
// DAG run and the front page.
//
// It promises that nothing but health, version and the front page is answered without the token. It must not know how
// the program is put together: it is handed what it serves.
package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	v2 "ostro.dev/ostro/internal/api/v2"
)

// Limits of every connection and request. There is no write deadline: logs and waiting requests stream for hours.
const (
	maximumBody   = 8 << 20
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maximumHeader = 64 << 10
)

// Options are what the server answers with.
type Options struct {
	v2.Options
	// Token is what a request must carry as "Authorization: Bearer"; required.
	Token string
	// Loopback is true when the server listens on a loopback address: then the Host header must name one too, so that no
	// web page can reach the server under a name of its own (DNS rebinding).
	Loopback bool
	// Home and DAGs are shown on the front page.
	Home, DAGs string
}

// server is the handler.
type server struct {
	o     Options
	api   *v2.API
	token [sha256.Size]byte
	log   *slog.Logger
}

// New builds the handler of everything.
func New(o Options) (http.Handler, error) {
	if strings.TrimSpace(o.Token) == "" {
		return nil, errors.New("build the HTTP handler: the token is empty")
	}
	if o.Store == nil || o.Scheduler == nil {
		return nil, errors.New("build the HTTP handler: store and scheduler are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{o: o, api: v2.New(o.Options), token: sha256.Sum256([]byte(strings.TrimSpace(o.Token))), log: o.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live/dags/{dag_id}/dagRuns/{dag_run_id}", func(w http.ResponseWriter, r *http.Request) {
		s.api.Live(w, r, r.PathValue("dag_id"), r.PathValue("dag_run_id"))
	})
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, `{"error":"API route not found"}`)
	})
	// ServeMux would answer "//" and ".." with a redirect, which is no API's answer.
	return s.limits(s.hosts(s.guard(s.plainPaths(mux)))), nil
}

// NewServer is an http.Server around the handler, with deadlines for what a slow or broken client could hold up. ctx is
// the parent of every request's context: when it ends, streams end.
func NewServer(ctx context.Context, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maximumHeader,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

func refuse(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may be gone
}

// plainPaths refuses paths that ServeMux would clean. Those of the API it looks at as they were sent: a name there may
// hold an escaped slash or dots, and the API takes a path apart before it unescapes it.
func (s *server) plainPaths(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sent := r.URL.EscapedPath(); strings.HasPrefix(sent, v2.Prefix+"/") {
			if slices.ContainsFunc(strings.Split(sent, "/")[1:], func(part string) bool { return part == "." || part == ".." || part == "" }) {
				refuse(w, http.StatusNotFound, `{"error":"API route not found"}`)
				return
			}
			s.api.ServeHTTP(w, r)
			return
		}
		for _, part := range strings.Split(r.URL.Path, "/")[1:] {
			if part == "." || part == ".." || part == "" && r.URL.Path != "/" {
				refuse(w, http.StatusNotFound, `{"error":"API route not found"}`)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// limits gives every request an id, a bounded body, safe headers and a line in the log; a panic becomes a 500 that names
// the id and nothing else.
func (s *server) limits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, began, rec := uuid.NewString(), time.Now(), &recorder{ResponseWriter: w}
		h := rec.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(rec, r.Body, maximumBody)
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "request", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if rec.status == 0 {
					refuse(rec, http.StatusInternalServerError, `{"detail":"Internal Server Error; request id `+id+`"}`)
				}
			}
			s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "duration", time.Since(began), "request", id)
		}()
		next.ServeHTTP(rec, r)
	})
}

// hosts refuses a request to a loopback server under a name that is not a loopback one.
func (s *server) hosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.Loopback && !isLoopback(r.Host) {
			refuse(w, http.StatusForbidden, `{"detail":"This server answers on loopback names only: localhost, 127.0.0.1 or [::1]"}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// guard lets public routes through and asks for the token everywhere else.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" && r.Method == http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		given := r.Header.Get("Authorization")
		switch {
		case s.hasToken(r):
			r = r.WithContext(v2.WithActor(r.Context(), "token:local"))
		case s.api.IsPublic(r):
		case strings.Contains(given, " "):
			refuse(w, http.StatusForbidden, `{"detail":"Invalid token: it is not the one in HOME/token"}`)
			return
		default:
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, `{"detail":"Not authenticated"}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hasToken reports whether a request carries the token.
func (s *server) hasToken(r *http.Request) bool {
	scheme, given, found := strings.Cut(r.Header.Get("Authorization"), " ")
	return found && strings.EqualFold(scheme, "Bearer") && s.isToken(strings.TrimSpace(given))
}

// isToken compares hashes, so that neither length nor content shows in the time it takes.
func (s *server) isToken(given string) bool {
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}
