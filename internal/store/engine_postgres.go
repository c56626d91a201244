package store

import (
	"context"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/store/postgres"
)

// postgresEngine is a database of PostgreSQL.
type postgresEngine struct{ *postgres.Database }

// Clean makes an argument fit for PostgreSQL's text.
func (e postgresEngine) Clean(arg any) any { return postgres.Clean(arg) }

// Checkpoint does nothing: PostgreSQL makes its own.
func (e postgresEngine) Checkpoint(context.Context) (frames, copied int, err error) { return 0, 0, nil }

// RestartLog does nothing.
func (e postgresEngine) RestartLog(context.Context) (frames, copied int, err error) { return 0, 0, nil }

// Backup says whose work it is.
func (e postgresEngine) Backup(_ context.Context, path string) error {
	return fmt.Errorf("%w: run %s", ErrBackup, e.BackupCommand(path))
}

func (e postgresEngine) Writer(ctx context.Context, texts []string) (link, error) {
	w, err := e.Database.Writer(ctx)
	if err != nil {
		return nil, err
	}
	l := &postgresLink{Writer: w, texts: make([]string, len(texts))}
	for i, text := range texts {
		l.texts[i] = e.Rebind(text)
	}
	return l, nil
}

// postgresLink drives a postgres.Writer by statement number. Contexts end with the process: a transaction that is begun is
// never given up half way.
type postgresLink struct {
	*postgres.Writer
	texts []string
}

func (l *postgresLink) Begin() (int64, error) {
	if err := l.Writer.Begin(context.Background()); err != nil {
		return -1, err
	}
	return l.Newest(), nil
}

// Outcome asks once, and not for long: the writer refuses others only between two questions.
func (l *postgresLink) Outcome() postgres.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), outcomePatience)
	defer cancel()
	return l.Writer.Outcome(ctx)
}

const outcomePatience = 2 * time.Second

func (l *postgresLink) Commit() error     { return l.Writer.Commit(context.Background()) }
func (l *postgresLink) Rollback() error   { return l.Writer.Rollback(context.Background()) }
func (l *postgresLink) Savepoint() error  { return l.Writer.Savepoint(context.Background()) }
func (l *postgresLink) Release() error    { return l.Writer.Release(context.Background()) }
func (l *postgresLink) RollbackTo() error { return l.Writer.RollbackTo(context.Background()) }
func (l *postgresLink) Flush() error      { return l.Writer.Flush(context.Background()) }

func (l *postgresLink) Send(id statement, args []any, done func(int64) error) error {
	return l.Writer.Send(context.Background(), l.texts[id], clean(args), done)
}

func (l *postgresLink) Query(id statement, args []any, row func(scanner) error) error {
	return l.Writer.Query(context.Background(), l.texts[id], clean(args), func(r postgres.Row) error { return row(r) })
}

func clean(args []any) []any {
	for i, a := range args {
		args[i] = postgres.Clean(a)
	}
	return args
}
