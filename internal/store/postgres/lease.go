package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrFenced: another server leads now.
var ErrFenced = errors.New("another server leads now")

// ErrLed: another server leads, so this one cannot.
var ErrLed = errors.New("another server leads this database")

// Leader is who schedules, by the database's own account and clock.
type Leader struct {
	Term int64
	// Server says who it is in words; HomeID is what its home folder is known by; URL is where it answers.
	Server, HomeID, URL string
	// Left is how long its lease lasts without being renewed.
	Left time.Duration
}

// lease is the term this process leads with; 0 when it does not.
type lease struct{ term atomic.Int64 }

// check compares the term stored in the database, read under the write lock, with the one this process has. Nobody can take
// the lead before the transaction that checked it has ended.
func (l *lease) check(stored int64) error {
	if own := l.term.Load(); own != 0 && own != stored {
		return fmt.Errorf("%w: it has term %d, this server had %d", ErrFenced, stored, own)
	}
	return nil
}

// Lead makes this process the leader for ttl, unless another one is: then it returns that one with ErrLed. The same home may
// take over at once, since its folder's lock has shown that its former server is gone. Another home may when the lease has
// ended and left, a query, counts nothing that the former leader's worker may still be at: otherwise ErrLed comes with
// their number. From then on every write transaction of this Database carries the term and fails with ErrFenced when it is
// no longer the newest.
func (d *Database) Lead(ctx context.Context, who Leader, ttl time.Duration, left string) (lead Leader, behind int64, err error) {
	w, err := d.Writer(ctx)
	if err != nil {
		return Leader{}, 0, err
	}
	lead, behind, err = w.lead(ctx, who, ttl, left)
	return lead, behind, errors.Join(err, w.Close())
}

// lead does it in one transaction: who led before cannot change anything between the look and the new term.
func (w *Writer) lead(ctx context.Context, who Leader, ttl time.Duration, left string) (Leader, int64, error) {
	if err := w.Begin(ctx); err != nil {
		return Leader{}, 0, err
	}
	now, err := scanLeader(w.conn.QueryRow(ctx, leaderText))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Leader{}, 0, err
	}
	if err == nil && now.HomeID != "" && now.HomeID != who.HomeID {
		var behind int64
		if now.Left == 0 {
			if err := w.conn.QueryRow(ctx, left).Scan(&behind); err != nil {
				return Leader{}, 0, err
			}
		}
		if now.Left > 0 || behind > 0 {
			return now, behind, errors.Join(ErrLed, w.Rollback(ctx))
		}
	}
	who.Term, who.Left = now.Term+1, ttl
	_, err = w.conn.Exec(ctx, `INSERT INTO leader (term, server, home_id, url, taken_at, expires_at)
		VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + $5 * interval '1 microsecond')
		ON CONFLICT (one) DO UPDATE SET term = excluded.term, server = excluded.server, home_id = excluded.home_id,
		url = excluded.url, taken_at = excluded.taken_at, expires_at = excluded.expires_at`,
		who.Term, who.Server, who.HomeID, who.URL, ttl.Microseconds())
	if err != nil {
		return Leader{}, 0, err
	}
	if err := w.commitSurely(ctx); err != nil {
		return Leader{}, 0, err
	}
	w.d.term.term.Store(who.Term)
	return who, 0, nil
}

// Renew prolongs the lease; ErrFenced when another server leads.
func (d *Database) Renew(ctx context.Context, ttl time.Duration) error {
	return d.touch(ctx, ttl, "renew the lease")
}

// Resign gives the lease up, so that another server need not wait for its end.
func (d *Database) Resign(ctx context.Context) error {
	if d.term.term.Load() == 0 {
		return nil
	}
	return d.touch(ctx, 0, "give the lease up")
}

// touch uses a connection of its own: readers that keep theirs busy must not cost the lead.
func (d *Database) touch(ctx context.Context, ttl time.Duration, what string) error {
	res, err := d.leasing.ExecContext(ctx, `UPDATE leader SET expires_at = clock_timestamp() + $2 * interval '1 microsecond' WHERE term = $1`,
		d.term.term.Load(), ttl.Microseconds())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(fmt.Errorf("%s: %w", what, ErrFenced), err)
	}
	return nil
}

const leaderText = `SELECT term, server, home_id, url, greatest(extract(epoch FROM expires_at - clock_timestamp()), 0)::float8 FROM leader`

func scanLeader(row pgx.Row) (Leader, error) {
	var l Leader
	var left float64
	err := row.Scan(&l.Term, &l.Server, &l.HomeID, &l.URL, &left)
	l.Left = time.Duration(left * float64(time.Second))
	return l, err
}

// Leader returns who leads, or led last; sql.ErrNoRows when nobody ever did.
func (d *Database) Leader(ctx context.Context) (Leader, error) {
	return scanLeader(d.readers.QueryRowContext(ctx, leaderText))
}

// Release takes the lead from the home that had it in this term, so that any other may lead. ErrLed when that home has
// renewed its lease meanwhile, or another leads.
func (d *Database) Release(ctx context.Context, term int64) error {
	w, err := d.Writer(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.release(ctx, term), w.Close())
}

func (w *Writer) release(ctx context.Context, term int64) error {
	if err := w.Begin(ctx); err != nil {
		return err
	}
	tag, err := w.conn.Exec(ctx, `UPDATE leader SET term = term + 1, home_id = '' WHERE term = $1 AND expires_at <= clock_timestamp()`, term)
	switch {
	case err != nil:
		return err
	case tag.RowsAffected() == 0:
		return errors.Join(ErrLed, w.Rollback(ctx))
	}
	return w.commitSurely(ctx)
}
