package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"ostro.dev/ostro/internal/store"
)

// ErrLed: another server schedules on the same database.
var ErrLed = store.ErrLed

// ErrFenced: another server has taken the lead while this one ran.
var ErrFenced = store.ErrFenced

// How long a leader's lease lasts in the database, and how often it is renewed.
const (
	leaseTerm  = 4 * time.Second
	leaseRenew = time.Second
)

// lead makes this server the one that schedules on its database. With SQLite the home's lock has done so already.
func (a *App) lead() error {
	if a.cfg.Database == "" {
		return nil
	}
	id, err := a.home.id()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	who := fmt.Sprintf("process %d on %s, home %s", os.Getpid(), host, a.home)
	if err := a.store.Lead(context.Background(), store.Leader{Server: who, HomeID: id, URL: a.URL()}, leaseTerm); err != nil {
		return fmt.Errorf("lead the database: %w", err)
	}
	return nil
}

// keepLead renews the lease until ctx ends. A database that does not answer takes no lease away: the term is what counts, and
// only another server's start changes it.
func (a *App) keepLead(ctx context.Context) error {
	if a.cfg.Database == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			resign, cancel := context.WithTimeout(context.Background(), leaseRenew) //nolint:contextcheck // ctx has ended
			defer cancel()
			if err := a.store.Resign(resign); err != nil && !errors.Is(err, store.ErrFenced) { //nolint:contextcheck // as above
				a.log.Warn("the lease could not be given up; it ends by itself", "error", err)
			}
			return nil
		case <-tick.C:
		}
		renew, cancel := context.WithTimeout(ctx, leaseTerm)
		err := a.store.Renew(renew, leaseTerm)
		cancel()
		if errors.Is(err, store.ErrFenced) {
			return err
		}
	}
}
