package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/config"
	"sluice/internal/wire"
)

const (
	// serviceTimeout bounds one question of Sluice's own.
	serviceTimeout = 10 * time.Second
	// serviceIdle is how long the connection for questions is kept open unused.
	serviceIdle = time.Minute
)

// insufficientPrivilege is the SQLSTATE of what a role may not read.
const insufficientPrivilege = "42501"

// urlQuery finds a role's secret where the service role may read pg_authid.
const urlQuery = `SELECT rolname, rolpassword, rolvaliduntil FROM pg_catalog.pg_authid` +
	` WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin`

// service is a tenant's login for Sluice's own questions. It is safe for concurrent use.
type service struct {
	dialer *backend.Dialer
	target backend.Target
	own    auth.Entry // the service role's own login
	once   bool       // a password that Postgres has refused is not tried again: nobody will have changed it

	mu      sync.Mutex // guards below
	refused error      // what became of that
	idle    []idleConn
	vacated int // statements that need it off its database
}

type idleConn struct {
	conn  *backend.Conn
	since time.Time
}

// newService returns the login for questions that c describes; nil if it describes none.
func newService(c config.Service, d *backend.Dialer) (*service, error) {
	if c.Role == "" {
		return nil, nil
	}
	own, err := auth.ParseSecret(c.Role, c.Password.Reveal())
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	sv := &service{
		dialer: d,
		own:    auth.Entry{Secret: own},
		target: backend.Target{
			Role: c.Role, Database: c.Database,
			Params: []wire.Param{
				{Name: "application_name", Value: "sluice"},
				{Name: "search_path", Value: "pg_catalog"},
				{Name: "client_encoding", Value: "UTF8"},
				{Name: "DateStyle", Value: "ISO"},
				{Name: "TimeZone", Value: "UTC"},
			},
		},
	}
	if c.Password != "" {
		sv.target.Credential = auth.PasswordCredential(c.Password.Reveal())
	}
	return sv, nil
}

// ask runs a query as the service role and returns its rows. It blocks until Postgres has answered or ctx is done.
func (sv *service) ask(ctx context.Context, limit backend.Limit, sql string, args ...string) ([][]*string, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	conn, fresh, err := sv.take(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, limit, sql, args...)
	if err != nil && conn.Broken() && !fresh { // Postgres may have been restarted meanwhile
		_ = conn.Close()
		if conn, err = sv.dial(ctx); err != nil {
			return nil, err
		}
		rows, err = conn.Query(ctx, limit, sql, args...)
	}
	sv.put(conn)
	return rows, err
}

func (sv *service) take(ctx context.Context) (c *backend.Conn, fresh bool, err error) {
	sv.mu.Lock()
	var stale []idleConn
	for len(sv.idle) > 0 && c == nil {
		last := sv.idle[len(sv.idle)-1]
		sv.idle = sv.idle[:len(sv.idle)-1]
		if time.Since(last.since) < serviceIdle {
			c = last.conn
		} else {
			stale = append(stale, last)
		}
	}
	sv.mu.Unlock()
	for _, s := range stale {
		_ = s.conn.Close()
	}
	if c != nil {
		return c, false, nil
	}
	c, err = sv.dial(ctx)
	return c, true, err
}

func (sv *service) dial(ctx context.Context) (*backend.Conn, error) {
	sv.mu.Lock()
	refused := sv.refused
	sv.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	c, err := sv.dialer.Dial(ctx, sv.target)
	if sv.once && backend.WrongPassword(err) {
		sv.mu.Lock()
		sv.refused = err
		sv.mu.Unlock()
	}
	return c, err
}

func (sv *service) put(c *backend.Conn) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if c.Broken() || sv.vacated > 0 {
		_ = c.Close()
		return
	}
	sv.idle = append(sv.idle, idleConn{c, time.Now()})
}

// vacate says that one statement more, or one less, needs nobody connected to the service's database. It closes what is open.
func (sv *service) vacate(n int) {
	sv.mu.Lock()
	sv.vacated += n
	sv.mu.Unlock()
	sv.close()
}

// close closes what is open.
func (sv *service) close() {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	for _, c := range sv.idle {
		_ = c.conn.Close()
	}
	sv.idle = nil
}

