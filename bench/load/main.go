// Command load triggers runs of a DAG over HTTP as fast as the server answers, for a time, waits until all of them have
// ended, and prints as JSON how many that were, how long it took and how long the answers took.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// A target is a server and the DAG of it that is triggered.
type target struct {
	url, token, dag string
	http            *http.Client
}

func (t *target) call(method, path, body string, into any) error {
	r, err := http.NewRequestWithContext(context.Background(), method, t.url+"/api/v2/dags/"+t.dag+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+t.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := t.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, r.URL, answer.Status, text)
	}
	return json.Unmarshal(text, into)
}

// trigger sends requests from so many clients until the time is over and returns how long each answer took.
func (t *target) trigger(clients int, until time.Time) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	var errs []error
	var work sync.WaitGroup
	for range clients {
		work.Go(func() {
			var own []time.Duration
			var err error
			for err == nil && time.Now().Before(until) {
				at := time.Now()
				var run struct{}
				err = t.call("POST", "/dagRuns", `{"logical_date": null}`, &run)
				own = append(own, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, own...), append(errs, err)
		})
	}
	work.Wait()
	slices.Sort(all)
	return all, errors.Join(errs...)
}

// awaitEnds returns when so many runs of the DAG have succeeded.
func (t *target) awaitEnds(runs int) error {
	for {
		var page struct {
			Total int `json:"total_entries"`
		}
		if err := t.call("GET", "/dagRuns?limit=1&state=success", "", &page); err != nil {
			return err
		}
		if page.Total >= runs {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func run() error {
	t := target{}
	flag.StringVar(&t.url, "url", "http://127.0.0.1:8080", "the server")
	flag.StringVar(&t.token, "token", "", "its token")
	flag.StringVar(&t.dag, "dag", "", "the DAG to trigger; it must not have run before")
	clients := flag.Int("clients", 32, "requests at once")
	length := flag.Duration("for", 60*time.Second, "how long to trigger")
	flag.Parse()
	t.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients}}
	started := time.Now()
	answers, err := t.trigger(*clients, started.Add(*length))
	if err != nil {
		return err
	}
	if err := t.awaitEnds(len(answers)); err != nil {
		return err
	}
	milliseconds := func(quantile float64) float64 {
		return float64(answers[int(quantile*float64(len(answers)-1))].Microseconds()) / 1000
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"runs": float64(len(answers)), "seconds": time.Since(started).Seconds(),
		"p50_ms": milliseconds(.5), "p95_ms": milliseconds(.95), "p99_ms": milliseconds(.99),
	})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
