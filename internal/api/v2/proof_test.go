package v2_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ostro.dev/ostro/internal/store"
)

func TestWhoAsksForHealthWhileTheDatabaseIsSlowWaitsAsLongAsTheyCareAndSharesTheAnswer(t *testing.T) {
	b := newBench(t)
	started, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() { // the writer is busy
		held <- b.db.Update(context.Background(), "u", time.Now(), func(*store.Tx) error {
			close(started)
			<-release
			return nil
		})
	}()
	<-started
	answers := make(chan error, 2)
	ask := func() { answers <- b.api.Writable(context.Background()) }
	go ask()
	for deadline := time.Now().Add(5 * time.Second); !b.api.Proving(); {
		if time.Now().After(deadline) {
			t.Fatal("the store is not asked")
		}
		<-time.After(time.Millisecond)
	}
	go ask()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.api.Writable(gone); !errors.Is(err, context.Canceled) || !b.api.Proving() {
		t.Errorf("who has gone is answered with %v; the store is still asked: %v", err, b.api.Proving())
	}
	close(release)
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
}
