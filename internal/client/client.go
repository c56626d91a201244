// Package client speaks to a server's HTTP API for the command line: Airflow's REST API v2 and the live stream.
//
// It promises errors that say what the server said, apart from errors of reaching it at all. It must not know where the
// address and the token come from.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// Client calls one server.
type Client struct {
	base  string
	token string
	user  string
	http  *http.Client
}

// New returns a client of the server at base ("http://127.0.0.1:8080").
func New(base, token string) *Client {
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, ResponseHeaderTimeout: 60 * time.Second, Proxy: nil,
	}}}
}

// As returns a client that names a person to the server with every request.
func (c *Client) As(user string) *Client {
	named := *c
	named.user = user
	return &named
}

// Base is the server's address.
func (c *Client) Base() string { return c.base }

// Error is a refusal by the server.
type Error struct {
	Method, Path string
	Status       int
	// Detail is what the server said, as one line.
	Detail string
	// Reason is what it says to programs: wire.ReasonDatabase; empty for most refusals.
	Reason string
}

// Error is what the server said.
func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s %s: status %d", e.Method, e.Path, e.Status)
	}
	return e.Detail
}

// Unreachable means that no server answered.
type Unreachable struct {
	Base string
	Err  error
}

// Error says where nobody answered, and why.
func (e *Unreachable) Error() string {
	if errors.Is(e.Err, syscall.ECONNREFUSED) {
		return "no server answers at " + e.Base
	}
	return fmt.Sprintf("no server answers at %s: %v", e.Base, e.Err)
}

// Unwrap is the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// StatusOf is the status of a refusal, 0 when err is none.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// MethodOf is the method of the request that was refused, empty when err is no refusal.
func MethodOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Method
	}
	return ""
}

// DatabaseRefuses tells whether err is the refusal of a server whose database cannot be written now.
func DatabaseRefuses(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == wire.ReasonDatabase
}

// Path joins escaped segments below /api/v2.
func Path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/api/v2")
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// open sends a request and returns the answer's body when the server agreed.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, body any, accept string) (io.ReadCloser, error) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		reader = bytes.NewReader(b)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", accept)
	if c.user != "" {
		req.Header.Set(wire.UserHeader, c.user)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Unreachable{Base: c.base, Err: err}
	}
	if resp.StatusCode >= 300 {
		defer func() { _ = resp.Body.Close() }()
		return nil, refusal(method, path, resp)
	}
	return resp.Body, nil
}

func refusal(method, path string, resp *http.Response) error {
	e := &Error{Method: method, Path: path, Status: resp.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return e
	}
	var body struct {
		Detail json.RawMessage `json:"detail"`
		Error  string          `json:"error"`
		Ostro  struct {
			Reason string `json:"reason"`
		} `json:"ostro"`
	}
	if json.Unmarshal(raw, &body) != nil {
		e.Detail = fmt.Sprintf("%s %s: status %d: the answer is not Ostro's; does another program listen there?", method, path, resp.StatusCode)
		return e
	}
	e.Detail, e.Reason = body.Error, body.Ostro.Reason
	var text string
	var faults []wire.Fault
	var dup wire.Duplicate
	switch {
	case json.Unmarshal(body.Detail, &text) == nil:
		e.Detail = text
	case json.Unmarshal(body.Detail, &faults) == nil:
		var parts []string
		for _, f := range faults {
			at := fmt.Sprint(f.Loc[len(f.Loc)-1])
			parts = append(parts, at+": "+f.Msg)
		}
		e.Detail = strings.Join(parts, "; ")
	case json.Unmarshal(body.Detail, &dup) == nil && dup.Message != "":
		e.Detail = dup.Message
	}
	return e
}

// call sends a request and reads a JSON answer into out, which may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	answer, err := c.open(ctx, method, path, query, body, "application/json")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, answer)
	} else {
		err = json.NewDecoder(answer).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// Get reads any route.
func Get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

// Send posts or patches any route.
func Send[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var out T
	err := c.call(ctx, method, path, query, body, &out)
	return out, err
}

// Delete deletes.
func (c *Client) Delete(ctx context.Context, path string) error {
	return c.call(ctx, http.MethodDelete, path, nil, nil, nil)
}

// lines reads newline-delimited JSON until the stream ends or visit returns an error.
func streamLines[T any](ctx context.Context, c *Client, path string, query url.Values, visit func(T) error) error {
	answer, err := c.open(ctx, http.MethodGet, path, query, nil, "application/x-ndjson")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	d := json.NewDecoder(answer)
	for {
		var v T
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &Unreachable{Base: c.base, Err: fmt.Errorf("the stream broke off: %w", err)}
		}
		if err := visit(v); err != nil {
			return err
		}
	}
}
