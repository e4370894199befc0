package pool

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdleBackendThatCarriesTheStateIsLentFirst(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 4})
		one, two, three, four := r.acquireAs("x", "1"), r.acquireAs("x", "2"), r.acquireAs("x", "1"), r.acquireAs("x", "")
		for _, c := range []*client{one, two, three, four} {
			c.release()
		}
		if got := r.acquireAs("x", "1"); got.b != three.b {
			t.Error("not the last used of those with the state")
		}
		if got := r.acquireAs("x", "1"); got.b != one.b {
			t.Error("not the other one with the state")
		}
		if got := r.acquireAs("x", "1"); got.b != four.b {
			t.Error("not the last used of those with another state")
		}
		if got := r.acquireAs("x", ""); got.b != two.b {
			t.Error("not the one that is left")
		}
		r.end()
	})
}

func TestFreedBackendGoesToAWaiterWithItsState(t *testing.T) {
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		holder := r.acquireAs("x", "1")
		other, same, later := r.acquireAs("x", "2"), r.acquireAs("x", "1"), r.acquireAs("x", "1")
		pg.pass(time.Millisecond)
		holder.release()
		if same.b == nil || other.b != nil || later.b != nil {
			t.Fatal("it did not go to the longest waiter with its state")
		}
		r.do(func() { r.Cancel(&later.w) })
		same.release()
		if other.b == nil {
			t.Error("it did not go to the longest waiter when there was none with its state")
		}
		r.end()
	})
}

// turns has clients with these states wait in this order, each for gap longer than the next, for a backend that has state 1, and
// returns the states in the order in which they are served, none for longer than an instant.
func turns(t *testing.T, gap time.Duration, states string) (served string) {
	t.Helper()
	bubble(t, 0, func(t *testing.T, pg *postgres, b *Budget) {
		r := newRig(t, pg, b, Limits{Size: 1})
		holder := r.acquireAs("x", "1")
		var line []*client
		for _, state := range states {
			line = append(line, r.acquireAs("x", string(state)))
			pg.pass(gap)
		}
		for len(line) > 0 {
			holder.release()
			at := slices.IndexFunc(line, func(c *client) bool { return c.b != nil })
			served += line[at].state
			holder = line[at]
			line = slices.Delete(line, at, at+1)
		}
		r.end()
	})
	return served
}

func TestNobodyIsPassedOverByOneThatHasWaitedLessThanAThirdAsLong(t *testing.T) {
	// The first has waited for 80 ms, the others for 70, 60, 50, 40, 30, 20 …
	if got, want := turns(t, 10*time.Millisecond, "21111111"), "11111211"; got != want {
		t.Errorf("served: %s, want %s", got, want)
	}
}

func TestNobodyIsPassedOverForLong(t *testing.T) {
	if got, want := turns(t, patience/10, "211111111"), "111111211"; got != want {
		t.Errorf("within its patience: %s, want %s", got, want)
	}
	if got, want := turns(t, patience/10, "2111111111"), "2111111111"; got != want {
		t.Errorf("when it has lost its patience: %s, want %s", got, want)
	}
}

// TestStatesShareTheBackendsByTheirClients has more clients of some states than of others: all are served about as often, and
// backends hardly ever change their state.
func TestStatesShareTheBackendsByTheirClients(t *testing.T) {
	for name, clients := range map[string][]int{
		"as many of each": {50, 50, 50, 50, 50, 50, 50, 50},
		"few of some":     {16, 24, 32, 40, 48, 60, 80, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newPostgres(t), NewBudget(0), Limits{Size: 20})
				var crowds []*crowd
				for state, n := range clients {
					c := &crowd{r: r, turn: 5 * time.Millisecond, uneven: true, state: strconv.Itoa(state), seed: uint64(state)}
					for range n {
						c.join(t)
					}
					crowds = append(crowds, c)
				}
				time.Sleep(6 * time.Second)
				r.loop.Do(func() { wantShares(t, crowds) })
				crowds[0].end(t)
			})
		})
	}
}

// wantShares checks how 400 clients were served by 20 backends, 5 ms at a time, for 6 s: in a strict line each waits for 100 ms.
func wantShares(t *testing.T, crowds []*crowd) {
	t.Helper()
	served, changed := 0, 0
	for _, c := range crowds {
		served, changed = served+c.served, changed+c.changed
		if each := c.served / c.joined; each < 30 || each > 120 {
			t.Errorf("each of the %d with state %q was served %d times, want about 60", c.joined, c.state, each)
		}
		if c.longTo > time.Second {
			t.Errorf("one with state %q waited for %s", c.state, c.longTo)
		}
	}
	if served < 22_000 || changed > served/15 {
		t.Errorf("they were served %d times, %d times by a backend with another state", served, changed)
	}
}
