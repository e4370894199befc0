package backend_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/pgscript"
)

func TestQueryReturnsRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, newHarness(t, pgscript.Options{}).dialer(nil))
		limit := backend.Limit{Rows: 3, Bytes: 100}
		for _, tc := range []struct {
			sql  string
			args []string
			want [][]*string
		}{
			{"SELECT $1::text, NULL, ''", []string{"it's"}, [][]*string{{new("it's"), nil, new("")}}},
			{"SELECT generate_series(1,3)", nil, [][]*string{{new("1")}, {new("2")}, {new("3")}}},
			{"SET application_name = 'sluice'", nil, nil},
			{"", nil, nil},
		} {
			got, err := c.Query(t.Context(), limit, tc.sql, tc.args...)
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%s: %v (-want +got):\n%s", tc.sql, err, diff)
			}
		}
		var name string
		for _, p := range c.Params {
			if p.Name == "application_name" {
				name = p.Value
			}
		}
		if name != "sluice" {
			t.Errorf("reported parameters are %v", c.Params)
		}
	})
}

func TestQueryErrorLeavesTheConnectionUsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, newHarness(t, pgscript.Options{}).dialer(nil))
		limit := backend.Limit{Rows: 2, Bytes: 100}
		_, err := c.Query(t.Context(), limit, "SELECT 1/0")
		if e, ok := errors.AsType[*auth.ServerError](err); !ok || e.Response.Code != "22012" {
			t.Errorf("got %v, want 22012", err)
		}
		if _, err := c.Query(t.Context(), limit, "SELECT generate_series(1,3)"); !errors.Is(err, backend.ErrLimit) {
			t.Errorf("too many rows: got %v, want ErrLimit", err)
		}
		if rows, err := c.Query(t.Context(), limit, "SELECT generate_series(1,2)"); err != nil || len(rows) != 2 || c.Broken() {
			t.Errorf("afterwards: %d rows, %v", len(rows), err)
		}
	})
}

func TestTooManyBytesBreakTheConnection(t *testing.T) {
	for _, sql := range []string{"SELECT repeat('x',101)", "SELECT repeat('x',200000)"} {
		synctest.Test(t, func(t *testing.T) {
			c := dial(t, newHarness(t, pgscript.Options{}).dialer(nil))
			limit := backend.Limit{Rows: 1, Bytes: 100}
			if rows, err := c.Query(t.Context(), limit, sql); !errors.Is(err, backend.ErrLimit) || !c.Broken() || rows != nil {
				t.Errorf("%s: got %d rows, %v, want ErrLimit", sql, len(rows), err)
			}
			if _, err := c.Query(t.Context(), limit, "SELECT 1"); !errors.Is(err, backend.ErrBroken) {
				t.Errorf("afterwards: got %v, want ErrBroken", err)
			}
		})
	}
}

func TestQueryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, newHarness(t, pgscript.Options{}).dialer(nil))
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := c.Query(ctx, backend.Limit{}, "SELECT pg_sleep(10)")
		wantElapsed(t, start, 3*time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || !c.Broken() {
			t.Errorf("got %v, broken is %t", err, c.Broken())
		}
	})
}

func TestQueryWithADoneContextSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		c := dial(t, h.dialer(nil))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Query(ctx, backend.Limit{}, "SELECT 1"); !errors.Is(err, context.Canceled) || c.Broken() {
			t.Errorf("got %v, broken is %t", err, c.Broken())
		}
		synctest.Wait()
		if got := h.server.Received(); len(got) != 0 {
			t.Errorf("Postgres received %q", got)
		}
	})
}

func TestBackendThatDiesDuringAQuerySaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		c := dial(t, h.dialer(nil))
		time.AfterFunc(time.Second, func() { h.server.KillConn(c.PID, true) })
		_, err := c.Query(t.Context(), backend.Limit{}, "SELECT pg_sleep(10)")
		if e, ok := errors.AsType[*auth.ServerError](err); !ok || e.Response.Code != "57P01" || !c.Broken() {
			t.Errorf("got %v, broken is %t", err, c.Broken())
		}
	})
}

func TestCloseSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		c := dial(t, h.dialer(nil))
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"Terminate"}, h.server.Received()); diff != "" || h.server.Open() != 0 {
			t.Errorf("%d connections are open; received (-want +got):\n%s", h.server.Open(), diff)
		}
	})
}

func TestCloseDoesNotWaitForAPostgresThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{QueryDelay: time.Hour}})
		c := dial(t, h.dialer(nil))
		_ = c.NetConn().SetWriteDeadline(time.Now().Add(time.Minute))
		_, _ = c.NetConn().Write([]byte("Q\x00\x00\x00\x0dSELECT 1\x00"))
		_, _ = c.NetConn().Write([]byte("d\x00\x7f\x00\x00" + long(200000))) // until the buffer is full
		start := time.Now()
		_ = c.Close()
		wantElapsed(t, start, time.Second)
	})
}

func TestCancelStopsTheQueryAndWaitsForPostgres(t *testing.T) {
	config, _ := certificate(t, x509.ECDSAWithSHA256)
	for _, mode := range []string{backend.TLSDisable, backend.TLSPrefer} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{TLS: config})
				d := h.dialer(func(p *backend.Params) { p.TLSMode, p.TLSFor = mode, trusting })
				c := dial(t, d)
				done := make(chan error)
				start := time.Now()
				go func() {
					_, err := c.Query(t.Context(), backend.Limit{Rows: 1}, "SELECT pg_sleep(60)")
					done <- err
				}()
				time.Sleep(2 * time.Second)
				if err := d.Cancel(t.Context(), c.Identity); err != nil {
					t.Errorf("cancel: %v", err)
				}
				if e, ok := errors.AsType[*auth.ServerError](<-done); !ok || e.Response.Code != "57014" {
					t.Errorf("the query ended with %v", e)
				}
				wantElapsed(t, start, 2*time.Second)
				if h.server.Cancels() != 1 {
					t.Errorf("%d cancel requests", h.server.Cancels())
				}
			})
		})
	}
}

func TestCancelWaitsUntilPostgresCloses(t *testing.T) {
	for name, tc := range map[string]struct {
		play func(nc net.Conn)
		took time.Duration
		ok   bool
	}{
		"which takes a while": {func(net.Conn) { time.Sleep(3 * time.Second) }, 3 * time.Second, true},
		"or the time is up":   {func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }, 10 * time.Second, false},
		"not if it answers":   {func(nc net.Conn) { _, _ = nc.Write([]byte("E")) }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{})
				d := h.dialer(nil)
				c := dial(t, d)
				h.server.Close()
				h.listen(address, func(nc net.Conn) {
					_, _ = io.ReadFull(nc, make([]byte, 16))
					tc.play(nc)
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				if err := d.Cancel(ctx, c.Identity); (err == nil) != tc.ok {
					t.Errorf("cancel: %v", err)
				}
				wantElapsed(t, start, tc.took)
			})
		})
	}
}

func TestCancelWithoutAKeyOrAServerIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		d := h.dialer(nil)
		id := dial(t, d).Identity
		if err := d.Cancel(t.Context(), backend.Identity{Addr: id.Addr}); err == nil {
			t.Error("cancel without a key succeeded")
		}
		h.server.Close()
		if err := d.Cancel(t.Context(), id); !backend.Unreachable(err) {
			t.Errorf("cancel on a server that is gone: %v", err)
		}
	})
}
