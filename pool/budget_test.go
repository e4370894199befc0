package pool

import (
	"testing"
	"testing/synctest"
	"time"
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
