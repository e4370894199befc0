package pool

import (
	"context"
	"math/rand/v2"
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
		p.Budget.give()
	}
	p.pump()
}

// makeRoom closes an idle backend for a waiter whom it cannot serve, for the sake of its token.
func (p *Pool) makeRoom() {
	if s := p.neediest(); s != nil && p.closing == 0 {
		p.closeColdest(s)
	}
}

// openNext opens a backend for the waiter that needs it most, if there is one and the limits allow it. token tells that a
// token of the Budget has been taken.
func (p *Pool) openNext(token bool) bool {
	if p.closed || p.waiting == 0 {
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
		if !p.short {
			p.short = true
			p.makeRoom()
		}
		return false
	}
	p.open(s)
	return true
}

// neediest returns the shelf whose first waiter has waited longest and for whom no backend is being opened.
func (p *Pool) neediest() *shelf {
	var found *shelf
	for _, s := range p.shelves {
		if w := s.waiters.first(); w != nil && s.login < s.waiters.len &&
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

// evictIdle makes room in the Budget for another pool.
func (p *Pool) evictIdle() { p.closeColdest(nil) }

// targetKey is the context key under which open passes the target to construct.
type targetKey struct{}

// open begins to open a backend for s. A token of the Budget has been taken.
func (p *Pool) open(s *shelf) {
	p.total++
	p.login++
	s.total++
	s.login++
	t := s.target
	if p.account.Role != "" {
		t.Role, t.Credential = p.account.Role, p.account.Credential
	}
	ctx := context.WithValue(p.ctx, targetKey{}, t)
	a := attempt{shelf: s, dialer: p.Dialer, began: p.Now(), generation: p.generation}
	go p.dial(ctx, a)
}

// attempt is what was known when a backend began to be opened.
type attempt struct {
	shelf      *shelf
	dialer     Dialer
	began      time.Time
	generation uint64
}

// dialerKey is the context key under which dial passes the dialer to construct.
type dialerKey struct{}

// construct is puddle's constructor.
func (p *Pool) construct(ctx context.Context) (*backend.Conn, error) {
	d := ctx.Value(dialerKey{}).(Dialer)
	return d.Dial(ctx, ctx.Value(targetKey{}).(backend.Target))
}

// dial opens a backend and posts it, or the error, to the loop. While Postgres cannot be reached it tries again.
func (p *Pool) dial(ctx context.Context, a attempt) {
	ctx = context.WithValue(ctx, dialerKey{}, a.dialer)
	pause := firstPause
	for {
		res, err := p.store.Acquire(ctx)
		if err == nil {
			if !p.Post(func() { p.opened(a, res) }) {
				_ = res.Value().Close()
				res.Destroy()
			}
			return
		}
		left := p.Retry - time.Since(a.began)
		if p.Rejected(err) || left <= 0 || ctx.Err() != nil {
			p.Post(func() { p.failed(a, err) })
			return
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// opened takes a new backend into the pool.
func (p *Pool) opened(a attempt, res *puddle.Resource[*backend.Conn]) {
	s := a.shelf
	p.login--
	s.login--
	s.lastErr = nil
	b := &Backend{Conn: res.Value(), shelf: s, res: res, state: stateHeld, since: p.Now(), generation: a.generation}
	if p.Limits.MaxLifetime > 0 {
		b.expires = b.since.Add(jitter(p.Limits.MaxLifetime))
	}
	p.Opened(b)
	p.held++
	p.Release(b)
}

// failed takes note that a backend could not be opened. Those who wait are told, unless the shelf has other backends that
// may come back; if they have not waited as long as it was tried, or Renew has been called since, it is tried again.
func (p *Pool) failed(a attempt, err error) {
	s := a.shelf
	p.login--
	p.total--
	s.login--
	s.total--
	s.lastErr = err
	p.Budget.give()
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
	for p.warm != nil && !p.closed && p.total-p.closing < p.Limits.MinIdle && p.total < p.Limits.Size && p.Budget.tryTake() {
		p.open(p.warm)
	}
	p.pump()
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
