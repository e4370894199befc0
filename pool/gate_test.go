package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// passage is one attempt at a Gate.
type passage struct {
	round   uint64
	err     error
	entered time.Time // zero: not yet
}

// passages are attempts at one Gate, each on a goroutine of its own.
type passages struct {
	t    *testing.T
	gate *Gate
	wg   sync.WaitGroup
}

func newPassages(t *testing.T) *passages {
	ps := &passages{t: t, gate: NewGate()}
	t.Cleanup(ps.wg.Wait)
	return ps
}

// enter begins an attempt, and returns when it is through or waits.
func (ps *passages) enter(ctx context.Context, since time.Time, patience time.Duration) *passage {
	p := &passage{}
	ps.wg.Go(func() {
		round, err := ps.gate.enter(ctx, since, patience)
		*p = passage{round, err, time.Now()}
	})
	synctest.Wait()
	return p
}

// many begins n attempts.
func (ps *passages) many(n int) (all []*passage) {
	for range n {
		all = append(all, ps.enter(context.Background(), time.Now(), time.Hour))
	}
	return all
}

func (ps *passages) leave(p *passage, o outcome, err error) {
	ps.gate.leave(p.round, o, err)
	synctest.Wait()
}

func (ps *passages) want(limit, opening, waiting int) {
	ps.t.Helper()
	if got, want := ps.gate.Stats(), (GateStats{limit, opening, waiting}); got != want {
		ps.t.Errorf("gate %+v, want %+v", got, want)
	}
}

func TestGateWidensWithEachSuccessWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		all := ps.many(8)
		ps.want(4, 4, 4)
		ps.leave(all[0], dialOpened, nil)
		ps.want(5, 5, 2)
		ps.leave(all[1], dialRefused, nil) // tells nothing of what Postgres bears
		ps.want(5, 5, 1)
		ps.leave(all[2], dialOpened, nil)
		ps.want(6, 5, 0)
		for _, p := range all[3:] {
			ps.leave(p, dialOpened, nil) // nobody waits: nothing to gain
		}
		ps.want(6, 0, 0)
	})
}

func TestGateHasAnUpperBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		all := ps.many(3 * mostDials)
		for _, p := range all {
			if p.entered.IsZero() {
				t.Fatal("an attempt was not let through in its order")
			}
			ps.leave(p, dialOpened, nil)
		}
		ps.want(mostDials, 0, 0)
	})
}

func TestGateHalvesOnceForFailuresOfOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		all := ps.many(6)
		ps.leave(all[0], dialFailed, errUnreachable)
		ps.want(2, 3, 2)
		ps.leave(all[1], dialFailed, errUnreachable)
		ps.leave(all[2], dialFailed, errUnreachable)
		ps.want(2, 2, 1) // 3 and 4: the latter of the new round
		ps.leave(all[4], dialFailed, errUnreachable)
		ps.want(1, 1, 1)
		ps.leave(all[3], dialFailed, errUnreachable)
		ps.leave(all[5], dialFailed, errUnreachable)
		ps.want(1, 0, 0) // never none
	})
}

func TestGateLetsTheLongestWaiterThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		time.Sleep(time.Minute)
		first := ps.many(4)
		young := ps.enter(t.Context(), time.Now(), time.Hour)
		old := ps.enter(t.Context(), time.Now().Add(-time.Second), time.Hour)
		ps.leave(first[0], dialGivenUp, nil)
		if old.entered.IsZero() || !young.entered.IsZero() {
			t.Error("the younger one was let through first")
		}
		ps.leave(first[1], dialGivenUp, nil)
		if young.entered.IsZero() {
			t.Error("the younger one was forgotten")
		}
	})
}

func TestGateSendsTheImpatientAwayOnlyWhilePostgresIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		start := time.Now()
		first := ps.many(4)
		short, long := ps.enter(t.Context(), start, time.Second), ps.enter(t.Context(), start, 5*time.Second)
		time.Sleep(2 * time.Second)
		ps.want(4, 4, 2) // Postgres is slow, that is all
		ps.leave(first[0], dialFailed, errUnreachable)
		if !errors.Is(short.err, errUnreachable) || short.entered.Sub(start) != 2*time.Second {
			t.Errorf("got %v after %s, want the other's error at once", short.err, short.entered.Sub(start))
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if !errors.Is(long.err, errUnreachable) || long.entered.Sub(start) != 5*time.Second {
			t.Errorf("got %v after %s, want the other's error after 5 s", long.err, long.entered.Sub(start))
		}
		ps.want(2, 3, 0)
	})
}

func TestGateTakesBackTheTurnOfWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPassages(t)
		first := ps.many(4)
		ctx, cancel := context.WithCancel(t.Context())
		gone := ps.enter(ctx, time.Now(), time.Hour)
		next := ps.enter(t.Context(), time.Now(), time.Hour)
		cancel()
		ps.leave(first[0], dialGivenUp, nil)
		if !errors.Is(gone.err, context.Canceled) || next.entered.IsZero() || next.err != nil {
			t.Errorf("got %v for who has left, and %+v for the next", gone.err, next)
		}
		ps.want(4, 4, 0)
		if _, err := ps.gate.enter(ctx, time.Now(), time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
}