// authQuery returns the lookup that auth.query describes: role, secret and, if the query has a third column, until when
// it is valid.
func (sv *service) authQuery(sql string) auth.QueryFunc {
	return func(ctx context.Context, role string) (auth.Entry, error) {
		rows, err := sv.ask(ctx, backend.Limit{Rows: 2, Bytes: 64 << 10}, sql, role)
		if err != nil {
			return auth.Entry{}, err
		}
		return entry(role, rows)
	}
}

// entry understands the rows that were found for a role: one, or two while its password changes.
func entry(role string, rows [][]*string) (auth.Entry, error) {
	if len(rows) == 0 {
		return auth.Entry{}, auth.ErrUnknownRole
	}
	e, err := rowEntry(role, rows[0])
	if err != nil || len(rows) == 1 {
		return e, err
	}
	second, err := rowEntry(role, rows[1])
	if err != nil {
		return auth.Entry{}, err
	}
	if e, err = e.With(second.Secret, second.ValidUntil); err != nil {
		return auth.Entry{}, fmt.Errorf("auth.query returned two rows: %w", err)
	}
	return e, nil
}

// rowEntry understands one row.
func rowEntry(role string, row []*string) (auth.Entry, error) {
	switch {
	case len(row) < 2:
		return auth.Entry{}, fmt.Errorf("auth.query returned %d columns, want role, verifier and perhaps valid_until", len(row))
	case row[0] == nil || *row[0] != role:
		return auth.Entry{}, auth.ErrUnknownRole
	case row[1] == nil:
		return auth.Entry{}, nil // no password: cannot log in with one
	}
	secret, err := auth.ParseSecret(role, *row[1])
	if err != nil {
		return auth.Entry{}, fmt.Errorf("auth.query: %w", err)
	}
	e := auth.Entry{Secret: secret}
	if len(row) > 2 && row[2] != nil {
		if e.ValidUntil, err = parseTimestamp(*row[2]); err != nil {
			return auth.Entry{}, fmt.Errorf("auth.query: valid_until: %w", err)
		}
	}
	return e, nil
}

// parseTimestamp reads a timestamptz in the ISO style; infinity is the zero time.
func parseTimestamp(s string) (time.Time, error) {
	switch s {
	case "infinity":
		return time.Time{}, nil
	case "-infinity":
		return time.Unix(0, 0), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999-07", "2006-01-02 15:04:05.999999-07:00", "2006-01-02 15:04:05.999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("not a timestamp: %q", s)
}

// urlLogin returns the lookup of a tenant that came as a database URL: pg_authid if the URL's role may read it, else the
// URL's role and password are the only login.
func (sv *service) urlLogin() auth.QueryFunc {
	query := sv.authQuery(urlQuery)
	return func(ctx context.Context, role string) (auth.Entry, error) {
		e, err := query(ctx, role)
		if refused, ok := errors.AsType[*auth.ServerError](err); !ok || refused.Response.Code != insufficientPrivilege {
			return e, err
		}
		if role != sv.target.Role {
			return auth.Entry{}, auth.ErrUnknownRole
		}
		return sv.own, nil
	}
}

// left asks how many backends Postgres has left for Sluice: 80 % of max_connections less what is reserved less the
// connections that are not ours.
func (sv *service) left(ctx context.Context, ours int) (int, error) {
	rows, err := sv.ask(ctx, backend.Limit{Rows: 1, Bytes: 1 << 10}, leftQuery)
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] == nil || rows[0][1] == nil {
		return 0, errors.New("unexpected answer to the question for max_connections")
	}
	usable, err := strconv.Atoi(*rows[0][0])
	if err != nil {
		return 0, err
	}
	open, err := strconv.Atoi(*rows[0][1])
	if err != nil {
		return 0, err
	}
	return max(1, (usable-max(0, open-ours))*8/10), nil
}

// leftQuery asks for the connections that ordinary roles can have, and for those that are open.
const leftQuery = `SELECT pg_catalog.current_setting('max_connections')::pg_catalog.int4` +
	` OPERATOR(pg_catalog.-) pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4` +
	` OPERATOR(pg_catalog.-) COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4,` +
	` (SELECT pg_catalog.sum(numbackends) FROM pg_catalog.pg_stat_database)` // pg_stat_activity hides most from most roles
