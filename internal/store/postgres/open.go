// Package postgres opens Ostro's PostgreSQL databases: the connection settings that make a commit durable and a dead
// connection noticed, the schema, the one write lock, the leader's lease, and what PostgreSQL's errors mean.
//
// It knows how a database is kept, not what is in it; statements live in package store. Reading goes through
// database/sql's pool. Writing has one connection of its own, driven through pgx directly, since a transaction's
// statements travel together (see Writer). Everything lies in schemas of its own, so that a database may be shared with
// other programs.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"
)

// Options say which database to open, and how.
type Options struct {
	// URL is postgresql://user:password@host:port/database?sslmode=…, as libpq takes it.
	URL    string
	Schema Schema
	// LockTimeout is how long to wait for another process's write lock; 0 means 5 s.
	LockTimeout time.Duration
	// KeepSchema refuses a database that would have to be migrated, with ErrOlder.
	KeepSchema bool
	// Readers is the size of the reading pool; 0 means 8.
	Readers int
	// Newest is a query for the number of the newest event, asked once a write transaction; empty when there is no log.
	Newest string
}

// Database is an open database.
type Database struct {
	o       Options
	config  *pgx.ConnConfig
	readers *sql.DB
	leasing *sql.DB // the one connection that the lease is renewed over
	term    *lease
}

// oldest is the oldest version of PostgreSQL that is supported.
const oldest = 150000

const (
	dialTimeout = 5 * time.Second
	// silence is how long a peer may leave sent data unacknowledged before the connection counts as dead.
	silence = 15 * time.Second
	// idleInTransaction frees the write lock of a writer that stands still (a stopped process, a dead machine).
	idleInTransaction = 2 * time.Second
)

// Open connects and migrates to the newest schema.
func Open(ctx context.Context, o Options) (_ *Database, err error) {
	d, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if o.KeepSchema {
		now, newest, err := d.Version(ctx)
		if err == nil && now < newest {
			err = fmt.Errorf("%w: %d instead of %d", ErrOlder, now, newest)
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", Shown(o.URL), err)
		}
	}
	if _, _, err := d.migrate(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", Shown(o.URL), err)
	}
	return d, d.settled(ctx)
}

// settled waits until no write transaction is under way: a process that was killed may have sent its commit, which the
// server carries out all the same. What is read from now on stays.
func (d *Database) settled(ctx context.Context) error {
	w, err := d.Writer(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(w.Begin(ctx), w.Rollback(ctx), w.Close())
	if err != nil {
		return fmt.Errorf("open %s: %w", Shown(d.o.URL), err)
	}
	return nil
}

// connect opens the reading pool and looks whether the server will do.
func connect(ctx context.Context, o Options) (*Database, error) {
	if o.LockTimeout == 0 {
		o.LockTimeout = 5 * time.Second
	}
	if o.Readers == 0 {
		o.Readers = 8
	}
	config, err := parse(o.URL, o.Schema)
	if err != nil {
		return nil, err
	}
	d := &Database{o: o, config: config, term: &lease{}}
	readers := *config
	readers.Config = *config.Config.Copy()
	readers.RuntimeParams["default_transaction_read_only"] = "on"
	d.readers = stdlib.OpenDB(readers)
	d.readers.SetMaxOpenConns(o.Readers)
	d.readers.SetMaxIdleConns(o.Readers)
	leasing := *config
	leasing.Config = *config.Config.Copy()
	leasing.RuntimeParams["default_transaction_read_only"] = "off"
	d.leasing = stdlib.OpenDB(leasing) // connects when the lease is renewed for the first time
	d.leasing.SetMaxOpenConns(1)
	if err := d.examine(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", Shown(o.URL), oneLine(err)), d.Close())
	}
	return d, nil
}

// parse reads a URL and adds what every connection needs. An error never shows the password.
func parse(text string, s Schema) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(text)
	if err != nil {
		// What pgx says may quote the password.
		return nil, fmt.Errorf("%w: %s cannot be read", ErrURL, Shown(text))
	}
	p := config.RuntimeParams
	p["application_name"] = "ostro"
	p["search_path"] = s.name()
	p["jit"] = "off"
	p["timezone"] = "UTC"
	p["client_min_messages"] = "warning"
	config.ConnectTimeout = dialTimeout
	config.DialFunc = dialer().DialContext
	return config, nil
}

