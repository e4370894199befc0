package pool

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test with a Postgres and a Budget.
func bubble(t *testing.T, limit int, f func(t *testing.T, pg *postgres, b *Budget)) {
	synctest.Test(t, func(t *testing.T) { f(t, newPostgres(t), NewBudget(limit)) })
}

func TestLastUsedBackendIsLentFirst(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		one, two := r.held("x"), r.held("x")
		one.release()
		two.release()
		if got := r.held("x"); got.b != two.b {
			t.Error("the backend that was used last is not the first to be lent")
		}
		r.end()
	})
}

func TestReclaimLendsAnIdleBackendThatIsWanted(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3})
		one, two := r.held("x"), r.held("x")
		wanted := one.b
		is := func(b *Backend) bool { return b == wanted }
		if got := r.Reclaim("x", is); got != nil {
			t.Error("a backend that somebody holds was lent")
		}
		one.release()
		two.release()
		if got := r.Reclaim("y", is); got != nil {
			t.Error("a backend was lent for another baseline")
		}
		if got := r.Reclaim("x", is); got != wanted {
			t.Error("the backend below the one that was used last is not lent")
		}
		if got := r.Reclaim("x", is); got != nil {
			t.Error("it was lent twice")
		}
		r.Release(wanted)
		r.end()
	})
}

func TestFreedBackendGoesToTheLongestWaiter(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		holder := r.held("x")
		first, second, third := r.acquire("x"), r.acquire("x"), r.acquire("x")
		r.do(func() {
			if !r.Cancel(&second.w) || r.Cancel(&second.w) {
				t.Error("Cancel does not report whether it took the waiter out of its line")
			}
		})
		r.wantStats(0, 1, 2)
		holder.release()
		if first.b != holder.b || third.b != nil {
			t.Error("the longest waiter was not served first")
		}
		first.release()
		if third.b == nil || second.b != nil {
			t.Error("the cancelled waiter was served, or the next one was not")
		}
		third.release()
		r.wantStats(1, 0, 0)
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestIdleBackendOfAnotherBaselineMakesRoom(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 2})
		one, two := r.held("x"), r.held("x")
		one.release()
		two.release()
		r.held("y")
		r.wantStats(1, 1, 0)
		r.end()
	})
}

func TestOwnIdleBackendMakesRoomInTheBudget(t *testing.T) {
	bubble(t, 2, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 5})
		one, two := r.held("x"), r.held("x")
		one.release()
		two.release()
		r.held("y")
		r.wantStats(1, 1, 0)
		wantUsed(t, b, 2)
		r.end()
	})
}

func TestFreedBackendMakesRoomForAnotherBaselineInTheBudget(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 5})
		holder := r.held("x")
		other := r.acquire("y")
		holder.release()
		if other.b == nil {
			t.Error("the waiter of the other baseline was not served")
		}
		r.end()
	})
}

func TestOlderWaiterOfAnotherBaselineIsNotStarved(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		holder := r.held("x")
		older := r.acquire("y")
		pg.pass(fairAfter - time.Nanosecond)
		younger := r.acquire("x")
		holder.release()
		if younger.b == nil {
			t.Fatal("a waiter of the same baseline was passed over before fairAfter")
		}
		youngest := r.acquire("x")
		pg.pass(time.Nanosecond)
		younger.release()
		if older.b == nil || youngest.b != nil {
			t.Fatal("the older waiter was not served after fairAfter")
		}
		older.release()
		if youngest.b == nil {
			t.Error("the younger waiter was forgotten")
		}
		r.end()
	})
}

func TestPinnedBackendsAreBounded(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 3, MaxPinned: 1})
		one, two := r.held("x"), r.held("x")
		r.do(func() {
			if !r.Pin(one.b) || !r.Pin(one.b) || r.Pin(two.b) || r.Pinned() != 1 {
				t.Error("Pin does not keep to MaxPinned")
			}
			r.Discard(one.b)
			one.done = true
			if !r.Pin(two.b) || r.Pinned() != 1 {
				t.Error("a discarded backend still counts as pinned")
			}
		})
		r.end()
	})
}

func TestCloseRefusesWaitersAndEndsWhenTheLastIsBack(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		holder, waiting := r.held("x"), r.acquire("x")
		emptied := 0
		r.do(func() { r.Close(func() { emptied++ }); r.Close(func() { emptied++ }) })
		if !errors.Is(waiting.err, ErrClosed) {
			t.Errorf("the waiter got %v", waiting.err)
		}
		if late := r.acquire("x"); !errors.Is(late.err, ErrClosed) {
			t.Errorf("a late client got %v", late.err)
		}
		if emptied != 0 {
			t.Error("empty was called while a backend is held")
		}
		holder.release()
		if emptied != 1 {
			t.Errorf("empty was called %d times", emptied)
		}
		wantUsed(t, b, 0)
	})
}

func TestCloseWhileOpeningABackend(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(nil, time.Hour)
		r := newRig(t, pg, b, Limits{Size: 1})
		c := r.acquire("x")
		start := time.Now()
		emptied := 0
		r.do(func() { r.Close(func() { emptied++ }) })
		if !errors.Is(c.err, ErrClosed) || emptied != 1 || time.Since(start) != 0 {
			t.Errorf("the client got %v, empty was called %d times after %s", c.err, emptied, time.Since(start))
		}
		wantUsed(t, b, 0)
	})
}

func TestAttemptsArePacedAndEndAfterRetry(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(errUnreachable, 0)
		r := newRig(t, pg, b, Limits{Size: 1})
		start := time.Now()
		c := r.acquire("x")
		pg.pass(time.Minute)
		var got []time.Duration
		for _, at := range pg.attempts {
			got = append(got, at.Sub(start)/time.Millisecond)
		}
		if want := []time.Duration{0, 50, 150, 350, 750, 1550, 2550, 3550, 4550, 5000}; !slices.Equal(got, want) {
			t.Errorf("attempts after %d ms, want %d", got, want)
		}
		if !errors.Is(c.err, errUnreachable) || c.granted.Sub(start) != 5*time.Second {
			t.Errorf("the client got %v after %s", c.err, c.granted.Sub(start))
		}
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestRejectionEndsTheWaitAtOnce(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(errRejected, 0)
		r := newRig(t, pg, b, Limits{Size: 1})
		if c := r.acquire("x"); !errors.Is(c.err, errRejected) || len(pg.attempts) != 1 {
			t.Errorf("the client got %v after %d attempts", c.err, len(pg.attempts))
		}
		wantUsed(t, b, 0)
		r.end()
	})
}

func TestYoungerWaiterIsNotToldOfAnOlderFailure(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		pg.set(errUnreachable, 0)
		r := newRig(t, pg, b, Limits{Size: 1})
		start := time.Now()
		older := r.acquire("x")
		pg.pass(3 * time.Second)
		younger := r.acquire("x")
		pg.pass(2500 * time.Millisecond)
		if older.err == nil || younger.err != nil {
			t.Fatalf("after 5.5 s the older has %v, the younger %v", older.err, younger.err)
		}
		pg.set(nil, 0)
		pg.pass(time.Second)
		if younger.b == nil {
			t.Errorf("the younger waiter got %v after %s", younger.err, time.Since(start))
		}
		r.end()
	})
}
