package pool

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"

	"sluice/internal/backend"
)

// Intervals between attempts to reach Postgres.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// pump opens backends for those who wait, as far as the limits allow.
func (p *Pool) pump() {
	for p.openNext(false) {
		continue
	}
}

// granted is called with a token of the Budget that p has waited for. It goes on to the next pool if it is of no use here.
func (p *Pool) granted() {
	p.short = false
	if !p.openNext(true) {
		p.Budget.give(p)
	}
	p.pump()
}

// makeRoom closes an idle backend for a waiter whom it cannot serve, for the sake of its token, if no other pool does.
func (p *Pool) makeRoom() {
	if s := p.neediest(); s != nil && p.closing == 0 && p.Budget.lacks() {
		p.closeColdest(s)
	}
}

// openNext opens a backend for the waiter that needs it most, if there is one and the limits allow it. token tells that a
// token of the Budget has been taken.
func (p *Pool) openNext(token bool) bool {
	if p.closed || p.vacated || p.waiting == 0 {
		return false
	}
	s := p.neediest()
	if s == nil {
		return false
	}
	for p.total-p.closing >= p.Limits.Size {
		if !p.closeColdest(s) {
			return false
		}
	}
	if p.total >= p.Limits.Size {
		return false // a backend that is being closed makes room soon
	}
	if !token && (p.short || !p.Budget.take(p)) {
		p.short = true
		return false
	}
	p.open(s)
	return true
}

// neediest returns the shelf whose first waiter has waited longest and for whom there is no backend, which can be idle
// during a Pause, and none is being opened.
func (p *Pool) neediest() *shelf {
	var found *shelf
	for _, s := range p.shelves {
		if w := s.waiters.first(); w != nil && s.login+len(s.idle) < s.waiters.len &&
			(found == nil || w.since.Before(found.waiters.first().since)) {
			found = s
		}
	}
	return found
}

// closeColdest closes the backend that has been idle longest, of another shelf than not.
func (p *Pool) closeColdest(not *shelf) bool {
	if not != nil && len(p.shelves) == 1 {
		return false
	}
	var coldest *Backend
	for _, s := range p.shelves {
		if s != not && len(s.idle) > 0 && (coldest == nil || s.idle[0].since.Before(coldest.since)) {
			coldest = s.idle[0]
		}
	}
	if coldest == nil {
		return false
	}
	p.take(coldest)
	p.close(coldest)
	return true
}

// evict closes an idle backend because the Budget has asked for it. The Budget asks on if there is none any more.
func (p *Pool) evict() {
	p.Budget.answered()
	p.closeColdest(nil)
	p.Budget.relieve()
}

// attempt is a backend that is being opened. It waits, for its turn or to try again, or dials, until it is over or has
// been withdrawn.
type attempt struct {
	shelf      *shelf
	dialer     Dialer
	target     backend.Target
	began      time.Time
	generation uint64

	ctx    context.Context
	cancel context.CancelFunc
	state  atomic.Uint32 // attemptWaits and so on
}

const (
	attemptWaits uint32 = iota
	attemptDials
	attemptWithdrawn
)

// withdraw reports whether the attempt was not dialling, and ends it then: nothing more is heard of it.
func (a *attempt) withdraw() bool {
	if !a.state.CompareAndSwap(attemptWaits, attemptWithdrawn) {
		return false
	}
	a.cancel()
	return true
}

// attemptKey is the context key under which dial passes the attempt to construct.
type attemptKey struct{}

// open begins to open a backend for s. A token of the Budget has been taken.
func (p *Pool) open(s *shelf) {
	a := &attempt{shelf: s, dialer: p.Dialer, target: s.target, began: p.Now(), generation: p.generation}
	if p.account.Role != "" {
		a.target.Role, a.target.Credential = p.account.Role, p.account.Credential
	}
	a.ctx, a.cancel = context.WithCancel(p.ctx)
	p.count(1)
	p.login++
	s.total++
	s.login++
	s.opening = append(s.opening, a)
	go p.dial(a)
}

// unopen takes the attempt out of what is being opened.
func (p *Pool) unopen(a *attempt) {
	a.cancel()
	s := a.shelf
	at := slices.Index(s.opening, a)
	s.opening = slices.Delete(s.opening, at, at+1)
	p.login--
	s.login--
}

// trim withdraws attempts of s for which nobody waits any more, the latest first, unless they keep the pool warm. Others
// may have their place then.
func (p *Pool) trim(s *shelf) {
	before := s.login
	for i := len(s.opening) - 1; i >= 0 && s.login > s.waiters.len && p.total-p.closing > p.Limits.MinIdle; i-- {
		if a := s.opening[i]; a.withdraw() {
			p.unopen(a)
			p.count(-1)
			s.total--
			p.Budget.give(p)
		}
	}
	if s.login < before {
		p.Post(p.tidy)
	}
}

// tidy goes on after attempts have been withdrawn.
func (p *Pool) tidy() {
	p.pump()
	p.finish()
}

