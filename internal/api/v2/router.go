package v2

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Airflow's paths cannot all live in one http.ServeMux: …/{task_id}/{map_index}/tries and …/{task_id}/logs/{try_number}
// overlap and neither is more specific, which ServeMux refuses. Airflow answers by order of declaration; this router
// prefers a literal segment to a parameter, from left to right, which gives the same answers.

// A Route is one method on one path of the API.
type Route struct {
	Method string
	// Path is below /api/v2; a last parameter written {name...} takes the rest of the path.
	Path string
	// Public routes need no token.
	Public bool
	// Unserved says why the route answers 501; empty when it is served.
	Unserved string

	handle   func(*request) error
	segments []string
}

// router finds routes.
type router struct{ routes []Route }

func newRouter(routes []Route) *router {
	routes = slices.Clone(routes)
	for i := range routes {
		routes[i].segments = strings.Split(strings.TrimPrefix(routes[i].Path, "/"), "/")
	}
	slices.SortStableFunc(routes, func(a, b Route) int { return slices.CompareFunc(a.segments, b.segments, literalFirst) })
	return &router{routes: routes}
}

func literalFirst(a, b string) int {
	rank := func(s string) int {
		switch {
		case strings.HasSuffix(s, "...}"):
			return 2
		case strings.HasPrefix(s, "{"):
			return 1
		}
		return 0
	}
	return rank(a) - rank(b)
}

// find returns the route for a method and an escaped path below the prefix. When the path exists with other methods only,
// allowed lists them.
func (rt *router) find(method, escaped string) (route *Route, params map[string]string, allowed []string) {
	parts := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i, p := range parts {
		plain, err := url.PathUnescape(p)
		if err != nil || plain == "" {
			return nil, nil, nil // a trailing or double slash is an unknown route, as in Airflow
		}
		parts[i] = plain
	}
	for i := range rt.routes {
		r := &rt.routes[i]
		params, ok := match(r.segments, parts)
		if !ok {
			continue
		}
		if r.Method == method || method == http.MethodHead && r.Method == http.MethodGet {
			return r, params, nil
		}
		allowed = append(allowed, r.Method)
	}
	return nil, nil, allowed
}

func match(segments, parts []string) (map[string]string, bool) {
	params := map[string]string{}
	for i, s := range segments {
		if name, rest := strings.CutSuffix(s, "...}"); rest {
			if i >= len(parts) {
				return nil, false
			}
			params[name[1:]] = strings.Join(parts[i:], "/")
			return params, true
		}
		if i >= len(parts) {
			return nil, false
		}
		if s[0] == '{' {
			params[s[1:len(s)-1]] = parts[i]
		} else if s != parts[i] {
			return nil, false
		}
	}
	return params, len(parts) == len(segments)
}

type contextKey struct{}

// WithActor names who is asking; the API records it with every change.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, contextKey{}, actor)
}

func actorOf(ctx context.Context) string {
	if a, ok := ctx.Value(contextKey{}).(string); ok {
		return a
	}
	return anonymous
}

// anonymous is the actor of a request without the token.
const anonymous = "anonymous"
