package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

// most is how much Sluice may hold of one stream: 256 KiB until it stops reading, a read ahead of 64 KiB and one under
// way, and what the networks on both sides hold.
const most = (256 + 64 + 64 + 64 + 64) << 10 // 512 KiB

// meter counts what is read from Postgres.
type meter struct{ read atomic.Int64 }

type meteredConn struct {
	net.Conn
	m *meter
}

func (c meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.read.Add(int64(n))
	return n, err
}

func (m *meter) dial(n *memnet.Network) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := n.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return meteredConn{nc, m}, nil
	}
}

func TestClientThatReadsNothingStopsItsBackendOnly(t *testing.T) {
	for name, sql := range map[string]string{
		"one large row":   "SELECT repeat('x', 4000000)",
		"many small rows": "SELECT generate_series(1, 300000)",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &meter{}
				h := newHarnessOn(t, pgscript.Options{}, nil, m.dial)
				slow, other := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
				if err := slow.Script("C: Query " + sql); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := m.read.Load(); n > most {
					t.Errorf("%d bytes were read for a client that reads nothing, want at most %d", n, most)
				}
				start := time.Now()
				for range 10 {
					query(t, other, "SELECT 'x'", "x")
				}
				wantElapsed(t, start, 0)
				lines, err := slow.Collect()
				if last := lines[len(lines)-1]; err != nil || last != "ReadyForQuery I" {
					t.Errorf("the slow client got %d messages, the last %s, %v", len(lines), last, err)
				}
			})
		})
	}
}

func TestPostgresThatReadsNothingStopsItsClient(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		nc := h.dialFrom("127.0.0.1", port)
		c := pgscript.NewClient(nc)
		if err := c.Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
		before := nc.Written()
		const size = 4 << 20
		sent := background(t, func() {
			_ = c.Script("C: Query SELECT pg_sleep(60)", "C: Query INSERT INTO x VALUES ('"+strings.Repeat("x", size)+"')")
		})
		synctest.Wait()
		if n := nc.Written() - before; n > most {
			t.Errorf("%d bytes were taken from the client, want at most %d", n, most)
		}
		<-sent
		lines, err := c.Collect()
		for err == nil && len(lines) > 0 && !strings.Contains(c.Transcript(), "INSERT 0 1") {
			lines, err = c.Collect()
		}
		if err != nil {
			t.Errorf("collect: %v", err)
		}
	})
}

func TestTenMegabytesOfPipelineBeforeOneSync(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		const statements = 30_000
		value := bytes.Repeat([]byte("v"), 300)
		fe := pgproto3.NewFrontend(c.NetConn(), c.NetConn())
		background(t, func() {
			for i := range statements {
				fe.Send(&pgproto3.Parse{Query: "SELECT $1"})
				fe.Send(&pgproto3.Bind{Parameters: [][]byte{value}})
				fe.Send(&pgproto3.Execute{})
				if i%100 == 99 {
					if err := fe.Flush(); err != nil {
						t.Errorf("write: %v", err)
						return
					}
				}
			}
			fe.Send(&pgproto3.Sync{})
			_ = fe.Flush()
		})
		reader := pgproto3.NewFrontend(c.NetConn(), nil)
		for rows := 0; ; {
			msg, err := reader.Receive()
			if err != nil {
				t.Fatalf("after %d rows: %v", rows, err)
			}
			switch m := msg.(type) {
			case *pgproto3.DataRow:
				if rows++; !bytes.Equal(m.Values[0], value) {
					t.Fatalf("row %d is %q", rows, m.Values[0])
				}
			case *pgproto3.ReadyForQuery:
				if rows != statements {
					t.Errorf("%d rows, want %d", rows, statements)
				}
				return
			case *pgproto3.ErrorResponse:
				t.Fatal(pgscript.Format(m))
			}
		}
	})
}

func TestHalfCloseBehindTerminateStillGetsTheAnswer(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{QueryDelay: time.Second}}, nil)
		c := h.login(port, "alice")
		if err := c.Script("C: Query INSERT INTO x VALUES (1)", "C: Terminate"); err != nil {
			t.Fatal(err)
		}
		if err := c.NetConn().(*memnet.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.Run(t, `B: CommandComplete "INSERT 0 1"`, "B: ReadyForQuery I", "B: EOF")
	})
}

func TestHalfCloseOfAnIdleClientEndsItsSession(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.Limits.MaxClients = 1 })
		c := h.login(port, "alice")
		if err := c.NetConn().(*memnet.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c.NetConn()); len(got) > 0 || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		h.login(port, "alice")
	})
}

func TestResetClientIsLeft(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		c := h.login(port, "alice")
		query(t, c, "BEGIN")
		c.NetConn().(*memnet.Conn).Reset()
		synctest.Wait()
		query(t, h.login(port, "alice"), "SELECT pg_backend_pid()", "1001")
	})
}

func TestHalfAQueryHoldsNoBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		if _, err := a.NetConn().Write([]byte("Q\x00\x00\x00\x20SELECT 'ha")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		query(t, b, "SELECT 'x'", "x")
		wantElapsed(t, start, 0)
	})
}

func TestMessagesInSinglePiecesOfAByte(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		var p []byte
		for _, m := range []pgproto3.Message{
			&pgproto3.Parse{Name: "s", Query: "SELECT $1"}, &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("v")}},
			&pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Query{String: "SELECT 'q'"},
		} {
			p, _ = m.Encode(p)
		}
		for i := range p {
			if _, err := c.NetConn().Write(p[i : i+1]); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		c.Run(t, "B: ParseComplete", "B: BindComplete", `B: DataRow "v"`, "B: CommandComplete", "B: ReadyForQuery I",
			"B: RowDescription", `B: DataRow "q"`, "B: CommandComplete", "B: ReadyForQuery I")
	})
}

func TestMalformedMessageEndsItsSessionOnly(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		bad, good := h.login(port, "alice"), h.login(port, "alice")
		if _, err := bad.NetConn().Write([]byte("Q\x00\x00\x00\x01")); err != nil {
			t.Fatal(err)
		}
		bad.Run(t, "B: ErrorResponse FATAL 08P01", "B: EOF")
		query(t, good, "SELECT 'x'", "x")
	})
}
