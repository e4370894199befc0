package proxy_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

// loginAs logs in to the database app with a protocol version, and returns the client.
func (h *harness) loginAs(port string, version uint32, user string) *pgscript.Client {
	h.t.Helper()
	c := h.connect(port)
	startup := wire.AppendStartup(nil, version, []wire.Param{{Name: "user", Value: user}, {Name: "database", Value: "app"}})
	if _, err := c.NetConn().Write(startup); err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Collect(); err != nil {
		h.t.Fatalf("login: %v\n%s", err, c.Transcript())
	}
	return c
}

func TestNewerClientsGetLongKeysAndCancelWithThem(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		var keys [][]byte
		for version, length := range map[uint32]int{wire.Version30: 4, wire.Version32: 32, 3<<16 | 9999: 32} {
			c := h.loginAs(port, version, "alice")
			if len(c.Key) != length || slices.ContainsFunc(keys, func(k []byte) bool { return bytes.HasPrefix(k, c.Key) }) {
				t.Errorf("version %#x: key %x, want %d random bytes", version, c.Key, length)
			}
			if strings.Contains(c.Transcript(), "NegotiateProtocolVersion") != (version > wire.Version32) {
				t.Errorf("version %#x:\n%s", version, c.Transcript())
			}
			keys = append(keys, c.Key)
			before := h.postgres.Cancels()
			done := background(t, func() {
				c.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
			})
			synctest.Wait()
			for _, wrong := range [][]byte{c.Key[:length-1], append(slices.Clone(c.Key), 0), bytes.Repeat([]byte{1}, 256), bytes.Repeat([]byte{1}, 257), nil} {
				h.rawCancel(port, c.PID, wrong)
			}
			if n := h.postgres.Cancels(); n != before {
				t.Errorf("version %#x: a wrong key cancelled", version)
			}
			h.cancel(port, c)
			<-done
			if n := h.postgres.Cancels(); n != before+1 {
				t.Errorf("version %#x: %d cancel requests reached Postgres, want %d", version, n, before+1)
			}
		}
	})
}

// rawCancel sends a cancel request with a key of any length and waits until it is answered by silence.
func (h *harness) rawCancel(port string, pid uint32, key []byte) {
	h.t.Helper()
	nc := h.dialFrom("127.0.0.1", port)
	if _, err := nc.Write(wire.AppendCancelRequest(nil, pid, key)); err != nil {
		h.t.Fatal(err)
	}
	if n, _ := nc.Read(make([]byte, 1)); n != 0 {
		h.t.Errorf("a cancel request with a key of %d bytes was answered", len(key))
	}
}

func TestSessionsOfTheSessionPortTellThePidOfTheirBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.loginAs(sessionPort, wire.Version32, "alice")
		backend := h.postgres.Conns()[0]
		if c.PID != backend.PID || bytes.Contains(c.Key, backend.Key) {
			t.Errorf("pid %d with key %x, the backend has %d with %x: want its pid and a key of our own", c.PID, c.Key, backend.PID, backend.Key)
		}
	})
}

func TestCancelInsideTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, withTLS(t))
		c := h.loginAs(transactionPort, wire.Version32, "alice")
		done := background(t, func() {
			c.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		})
		synctest.Wait()
		tc, err := h.direct(transactionPort, clientTLS("postgresql"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tc.Write(wire.AppendCancelRequest(nil, c.PID, c.Key)); err != nil {
			t.Fatal(err)
		}
		<-done
	})
}

func TestProtocol2IsRefusedInItsOwnWords(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		for version, want := range map[string]string{
			"\x00\x02\x00\x00": "EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\nHINT:  Use a client of PostgreSQL 7.4 or newer.\n\x00",
			"\x00\x00\x00\x00": "EFATAL:  unsupported frontend protocol 0.0: server supports 3.0 to 3.2\nHINT:  Use a client of PostgreSQL 7.4 or newer.\n\x00",
		} {
			nc := h.dialFrom("127.0.0.1", port)
			if got := say(t, nc, "\x00\x00\x00\x0c"+version+"junk"); got != want {
				t.Errorf("version %q: answered\n%q, want\n%q", version, got, want)
			}
		}
		got := say(t, h.dialFrom("127.0.0.1", port), "\x00\x00\x00\x0c\x00\x04\x00\x00junk")
		var m pgproto3.ErrorResponse
		if err := m.Decode([]byte(got)[min(5, len(got)):]); err != nil || m.Code != "0A000" || !strings.Contains(m.Message, "protocol 4.0") {
			t.Errorf("version 4.0: answered %q", got)
		}
		noBackends(t, h)
	})
}

// say sends what a client says and returns all that it is answered.
func say(t *testing.T, nc *memnet.Conn, words string) string {
	t.Helper()
	if _, err := nc.Write([]byte(words)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4<<10)
	n, err := nc.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Conn(nc).Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	return string(buf[:n])
}
