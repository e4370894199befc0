package pool

import (
	"slices"
	"testing"
	"time"
)

func TestBackendsAreOpenedAtFullSpeedWhilePostgresBearsIt(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(nil, 10*time.Millisecond)
		r := newRig(t, pg, b, Limits{Size: 100})
		start := time.Now()
		var all []*client
		for range 100 {
			all = append(all, r.acquire("x"))
		}
		pg.pass(time.Minute)
		last := slices.MaxFunc(all, func(x, y *client) int { return x.granted.Compare(y.granted) })
		if got := last.granted.Sub(start); got != 50*time.Millisecond { // 4, 8, 16, 32 and 40 at a time
			t.Errorf("the last of 100 backends was there after %s, want 50 ms", got)
		}
		r.end()
	})
}

// TestPostgresThatComesBackIsNotOverrun has a hundred clients of five pools wait for a Postgres that is away.
func TestPostgresThatComesBackIsNotOverrun(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(errUnreachable, 10*time.Millisecond)
		var pools []*rig
		for range 5 {
			r := newRig(t, pg, b, Limits{Size: 20})
			pools = append(pools, r)
			for range 20 {
				r.acquire("x")
			}
		}
		pg.pass(3 * time.Second)
		if g := pg.gate.Stats(); g.Limit != 1 || g.Opening > 1 {
			t.Errorf("%+v while Postgres is away, want one attempt at a time", g)
		}
		pg.set(nil, 10*time.Millisecond)
		pg.pass(11 * time.Millisecond)
		pg.mu.Lock()
		pg.most = 0
		pg.mu.Unlock()
		pg.pass(25 * time.Millisecond)
		pg.mu.Lock()
		most := pg.most
		pg.mu.Unlock()
		if most > 8 {
			t.Errorf("%d logins at a time at once", most)
		}
		pg.pass(4 * time.Second)
		for _, r := range pools {
			r.wantStats(0, 20, 0)
			r.end()
		}
	})
}

func TestAttemptIsWithdrawnWhenNobodyWaitsForIt(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(nil, time.Second)
		r := newRig(t, pg, b, Limits{Size: 20})
		var all []*client
		for range 10 {
			all = append(all, r.acquire("x"))
		}
		wantUsed(t, b, 10)
		for _, c := range all[:9] { // their pool_wait_timeout has passed
			c.r.do(func() { r.Cancel(&c.w) })
		}
		wantUsed(t, b, 4) // those that have had their turn
		pg.pass(10 * time.Second)
		if n := pg.dials(); n != 4 {
			t.Errorf("%d backends were opened, want 4", n)
		}
		r.wantStats(3, 1, 0)
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestPlaceOfAWithdrawnAttemptServesWhoWaits(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(nil, time.Second)
		busy := newRig(t, pg, b, Limits{Size: 4})
		for range 4 {
			busy.acquire("x") // they keep the gate busy
		}
		r := newRig(t, pg, b, Limits{Size: 1})
		one, two := r.acquire("x"), r.acquire("y")
		r.do(func() { r.Cancel(&one.w) })
		pg.pass(10 * time.Second)
		if two.b == nil {
			t.Error("the place that was freed was forgotten")
		}
		busy.end()
		r.end()
	})
}

func TestWarmingEndsWhenPostgresRefuses(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3, MinIdle: 2})
		r.held("x").release()
		r.do(r.Renew)
		pg.set(errRejected, 0)
		for range 10 {
			r.do(r.Sweep)
			pg.pass(time.Second)
		}
		if n := pg.dials(); n != 3 {
			t.Errorf("it was tried %d times, want twice behind the first, and no more", n-1)
		}
		pg.set(nil, 0)
		r.do(r.Renew) // there is another password
		r.do(r.Sweep)
		r.wantStats(2, 0, 0)
		r.end()
	})
}

func TestPausedPoolOpensNoMoreThanItNeeds(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 5})
		one, two := r.held("x"), r.held("x")
		one.release()
		two.release()
		r.do(r.Pause)
		waiting := []*client{r.acquire("x"), r.acquire("x")}
		r.do(r.Sweep)
		if n := pg.dials(); n != 2 {
			t.Errorf("%d backends were opened beside two that are idle", n-2)
		}
		third := r.acquire("x")
		if n := pg.dials(); n != 3 {
			t.Errorf("%d backends were opened for one client more than are idle", n-2)
		}
		r.do(r.Resume)
		for _, c := range append(waiting, third) {
			if c.b == nil {
				t.Error("a client was not served after the pause")
			}
		}
		r.end()
	})
}
