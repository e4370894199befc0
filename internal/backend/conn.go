package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// closeTimeout bounds the goodbye to a Postgres that reads nothing.
const closeTimeout = time.Second

// Identity is what a cancel request needs to know of a connection. It may be used after the connection has ended; Postgres
// ignores it then.
type Identity struct {
	Addr Address // as in Params
	TLS  bool
	PID  uint32 // 0 if Postgres has sent none
	Key  []byte // not to be changed

	remote string // the network address of the host that was reached: a name may have several
}

// SameServer reports whether both are processes of one Postgres, as far as its address tells.
func (id Identity) SameServer(other Identity) bool {
	return id.Addr == other.Addr && id.remote == other.remote
}

// Conn is a connection to Postgres that is logged in. It belongs to one goroutine at a time. After Give only its fields and
// Close may be used.
type Conn struct {
	Identity
	Params []wire.Param // what Postgres has reported with ParameterStatus, in its order
	Opened time.Time    // when the login was done

	raw    net.Conn // below TLS
	w      *wire.Conn
	broken bool
}

// NetConn returns the connection to go on with, a *tls.Conn if TLS is set. It has no deadlines, and nothing has been
// read from it past ReadyForQuery.
func (c *Conn) NetConn() net.Conn { return c.w.NetConn() }

// Give hands the connection, which is that of NetConn, on: it is the caller's from now on, and Close does nothing any more.
func (c *Conn) Give() net.Conn {
	nc := c.w.NetConn()
	c.raw, c.w = nil, nil
	return nc
}

// Close says Terminate and closes the connection. It blocks for a second at most.
func (c *Conn) Close() error {
	if c.raw == nil {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(closeTimeout))
	_ = c.w.Send(&pgproto3.Terminate{}) // as a courtesy: Postgres logs connections that end without
	return c.raw.Close()
}

// Broken reports whether the connection can take no further Query and must be closed.
func (c *Conn) Broken() bool { return c.broken }

// Limit bounds a result.
type Limit struct {
	Rows  int
	Bytes int // of all values
}

// Query runs one statement with parameters in text form, $1 and so on, and returns its rows; NULL is nil. A statement
// that returns no rows is fine.
//
// It blocks until Postgres is ready again or ctx is done; the latter breaks the connection.
//
// Errors: *auth.ServerError; ErrLimit; ErrBroken, *wire.Error, ErrProtocol or ctx's cause, wrapped, after which the
// connection is broken. It is also broken after an error of Postgres that is FATAL and after a result with too many
// bytes. Protocol: "Extended Query".
func (c *Conn) Query(ctx context.Context, limit Limit, sql string, args ...string) ([][]*string, error) {
	if c.broken {
		return nil, ErrBroken
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("query backend %s: %w", c.Addr, context.Cause(ctx))
	}
	stop := hold(ctx, c.raw)
	a := answer{limit: limit}
	err := c.exchange(&a, sql, args)
	if !stop() {
		c.broken = true
		return nil, fmt.Errorf("query backend %s: %w", c.Addr, context.Cause(ctx))
	}
	if err != nil {
		c.broken = true
	}
	switch {
	case a.err != nil:
		return nil, a.err
	case err != nil:
		return nil, fmt.Errorf("query backend %s: %w", c.Addr, err)
	}
	return a.rows, nil
}

// exchange sends the statement and reads up to ReadyForQuery. An error means that it did not get there.
func (c *Conn) exchange(a *answer, sql string, args []string) error {
	bind := &pgproto3.Bind{}
	for _, arg := range args {
		bind.Parameters = append(bind.Parameters, []byte(arg))
	}
	// One row more than allowed is asked for, so that too many are noticed and the connection stays usable.
	execute := &pgproto3.Execute{MaxRows: uint32(a.limit.Rows) + 1}
	if err := c.w.Send(&pgproto3.Parse{Query: sql}, bind, execute, &pgproto3.Sync{}); err != nil {
		return err
	}
	for {
		typ, body, err := c.w.ReadMessage(max(a.limit.Bytes+maxRowOverhead, maxGreetingBody))
		if errors.Is(err, wire.ErrTooLarge) {
			return fmt.Errorf("%w: %w", ErrLimit, err)
		}
		if err != nil {
			return err
		}
		if typ == wire.ParameterStatus {
			p, err := parameterStatus(body)
			if err != nil {
				return err
			}
			c.Params = setParam(c.Params, p)
			continue
		}
		if ready, err := a.take(typ, body); ready || err != nil {
			return err
		}
	}
}

// maxRowOverhead is how much longer a DataRow is than its values: a count, and a length for each of 1,664 columns.
const maxRowOverhead = 2 + 4*1664

// answer collects what Postgres says to a statement.
type answer struct {
	limit Limit
	rows  [][]*string
	bytes int
	err   error // the first error of the statement, which does not keep it from being read to its end
}

// take understands one message and keeps nothing of body. Errors are those that break the connection.
func (a *answer) take(typ byte, body []byte) (ready bool, err error) {
	switch typ {
	case wire.DataRow:
		return false, a.row(body)
	case wire.ErrorResponse:
		if err := serverError(body); a.err == nil {
			a.err = err
		}
	case wire.ReadyForQuery:
		if len(body) != 1 {
			return false, fmt.Errorf("%w: ReadyForQuery %q", ErrProtocol, body)
		}
		return true, nil
	case wire.ParseComplete, wire.BindComplete, wire.CommandComplete, wire.PortalSuspended, wire.EmptyQueryResponse,
		wire.NoticeResponse, wire.NotificationResponse:
	default:
		return false, fmt.Errorf("%w: message %q answers a query", ErrProtocol, typ)
	}
	return false, nil
}

func (a *answer) row(body []byte) error {
	var m pgproto3.DataRow
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if len(a.rows) >= a.limit.Rows {
		if a.err == nil {
			a.err = fmt.Errorf("%w: more than %d rows", ErrLimit, a.limit.Rows)
		}
		return nil
	}
	row := make([]*string, len(m.Values))
	for i, v := range m.Values {
		if v != nil {
			a.bytes += len(v)
			row[i] = new(string(v))
		}
	}
	if a.bytes > a.limit.Bytes {
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, a.limit.Bytes)
	}
	a.rows = append(a.rows, row)
	return nil
}