// dialer notices a peer that is gone: the connection of a machine that lost its power says nothing.
func dialer() *net.Dialer {
	return &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 3, Interval: silence / 3, Count: 3},
		Control: func(network, _ string, c syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var set error
			err := c.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			})
			return errors.Join(err, set)
		},
	}
}

// ErrURL: the address of the database cannot be read.
var ErrURL = errors.New("the address of the database is none: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")

// ErrVersion: the server is too old.
var ErrVersion = errors.New("PostgreSQL is too old")

// examine asks the server what it is.
func (d *Database) examine(ctx context.Context) error {
	var number int
	var version string
	var standby bool
	err := d.readers.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'),
		pg_is_in_recovery()`).Scan(&number, &version, &standby)
	switch {
	case err != nil:
		return err
	case number < oldest:
		return fmt.Errorf("%w: it is version %s, ostro needs 15 or newer", ErrVersion, version)
	case standby:
		return fmt.Errorf("%w: name the primary in the address", errStandby)
	}
	return nil
}

var errStandby = errors.New("the server is a standby, which only reads")

// Readers is the pool of reading connections.
func (d *Database) Readers() *sql.DB { return d.readers }

// Snapshot is how a transaction begins that must see everything as of one moment.
func (d *Database) Snapshot() *sql.TxOptions {
	return &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
}

// Rebind turns the common SQL text into PostgreSQL's: numbered placeholders, and LIKE without an escape character.
func (d *Database) Rebind(text string) string { return Rebind(text) }

// Rebind is Database.Rebind.
func Rebind(text string) string {
	text = likes.ReplaceAllString(text, `$0 ESCAPE ''`)
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, more := strings.Cut(text, "?")
		b.WriteString(before)
		if !more {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		text = after
	}
}

var likes = regexp.MustCompile(`LIKE lower\(\?\)`)

// Clean makes an argument fit for PostgreSQL, whose text holds neither NUL nor what is not UTF-8.
func Clean(arg any) any {
	if s, ok := arg.(string); ok {
		return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	return arg
}

// Close closes the connections but for the Writer's, which is its owner's to close.
func (d *Database) Close() error { return errors.Join(d.readers.Close(), d.leasing.Close()) }

// Shown is an address as people may see it, without its password.
func Shown(address string) string {
	return parameters.ReplaceAllString(login.ReplaceAllString(address, "://$1:***@"), "$1=***")
}

var (
	login      = regexp.MustCompile(`://([^:@/]*):.*@`)
	parameters = regexp.MustCompile(`\b((?:ssl)?password)=[^&]*`)
)

// dial opens a connection outside the pool.
func (d *Database) dial(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
	config := d.config.Copy()
	for name, value := range params {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, oneLine(err)
	}
	// A commit that is not durable is none: only the weakest setting is raised, stronger ones stay.
	_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

func isPgError(err error) (*pgconn.PgError, bool) {
	var e *pgconn.PgError
	ok := errors.As(err, &e)
	return e, ok
}

// flat is an error told on one line.
type flat struct{ error }

func (f flat) Error() string {
	return strings.Join(strings.Fields(f.error.Error()), " ")
}

func (f flat) Unwrap() error { return f.error }

// oneLine puts pgx's accounts of failed connections, which go over several lines, on one.
func oneLine(err error) error {
	if err == nil || !strings.ContainsAny(err.Error(), "\n\t") {
		return err
	}
	return flat{err}
}
