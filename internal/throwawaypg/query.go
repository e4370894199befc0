package throwawaypg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	firstPause = 10 * time.Millisecond  // a cluster without data is ready after some 50 ms
	lastPause  = 250 * time.Millisecond // between tries to connect while Postgres recovers
)

// Exec runs each statement by itself as the superuser in the database postgres. It stops at the first error.
func (c *Cluster) Exec(ctx context.Context, sql ...string) error {
	_, err := c.query(ctx, sql)
	return err
}

// Value runs one statement as Exec does and returns the first column of its first row as text, empty for NULL. No row
// is an error.
func (c *Cluster) Value(ctx context.Context, sql string) (string, error) {
	results, err := c.query(ctx, []string{sql})
	if err != nil {
		return "", err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 || len(results[0].Rows[0]) == 0 {
		return "", fmt.Errorf("run %q: no row", sql)
	}
	return string(results[0].Rows[0][0]), nil
}

func (c *Cluster) query(ctx context.Context, sql []string) (results []*pgconn.Result, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, statement := range sql {
		if results, err = conn.Exec(ctx, statement).ReadAll(); err != nil {
			return nil, fmt.Errorf("run %q: %w", statement, err)
		}
	}
	return results, nil
}

// connect logs in over the Unix socket, where no other server can answer and no HBA line of the caller applies.
func (c *Cluster) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("connect to throwaway postgres: %w", err)
	}
	config.Host, config.Port = c.folders.socket, uint16(c.port)
	config.User, config.Password, config.Database = superuser, c.password, maintenance
	config.RuntimeParams, config.Fallbacks, config.ValidateConnect = nil, nil, nil // what PG… variables may have set
	return pgconn.ConnectConfig(ctx, config)
}

// awaitReady returns once the superuser can log in, s has exited, or ctx is done.
func (c *Cluster) awaitReady(ctx context.Context, s *server) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		conn, err := c.connect(ctx)
		if err == nil {
			return conn.Close(ctx)
		}
		timer := time.NewTimer(pause)
		select {
		case <-s.done:
			timer.Stop()
			return errors.Join(errExited, s.err)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for postgres: %w, last: %w", context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}
