package postgres

import (
	"context"
	"errors"
	"time"
)

// ErrUnsettled: the answer to a commit was lost, so that nobody here knows whether it was carried out.
var ErrUnsettled = errors.New("the answer to the commit was lost")

// Outcome is what became of a transaction whose commit was not answered.
type Outcome int

// The outcomes.
const (
	// Unknown: the server cannot be asked now, or is still at it. It can be asked again.
	Unknown Outcome = iota
	// Committed and NotCommitted are final.
	Committed
	NotCommitted
	// Unknowable: the server keeps no account of transactions that old.
	Unknowable
)

// Outcome asks the server over another connection what became of the newest transaction. A standby is not believed: it may
// be behind what it will be promoted with.
func (w *Writer) Outcome(ctx context.Context) Outcome {
	conn, err := w.d.dial(ctx, nil)
	if err != nil {
		return Unknown
	}
	defer func() { _ = conn.Close(ctx) }()
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		return Unknown
	}
	var status *string
	err = conn.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", w.xid).Scan(&status)
	return outcomeOf(status, err)
}

// outcomeOf judges the server's answer. What it says while it ends or begins says nothing about the transaction.
func outcomeOf(status *string, err error) Outcome {
	const inTheFuture = "22023" // the server has come back without the transaction, from a backup or as a standby that was behind
	e, said := isPgError(err)
	switch {
	case said && e.Code == inTheFuture:
		return NotCommitted
	case err != nil:
		return Unknown
	case status == nil:
		return Unknowable
	case *status == "committed":
		return Committed
	case *status == "aborted":
		return NotCommitted
	}
	return Unknown // in progress: the server has not noticed yet that this side is gone
}

const (
	surelyPatience = 10 * time.Second
	surelyPause    = 50 * time.Millisecond
)

// commitSurely commits and, when the answer is lost, waits a while for the server to say what has become of it.
func (w *Writer) commitSurely(ctx context.Context) error {
	err := w.Commit(ctx)
	if !errors.Is(err, ErrUnsettled) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, surelyPatience)
	defer cancel()
	tick := time.NewTicker(surelyPause)
	defer tick.Stop()
	for {
		switch w.Outcome(ctx) {
		case Committed:
			return nil
		case NotCommitted, Unknowable:
			return err
		case Unknown:
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
