package pool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// crowd is a role with more clients than backends: each holds a backend for a while and asks for another at once.
type crowd struct {
	r      *rig
	turn   time.Duration
	uneven bool // turn is the mean of what it takes
	state  string
	seed   uint64

	joined  int
	served  int
	changed int           // of these, by a backend with another state
	longTo  time.Duration // the longest wait
}

// take returns how long a client holds its backend this time.
func (c *crowd) take(rng *rand.Rand) time.Duration {
	if !c.uneven {
		return c.turn
	}
	return time.Duration(float64(c.turn) * rng.ExpFloat64())
}

// join adds a client that comes again and again until its rig ends.
func (c *crowd) join(t *testing.T) {
	c.joined++
	rng := rand.New(rand.NewPCG(uint64(c.joined), c.seed))
	go func() {
		for state := ""; !c.r.over(); state = c.state { // it sets something the first time
			one := c.r.acquireHere("x", state)
			asked := time.Now()
			select {
			case <-one.answered:
			case <-t.Context().Done():
				return
			}
			if one.err != nil {
				return
			}
			time.Sleep(c.take(rng))
			c.r.loop.Do(func() {
				c.served++
				c.longTo = max(c.longTo, one.granted.Sub(asked))
				one.done = true
				if one.b.State != state {
					c.changed++
				}
				one.b.State = c.state
				c.r.Release(one.b)
			})
		}
	}()
}

// TestAThousandWaitersOfOneRoleDoNotStarveAnother has the budget be what is short: the role with few clients gets its
// share however long the line of the other is, and does not wait longer than it takes to notice and to change a backend.
func TestAThousandWaitersOfOneRoleDoNotStarveAnother(t *testing.T) {
	for _, budget := range []int{1, 2, 20} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pg, b := newPostgres(t), NewBudget(budget)
				pg.set(nil, 10*time.Millisecond)
				many := &crowd{r: newRig(t, pg, b, Limits{Size: 50}), turn: 20 * time.Millisecond}
				few := &crowd{r: newRig(t, pg, b, Limits{Size: 50}), turn: 20 * time.Millisecond}
				for range 1000 {
					many.join(t)
				}
				time.Sleep(10 * time.Second) // by now its first waiter has waited longer than any of the others ever will
				few.join(t)
				time.Sleep(20 * time.Second)
				few.end(t)
				many.end(t)
				synctest.Wait()
				if few.served < 20 || few.longTo > time.Second {
					t.Errorf("the small role was served %d times in 20 s and waited up to %s", few.served, few.longTo)
				}
				if least := 50 * 20 * budget / 4; many.served < least {
					t.Errorf("the big role was served %d times, want %d: backends are changed too often", many.served, least)
				}
			})
		})
	}
}

// TestRolesThatAllWantMoreGetEqualShares has three roles with a hundred clients each share a budget.
func TestRolesThatAllWantMoreGetEqualShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg, b := newPostgres(t), NewBudget(6)
		var roles []*crowd
		for range 3 {
			c := &crowd{r: newRig(t, pg, b, Limits{Size: 6}), turn: 10 * time.Millisecond}
			for range 100 {
				c.join(t)
			}
			roles = append(roles, c)
			time.Sleep(5 * time.Second) // the first has it all, then two share
		}
		time.Sleep(5 * time.Second)
		before := pg.dials()
		for _, c := range roles {
			var s Stats
			c.r.loop.Do(func() { s = c.r.Stats() })
			if s.Active+s.Idle+s.Login != 2 {
				t.Errorf("%+v, want 2 backends of the 6", s)
			}
		}
		time.Sleep(time.Minute)
		if n := pg.dials() - before; n > 0 {
			t.Errorf("%d backends were opened by roles that have their shares", n)
		}
		for _, c := range roles {
			c.end(t)
		}
	})
}

// TestMoreRolesThanBackendsTakeTurns has five roles share two backends.
func TestMoreRolesThanBackendsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg, b := newPostgres(t), NewBudget(2)
		var roles []*crowd
		for range 5 {
			c := &crowd{r: newRig(t, pg, b, Limits{Size: 6}), turn: 10 * time.Millisecond}
			for range 20 {
				c.join(t)
			}
			roles = append(roles, c)
		}
		time.Sleep(time.Minute)
		var served []int
		for _, c := range roles {
			c.r.loop.Do(func() { served = append(served, c.served) })
		}
		if slices.Min(served) < 60*100*2/5*3/4 {
			t.Errorf("the roles were served %d times", served)
		}
		if n := pg.dials(); n > 60*2*10+2 {
			t.Errorf("%d backends were opened in a minute: each turn must last %s", n, fairAfter)
		}
		for _, c := range roles {
			c.end(t)
		}
	})
}

// end ends the crowd: its clients leave.
func (c *crowd) end(t *testing.T) {
	t.Helper()
	c.r.loop.Do(func() { c.r.Close(func() { c.r.emptied++ }) })
	time.Sleep(time.Minute)
	synctest.Wait()
	c.r.loop.Do(func() {
		if c.r.emptied != 1 {
			t.Errorf("empty was called %d times, want once: %+v", c.r.emptied, c.r.Stats())
		}
	})
}
