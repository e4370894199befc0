package pool

import (
	"testing"
	"time"

	"sluice/internal/backend"
)

func TestIdleTimeoutIsExactAndLeavesMinIdle(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3, MinIdle: 1, IdleTimeout: time.Minute})
		one, two := r.held("x"), r.held("x")
		one.release()
		two.release()
		pg.pass(time.Minute - time.Nanosecond)
		r.do(r.Sweep)
		r.wantStats(2, 0, 0)
		pg.pass(time.Nanosecond)
		r.do(r.Sweep)
		r.wantStats(1, 0, 0)
		r.end()
	})
}

func TestMaxLifetimeClosesBackendsWithinItsLastTenth(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 2, MaxLifetime: time.Hour})
		idle, held := r.held("x"), r.held("x")
		for _, c := range []*client{idle, held} {
			if d := time.Until(c.b.expires); d < 54*time.Minute || d > time.Hour {
				t.Errorf("expires after %s", d)
			}
		}
		idle.release()
		pg.pass(time.Until(idle.b.expires) - time.Nanosecond)
		r.do(func() {
			if r.expired(idle.b) {
				t.Error("expired too early")
			}
		})
		pg.pass(time.Hour - 54*time.Minute)
		r.do(r.Sweep)
		r.wantStats(0, 1, 0)
		held.release()
		r.wantStats(0, 0, 0)
		r.end()
	})
}

func TestMinIdleIsKeptWarm(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3, MinIdle: 2})
		r.do(r.Sweep)
		r.wantStats(0, 0, 0) // nobody has come yet: whom to log in as is not known
		c := r.held("x")
		c.release()
		r.do(r.Sweep)
		r.wantStats(2, 0, 0)
		r.do(func() { r.Lost(c.b) })
		r.do(r.Sweep)
		r.wantStats(2, 0, 0)
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestMinIdleThatIsRaisedLaterIsKeptWarm(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		c := r.held("x")
		c.done = true
		r.do(func() { r.Discard(c.b) })
		r.do(r.Sweep)
		r.do(func() { r.SetLimits(Limits{Size: 3, MinIdle: 1}) })
		r.do(r.Sweep)
		r.wantStats(1, 0, 0)
		if again := r.held("x"); len(pg.attempts) != 2 {
			t.Errorf("backend %d was opened, the warm one not used", again.b.Conn.PID)
		}
		r.end()
	})
}

func TestMinIdleTakesNobodysBackend(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 2, MinIdle: 1}), newRig(t, pg, b, Limits{Size: 2, MinIdle: 1})
		one.held("x").release()
		two.held("x").release()
		for range 10 {
			one.do(one.Sweep)
			two.do(two.Sweep)
			pg.pass(time.Second)
		}
		if len(pg.attempts) != 2 {
			t.Errorf("%d backends were opened: the pools take them from each other", len(pg.attempts))
		}
		one.end()
		two.end()
	})
}

func TestRenewRetiresIdleHeldAndThoseBeingOpened(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		idle, held := r.held("x"), r.held("x")
		idle.release()
		pg.set(nil, time.Second)
		r.held("x").release()
		opening := r.acquire("y")
		r.do(func() {
			r.Renew()
			r.SetLogin(backend.Target{Role: "new", Database: "app"})
		})
		r.wantStats(0, 1, 1)
		held.release()
		r.wantStats(0, 0, 1)
		pg.pass(2 * time.Second)
		if opening.b == nil || pg.targets[len(pg.targets)-1] != "new" {
			t.Errorf("the waiter was served by a backend that began to be opened before Renew, as %q", pg.targets)
		}
		r.end()
	})
}

func TestRejectionOfARenewedLoginIsNotTold(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(errRejected, time.Second)
		r := newRig(t, pg, b, Limits{Size: 1})
		c := r.acquire("x")
		pg.set(nil, 0)
		r.do(r.Renew)
		pg.pass(time.Minute)
		if c.b == nil {
			t.Errorf("the client got %v, which is about the login before Renew", c.err)
		}
		r.end()
	})
}

func TestLostIdleBackendIsReplaced(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		r.closing = time.Second
		c := r.held("x")
		r.do(func() { r.Lost(c.b) }) // is held: its session will say so
		r.wantStats(0, 1, 0)
		c.release()
		r.do(func() { r.Lost(c.b); r.Lost(c.b) })
		next := r.acquire("x")
		if next.b != nil {
			t.Error("lent while the lost one, which is not closed yet, takes the only place")
		}
		pg.pass(time.Minute)
		if next.b == nil {
			t.Error("the waiter was forgotten")
		}
		r.end()
	})
}

func TestLoweredSizeClosesIdleAtOnceAndHeldWhenFree(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		one, two, idle := r.held("x"), r.held("x"), r.held("x")
		idle.release()
		r.do(func() { r.SetLimits(Limits{Size: 1}) })
		r.wantStats(0, 2, 0)
		one.release()
		r.wantStats(0, 1, 0)
		two.release()
		r.wantStats(1, 0, 0)
		r.end()
	})
}
