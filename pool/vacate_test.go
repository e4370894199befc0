package pool

import (
	"testing"
	"time"
)

func TestVacatedPoolKeepsNobodyWhoIsNotHeld(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3, MinIdle: 1})
		held, idle := r.held("x"), r.held("x")
		idle.release()
		empty := false
		r.do(func() { r.Vacate(func() { empty = true }) })
		r.wantStats(0, 1, 0)
		if !empty {
			t.Error("not said to be empty")
		}
		r.do(r.Sweep) // MinIdle does not count now
		waiting := r.acquire("x")
		r.wantStats(0, 1, 1)
		held.release()
		r.wantStats(0, 0, 1)
		pg.pass(time.Minute)
		r.wantStats(0, 0, 1)
		r.do(r.Occupy)
		r.wantStats(0, 1, 0)
		waiting.release()
		r.wantStats(1, 0, 0)
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestVacateWaitsForWhatIsBeingOpened(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		pg.set(nil, time.Second)
		c := r.acquire("x")
		empty := false
		r.do(func() { r.Vacate(func() { empty = true }) })
		if empty {
			t.Error("empty with a backend that is being opened")
		}
		pg.pass(time.Second)
		if !empty {
			t.Error("not empty behind the login")
		}
		r.wantStats(0, 0, 1)
		r.do(r.Occupy)
		pg.pass(time.Second)
		r.wantStats(0, 1, 0)
		c.release()
		r.end()
	})
}
