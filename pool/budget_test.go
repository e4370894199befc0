package pool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/backend"
)

func TestIdleBackendOfAnotherPoolMakesRoom(t *testing.T) {
	bubble(t, 2, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 2}), newRig(t, pg, b, Limits{Size: 2})
		x, y := one.held("x"), one.held("x")
		x.release()
		y.release()
		two.held("x")
		one.wantStats(1, 0, 0)
		wantUsed(t, b, 2)
		one.end()
		two.end()
		wantUsed(t, b, 0)
	})
}

func TestFreedBackendMakesRoomForAnotherPool(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 2}), newRig(t, pg, b, Limits{Size: 2})
		one.closing = time.Second
		holder, waiting := one.held("x"), two.acquire("x")
		start := time.Now()
		holder.release()
		pg.pass(time.Minute)
		if waiting.b == nil || waiting.granted.Sub(start) != time.Second {
			t.Errorf("the other pool was served after %s", waiting.granted.Sub(start))
		}
		one.end()
		two.end()
	})
}

func TestTokenThatIsOfNoUseGoesOnToTheNextPool(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		one, two, three := newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1})
		holder, gone, waiting := one.held("x"), two.acquire("x"), three.acquire("x")
		two.do(func() { two.Cancel(&gone.w) })
		holder.release()
		if waiting.b == nil {
			t.Error("a token was given to a pool that had no use for it any more, and the next was forgotten")
		}
		for _, r := range []*rig{one, two, three} {
			r.end()
		}
		wantUsed(t, b, 0)
	})
}

func TestPoolsWaitForTheBudgetInTheirOrder(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1})
		holder, waiting := one.held("x"), two.acquire("x")
		again := one.acquire("y")
		holder.release()
		if waiting.b == nil || again.b != nil {
			t.Error("the pool that had waited longer was not the first to be served")
		}
		waiting.release()
		if again.b == nil {
			t.Error("the other pool was forgotten")
		}
		one.end()
		two.end()
	})
}

func TestOneWaiterCostsOneIdleBackend(t *testing.T) {
	bubble(t, 4, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 4}), newRig(t, pg, b, Limits{Size: 4})
		one.closing = time.Second
		var held []*client
		for range 4 {
			held = append(held, one.held("x"))
		}
		for _, c := range held {
			c.release()
		}
		two.acquire("x")
		for range 5 {
			two.do(two.Sweep)
		}
		one.wantStats(3, 0, 0)
		pg.pass(2 * time.Second)
		two.wantStats(0, 1, 0)
		one.end()
		two.end()
	})
}

func TestRaisedBudgetServesWhoWaits(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 5})
		r.held("x")
		two, three := r.acquire("x"), r.acquire("x")
		b.SetMax(2)
		synctest.Wait()
		if two.b == nil || three.b != nil {
			t.Error("one token more did not serve one waiter more")
		}
		b.SetMax(0)
		synctest.Wait()
		if three.b == nil {
			t.Error("no bound did not serve the rest")
		}
		wantUsed(t, b, 3)
		r.end()
		wantUsed(t, b, 0)
	})
}

func TestTheColdestIdleBackendOfAllPoolsMakesRoom(t *testing.T) {
	bubble(t, 4, func(t *testing.T, pg *postgres, b *Budget) {
		var donors []*rig
		for _, order := range []int{2, 0, 1} { // when its backend falls idle
			r := newRig(t, pg, b, Limits{Size: 2})
			donors = append(donors, r)
			c := r.held("x")
			time.AfterFunc(time.Duration(order+1)*time.Second, func() { r.loop.Post(func() { r.Release(c.b) }) })
			c.done = true
		}
		pg.pass(time.Minute)
		hot := donors[1].held("y") // its other one: hot, but its pool has the coldest too
		hot.release()
		taker := newRig(t, pg, b, Limits{Size: 4})
		for i, want := range [][]int{{1, 1, 1}, {1, 1, 0}, {0, 1, 0}, {0, 0, 0}} { // the y of donors[1] is the last to go
			taker.held("x")
			for j, r := range donors {
				var s Stats
				r.do(func() { s = r.Stats() })
				if s.Idle != want[j] {
					t.Errorf("after %d: donor %d has %d idle backends, want %d", i+1, j, s.Idle, want[j])
				}
			}
		}
		for _, r := range append(donors, taker) {
			r.end()
		}
		wantUsed(t, b, 0)
	})
}

func TestIdleBackendIsLookedForElsewhereWhenItsPoolHasLentIt(t *testing.T) {
	bubble(t, 2, func(t *testing.T, pg *postgres, b *Budget) {
		cold, other, taker := newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1})
		cold.held("x").release()
		pg.pass(time.Second)
		other.held("x").release()
		own, c, asked := cold.client("x"), taker.client("x"), make(chan struct{})
		cold.loop.Post(func() {
			<-asked
			own.b = cold.Acquire(&own.w, "x", "", backend.Target{Role: "x", Database: "app"})
		})
		taker.do(func() { taker.Acquire(&c.w, "x", "", backend.Target{Role: "x", Database: "app"}) })
		close(asked)
		synctest.Wait()
		if own.b == nil || c.b == nil {
			t.Error("a pool waits although a backend is idle")
		}
		for _, r := range []*rig{cold, other, taker} {
			r.end()
		}
	})
}

func TestPoolWhoseClientsHaveLeftIsMadeNoRoomFor(t *testing.T) {
	bubble(t, 1, func(t *testing.T, pg *postgres, b *Budget) {
		one, two := newRig(t, pg, b, Limits{Size: 1}), newRig(t, pg, b, Limits{Size: 1})
		holder, gone := one.held("x"), two.acquire("x")
		two.do(func() { two.Cancel(&gone.w) })
		holder.release()
		one.wantStats(1, 0, 0)
		one.end()
		two.end()
	})
}

func TestSharesNameTheLargestFirst(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		one, two, none := newRig(t, pg, b, Limits{Size: 3}), newRig(t, pg, b, Limits{Size: 3}), newRig(t, pg, b, Limits{Size: 3})
		one.held("x")
		two.held("x")
		two.held("x")
		two.Params.Key.Role = "bob"
		want := []Share{{two.Key, 2}, {one.Key, 1}}
		if got := b.Shares(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, r := range []*rig{one, two, none} {
			r.end()
		}
	})
}
