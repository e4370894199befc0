package backend_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

func TestDialLogsInAndLearnsWhatPostgresReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		target := alice()
		target.Params = []wire.Param{{Name: "timezone", Value: "Asia/Tokyo"}}
		c, err := h.dialer(nil).Dial(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		server := h.server.Conns()[0]
		if c.PID != server.PID || string(c.Key) != string(server.Key) || c.Addr != tcp(address) || c.TLS || !c.Opened.Equal(time.Now()) {
			t.Errorf("connection is %+v, want pid %d and key %x", c, server.PID, server.Key)
		}
		var zone string
		for _, p := range c.Params {
			if p.Name == "TimeZone" {
				zone = p.Value
			}
		}
		if zone != "Asia/Tokyo" {
			t.Errorf("reported parameters are %v", c.Params)
		}
	})
}

func TestDialSendsParametersInOrderAndReadsNothingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		var got *wire.Request
		h.listen("raw:5432", func(nc net.Conn) {
			got, _ = wire.ReadRequest(nc)
			out, _ := (&pgproto3.AuthenticationOk{}).Encode(nil)
			out, _ = (&pgproto3.ParameterStatus{Name: "b", Value: "1"}).Encode(out)
			out, _ = (&pgproto3.ParameterStatus{Name: "a", Value: "2"}).Encode(out)
			out, _ = (&pgproto3.ParameterStatus{Name: "b", Value: "3"}).Encode(out)
			out, _ = (&pgproto3.NoticeResponse{Message: "hello"}).Encode(out)
			out, _ = (&pgproto3.ReadyForQuery{TxStatus: 'I'}).Encode(out)
			_, _ = nc.Write(append(out, "next"...))
			_, _ = io.Copy(io.Discard, nc)
		})
		target := alice()
		target.Params = []wire.Param{{Name: "zz", Value: "1"}, {Name: "aa", Value: ""}, {Name: "zz", Value: "2"}}
		c, err := h.dialer(func(p *backend.Params) { p.Hosts = []backend.Address{tcp("raw:5432")} }).Dial(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := append([]wire.Param{{Name: "user", Value: "alice"}, {Name: "database", Value: "app"}}, target.Params...)
		if diff := cmp.Diff(want, got.Params); diff != "" || got.Version != wire.Version30 {
			t.Errorf("start-up parameters (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]wire.Param{{Name: "b", Value: "3"}, {Name: "a", Value: "2"}}, c.Params); diff != "" {
			t.Errorf("reported parameters (-want +got):\n%s", diff)
		}
		rest := make([]byte, 4)
		if _, err := io.ReadFull(c.NetConn(), rest); string(rest) != "next" {
			t.Errorf("behind ReadyForQuery stands %q, %v", rest, err)
		}
		if c.PID != 0 {
			t.Errorf("pid is %d where none was sent", c.PID)
		}
	})
}

func TestDialLeavesNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := h.dialer(nil).Dial(ctx, alice())
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Hour)
		if _, err := c.Query(t.Context(), backend.Limit{Rows: 1, Bytes: 10}, "SELECT 'a'"); err != nil {
			t.Errorf("query an hour later: %v", err)
		}
	})
}

func TestConnectTimeoutIsExact(t *testing.T) {
	for name, break1 := range map[string]func(h *harness){
		"packets are dropped":   func(h *harness) { h.network.SetSilent(address, true) },
		"nothing is answered":   func(h *harness) { h.server.Adjust(func(k *pgscript.Knobs) { k.Mute = true }) },
		"login takes too long":  func(h *harness) { h.server.Adjust(func(k *pgscript.Knobs) { k.LoginDelay = time.Minute }) },
		"no end of the answers": func(h *harness) { h.serveEndlessly() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{})
				break1(h)
				start := time.Now()
				_, err := h.dialer(func(p *backend.Params) {
					if name == "no end of the answers" {
						p.Hosts = []backend.Address{tcp("slow:5432")}
					}
				}).Dial(t.Context(), alice())
				wantElapsed(t, start, 5*time.Second)
				if _, ok := errors.AsType[*backend.DialError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || !backend.Unreachable(err) {
					t.Errorf("got %v, want a timeout that counts as unreachable", err)
				}
			})
		})
	}
}

// serveEndlessly plays a server that says something each second and never comes to an end.
func (h *harness) serveEndlessly() {
	h.listen("slow:5432", func(nc net.Conn) {
		out, _ := (&pgproto3.AuthenticationOk{}).Encode(nil)
		for {
			if _, err := nc.Write(out); err != nil {
				return
			}
			out, _ = (&pgproto3.ParameterStatus{Name: "a", Value: "b"}).Encode(nil)
			time.Sleep(time.Second)
		}
	})
}

func TestCancelledContextEndsDialAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{LoginDelay: time.Minute}})
		start := time.Now()
		_, err := h.dialer(nil).Dial(after(t, 2*time.Second), alice())
		wantElapsed(t, start, 2*time.Second)
		if !errors.Is(err, context.Canceled) || backend.Unreachable(err) {
			t.Errorf("got %v, want the context's cause, which is no unreachable Postgres", err)
		}
	})
}

func TestDialTriesTheNextHost(t *testing.T) {
	for name, tc := range map[string]struct {
		break1 func(h *harness)
		took   time.Duration
	}{
		"when the first refuses connections": {func(h *harness) { h.server.Close() }, 0},
		"when the first is silent":           {func(h *harness) { h.network.SetSilent(address, true) }, 2500 * time.Millisecond},
		"when the first is starting":         {func(h *harness) { h.server.RefuseConnections("57P03", "the database system is starting up") }, 0},
		"when the first hangs up":            {func(h *harness) { h.server.Adjust(func(k *pgscript.Knobs) { k.HangUp = true }) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{})
				h.serve("standby:5432", pgscript.Options{})
				tc.break1(h)
				start := time.Now()
				c := dial(t, h.dialer(func(p *backend.Params) { p.Hosts = append(p.Hosts, tcp("standby:5432")) }))
				wantElapsed(t, start, tc.took)
				if c.Addr != tcp("standby:5432") {
					t.Errorf("connected to %s", c.Addr)
				}
			})
		})
	}
}

func TestARefusalOfTheFirstHostIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		standby := h.serve("standby:5432", pgscript.Options{})
		d := h.dialer(func(p *backend.Params) { p.Hosts = append(p.Hosts, tcp("standby:5432")) })
		for sqlstate, full := range map[string]bool{"28P01": false, "3D000": false, "53300": true} {
			h.server.RefuseConnections(sqlstate, "no")
			_, err := d.Dial(t.Context(), alice())
			said, ok := backend.Rejected(err)
			if !ok || said.Code != sqlstate || backend.Unreachable(err) || backend.Full(err) != full {
				t.Errorf("%s: got %v, rejected %t, unreachable %t, full %t", sqlstate, err, ok, backend.Unreachable(err), backend.Full(err))
			}
			if e, ok := errors.AsType[*auth.ServerError](err); !ok || len(e.Raw) == 0 || e.Raw[0] != 'E' {
				t.Errorf("%s: the message as it came is missing in %v", sqlstate, err)
			}
		}
		synctest.Wait()
		if len(standby.Conns()) != 0 || h.server.Open() != 0 {
			t.Errorf("%d connections to the second host, %d of the first are open", len(standby.Conns()), h.server.Open())
		}
	})
}

func TestAllHostsDownNamesEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		h.server.RefuseConnections("57P03", "the database system is starting up")
		_, err := h.dialer(func(p *backend.Params) { p.Hosts = append(p.Hosts, tcp("nobody:5432")) }).Dial(t.Context(), alice())
		if !backend.Unreachable(err) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want both failures, unreachable", err)
		}
		if said, ok := backend.Rejected(err); !ok || said.Code != "57P03" {
			t.Errorf("Postgres's own words are missing in %v", err)
		}
	})
}

func TestTargetCannotSmuggleParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		for name, change := range map[string]func(t *backend.Target){
			"user twice":      func(t *backend.Target) { t.Params = []wire.Param{{Name: "user", Value: "postgres"}} },
			"database twice":  func(t *backend.Target) { t.Params = []wire.Param{{Name: "database", Value: "x"}} },
			"empty name":      func(t *backend.Target) { t.Params = []wire.Param{{Name: "", Value: "x"}} },
			"zero in role":    func(t *backend.Target) { t.Role = "a\x00user\x00postgres" },
			"zero in value":   func(t *backend.Target) { t.Params = []wire.Param{{Name: "a", Value: "\x00user\x00postgres"}} },
			"longer than fit": func(t *backend.Target) { t.Params = []wire.Param{{Name: "a", Value: long(10000)}} },
		} {
			target := alice()
			change(&target)
			if _, err := h.dialer(nil).Dial(t.Context(), target); !errors.Is(err, backend.ErrTarget) {
				t.Errorf("%s: got %v, want ErrTarget", name, err)
			}
		}
		if n := len(h.server.Conns()); n != 0 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestUnfinishedLoginIsAnErrorAndClosesTheConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		say  pgproto3.BackendMessage
		want error
	}{
		"in a transaction":        {&pgproto3.ReadyForQuery{TxStatus: 'T'}, backend.ErrProtocol},
		"message out of place":    {&pgproto3.DataRow{}, backend.ErrProtocol},
		"key that is too long":    {&pgproto3.BackendKeyData{SecretKey: make([]byte, 257)}, backend.ErrProtocol},
		"message that is too big": {&pgproto3.ParameterStatus{Name: "a", Value: long(70000)}, wire.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{})
				h.listen("odd:5432", func(nc net.Conn) {
					out, _ := (&pgproto3.AuthenticationOk{}).Encode(nil)
					out, _ = tc.say.Encode(out)
					_, _ = nc.Write(out)
					_, _ = io.Copy(io.Discard, nc) // ends when the other side closes
				})
				d := h.dialer(func(p *backend.Params) { p.Hosts = []backend.Address{tcp("odd:5432")} })
				if _, err := d.Dial(t.Context(), alice()); !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
			})
		})
	}
}

func TestCleartextPasswordOnlyWhereNobodyCanListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passwords := pgscript.Options{Passwords: map[string]string{"alice": "secret"}}
		h := newHarness(t, passwords)
		h.serve("127.0.0.1:5432", passwords)
		h.serve("/run/postgresql/.s.PGSQL.5432", passwords)
		if _, err := h.dialer(nil).Dial(t.Context(), alice()); !errors.Is(err, auth.ErrCleartext) {
			t.Errorf("to another machine: got %v, want ErrCleartext", err)
		}
		for _, host := range []backend.Address{tcp("127.0.0.1:5432"), {Network: "unix", Addr: "/run/postgresql/.s.PGSQL.5432"}} {
			dial(t, h.dialer(func(p *backend.Params) { p.Hosts = []backend.Address{host} }))
		}
	})
}

func TestNewDialerRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	hosts := []backend.Address{tcp(address)}
	for name, p := range map[string]backend.Params{
		"no host":      {TLSMode: backend.TLSDisable},
		"unknown mode": {Hosts: hosts, TLSMode: "allow"},
		"no mode":      {Hosts: hosts},
		"no TLSFor":    {Hosts: hosts, TLSMode: backend.TLSPrefer},
	} {
		if _, err := backend.NewDialer(p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}
