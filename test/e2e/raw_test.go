package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/throwawaypg"
)

// rawClient speaks the protocol message by message.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	fe   *pgproto3.Frontend
}

// raw logs in and hands the connection over.
func (r *rig) raw(mode, user string) *rawClient {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.url(mode, user, ""))
	if err != nil {
		r.t.Fatal(err)
	}
	h := hijack(r.t, c, 30*time.Second)
	return &rawClient{t: r.t, conn: h.Conn, fe: h.Frontend}
}

// hijack takes the connection over, to be closed at the test's end and to be done with within the given time. What it reads has to
// be read from the Frontend it returns: after a slow write pgx's background reader may hold what comes next.
func hijack(t *testing.T, c *pgx.Conn, within time.Duration) *pgconn.HijackedConn {
	t.Helper()
	h, err := c.PgConn().Hijack()
	must(t, err)
	t.Cleanup(func() { _ = h.Conn.Close() })
	must(t, h.Conn.SetDeadline(time.Now().Add(within)))
	return h
}

func (c *rawClient) send(msgs ...pgproto3.FrontendMessage) {
	c.t.Helper()
	for _, m := range msgs {
		c.fe.Send(m)
	}
	if err := c.fe.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// until reads up to a message of the given type and writes in short words what came.
func (c *rawClient) until(typ byte) string {
	c.t.Helper()
	var words []string
	for {
		m, err := c.fe.Receive()
		if err != nil {
			return strings.Join(append(words, err.Error()), " ")
		}
		b, err := m.Encode(nil)
		if err != nil {
			c.t.Fatal(err)
		}
		word := string(b[0])
		switch m := m.(type) {
		case *pgproto3.DataRow:
			word += fmt.Sprintf("(%s)", m.Values[0])
		case *pgproto3.ErrorResponse:
			word += "(" + m.Code + ")"
		}
		words = append(words, word)
		if b[0] == typ {
			return strings.Join(words, " ")
		}
	}
}

var (
	syncMsg    = &pgproto3.Sync{}
	executeMsg = &pgproto3.Execute{}
)

func parseMsg(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }
func bindMsg(name string) *pgproto3.Bind        { return &pgproto3.Bind{PreparedStatement: name} }

func asPgError(err error, target **pgconn.PgError) bool { return errors.As(err, target) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ownCluster starts a Postgres of the test's own.
func ownCluster(t *testing.T, hba ...string) *throwawaypg.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := startCluster(ctx, hba...)
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	return pg
}

var (
	flushMsg    = &pgproto3.Flush{}
	copyDataMsg = &pgproto3.CopyData{Data: []byte("1\n")}
	copyDoneMsg = &pgproto3.CopyDone{}
)

func describe(statement string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'S', Name: statement}
}

func queryMsg(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }

func TestPipelinedCopyNeverGivesRowsAway(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.raw("transaction", "alice"), r.raw("transaction", "alice")
	a.send(queryMsg("CREATE TABLE given_away (x int)"))
	a.until('Z')
	a.send(queryMsg("BEGIN"))
	a.until('Z')
	a.send(queryMsg("COMMIT; COPY given_away FROM STDIN"), copyDataMsg, copyDoneMsg, queryMsg("SELECT 'a-secret' FROM pg_sleep(.2)"))
	b.send(queryMsg("SELECT 'b-own'"))
	if got := b.until('Z'); strings.Contains(got, "a-secret") || !strings.Contains(got, "D(b-own)") {
		t.Errorf("b got %q", got)
	}
	if got := a.until('Z') + " " + a.until('Z'); !strings.Contains(got, "D(a-secret)") {
		t.Errorf("a got %q", got)
	}
}

func TestOpenPipelineKeepsItsBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.raw("transaction", "alice"), r.raw("transaction", "alice")
	a.send(queryMsg("CREATE TABLE open_pipeline (x int)"))
	a.until('Z')
	a.send(parseMsg("", "INSERT INTO open_pipeline VALUES (1)"), bindMsg(""), executeMsg, flushMsg)
	a.until('C')
	b.send(queryMsg("SELECT count(*)::text FROM open_pipeline"))
	a.send(parseMsg("", "nonsense"), syncMsg)
	a.until('Z')
	if got := b.until('Z'); !strings.Contains(got, "D(0)") {
		t.Errorf("b got %q: a's insert was committed", got)
	}
	a.send(parseMsg("", "INSERT INTO open_pipeline VALUES (1)"), bindMsg(""), executeMsg, flushMsg)
	a.until('C')
	_ = a.conn.Close()
	b.send(queryMsg("SELECT count(*)::text FROM open_pipeline"))
	if got := b.until('Z'); !strings.Contains(got, "D(0)") {
		t.Errorf("b got %q: the vanished client's insert was committed", got)
	}
}

func TestSlowMessagesHoldNoBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	for _, begun := range []string{"Q\x00\x00\x00\x20SEL", "P\x00\x00\x00\x40", "H\x00\x00\x00\x04", "c\x00\x00\x00\x04", "d\x00\x00\x00\x05x", "C\x00\x00\x00\x07Sx\x00"} {
		c := r.raw("transaction", "alice")
		_, err := c.conn.Write([]byte(begun))
		must(t, err)
	}
	if got := r.value(r.connect("transaction", "alice", ""), "SELECT 'fine'"); got != "fine" {
		t.Errorf("got %q", got)
	}
}