// construct is puddle's constructor.
func (p *Pool) construct(ctx context.Context) (*backend.Conn, error) {
	a := ctx.Value(attemptKey{}).(*attempt)
	return a.dialer.Dial(ctx, a.target)
}

// dial opens a backend and posts it, or the error, to the loop. While Postgres cannot be reached it tries again, each time
// when the Gate says that it is its turn.
func (p *Pool) dial(a *attempt) {
	pause := firstPause
	for {
		res, err := p.dialOnce(a)
		if err == nil {
			if !p.Post(func() { p.opened(a, res) }) {
				_ = res.Value().Close()
				res.Destroy()
			}
			return
		}
		left := p.Retry - time.Since(a.began)
		final := p.Rejected(err) || left <= 0 || p.ctx.Err() != nil
		if final && !a.state.CompareAndSwap(attemptWaits, attemptDials) || a.state.Load() == attemptWithdrawn {
			return
		}
		if final {
			p.Post(func() { p.failed(a, err) })
			return
		}
		select {
		case <-time.After(min(pause, left)):
		case <-a.ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// dialOnce tries once, when it is the attempt's turn.
func (p *Pool) dialOnce(a *attempt) (*puddle.Resource[*backend.Conn], error) {
	round, err := p.Gate.enter(a.ctx, a.began, p.Retry-time.Since(a.began))
	if err != nil {
		return nil, err
	}
	if !a.state.CompareAndSwap(attemptWaits, attemptDials) {
		p.Gate.leave(round, dialGivenUp, nil)
		return nil, context.Canceled
	}
	res, err := p.store.Acquire(context.WithValue(a.ctx, attemptKey{}, a))
	switch {
	case err == nil:
		p.Gate.leave(round, dialOpened, nil)
		return res, nil
	case a.ctx.Err() != nil:
		p.Gate.leave(round, dialGivenUp, nil)
	case p.Rejected(err):
		p.Gate.leave(round, dialRefused, nil)
	default:
		p.Gate.leave(round, dialFailed, err)
	}
	a.state.Store(attemptWaits)
	return nil, err
}

// opened takes a new backend into the pool.
func (p *Pool) opened(a *attempt, res *puddle.Resource[*backend.Conn]) {
	s := a.shelf
	p.unopen(a)
	s.refused = false
	b := &Backend{Conn: res.Value(), shelf: s, res: res, opened: p.Now(), generation: a.generation}
	p.lend(b)
	if p.Limits.MaxLifetime > 0 {
		b.expires = b.opened.Add(jitter(p.Limits.MaxLifetime))
	}
	p.Opened(b)
	p.Release(b)
}

// failed takes note that a backend could not be opened. Those who wait are told, unless the shelf has other backends that
// may come back; if they have not waited as long as it was tried, or Renew has been called since, it is tried again.
func (p *Pool) failed(a *attempt, err error) {
	s := a.shelf
	p.unopen(a)
	p.count(-1)
	s.total--
	s.refused = p.Rejected(err)
	p.Budget.give(p)
	if a.generation == p.generation && (p.Rejected(err) || s.total == 0) {
		now := p.Now()
		for w := s.waiters.first(); w != nil; w = s.waiters.first() {
			if !p.Rejected(err) && now.Sub(w.since) < p.Retry {
				break
			}
			p.dequeue(w)
			w.Granted(nil, err)
		}
	}
	p.pump()
	p.sweepShelf(s)
	p.finish()
}

// expired reports whether b is older than it may become.
func (p *Pool) expired(b *Backend) bool {
	return !b.expires.IsZero() && !p.Now().Before(b.expires)
}

// Sweep closes backends that have been idle or open too long. To be called now and then.
func (p *Pool) Sweep() {
	now := p.Now()
	for _, s := range p.shelves {
		for i := 0; i < len(s.idle); {
			b := s.idle[i]
			cold := p.Limits.IdleTimeout > 0 && now.Sub(b.since) >= p.Limits.IdleTimeout &&
				p.total-p.closing > p.Limits.MinIdle
			if !cold && !p.expired(b) {
				i++
				continue
			}
			p.take(b)
			p.close(b)
		}
		p.sweepShelf(s)
	}
	p.keepWarm()
	p.pump()
}

// keepWarm opens backends up to MinIdle, with the start-up parameters that were asked for last, unless Postgres has refused
// those.
func (p *Pool) keepWarm() {
	if p.closed || p.vacated || p.warm == nil || p.warm.refused {
		return
	}
	for p.total-p.closing < p.Limits.MinIdle && p.total < p.Limits.Size && p.Budget.tryTake(p) {
		p.open(p.warm)
	}
}

// sweepShelf forgets a shelf that nobody uses, but for the one to be kept warm.
func (p *Pool) sweepShelf(s *shelf) {
	if s.total == 0 && s.waiters.len == 0 && s != p.warm {
		delete(p.shelves, s.key)
	}
}

// jitter shortens d by up to a tenth, so that backends opened together are not closed together.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/10+1))
}
