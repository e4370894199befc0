package pool

import (
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the backends of a tenant over all its pools, whichever loops they live on. Its mutex is the only lock of
// the data plane, and it is taken when a backend comes or goes, not when one is lent.
type Budget struct {
	mu      sync.Mutex // guards below; a leaf: nothing is called while it is held
	limit   int        // 0: no bound
	used    int
	waiting []*Pool // pools that were refused, longest first
	pools   []*Pool // all

	line   atomic.Int32 // length of waiting
	oldest atomic.Int64 // when the first of it joined, in Unix nanoseconds
}

// NewBudget returns a Budget of limit backends; 0 means no bound.
func NewBudget(limit int) *Budget { return &Budget{limit: limit} }

// SetMax changes the bound. Backends above it are not closed, but not replaced either.
func (b *Budget) SetMax(limit int) {
	b.mu.Lock()
	b.limit = limit
	wake := b.grantable()
	b.mu.Unlock()
	b.tell(wake)
}

// Used returns how many backends there are, those that are being opened or closed included, and how many there may be.
func (b *Budget) Used() (used, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.limit
}

// tryTake takes a token if there is one. It neither waits for one nor has room made.
func (b *Budget) tryTake() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit > 0 && b.used >= b.limit {
		return false
	}
	b.used++
	return true
}

// take takes a token for p. If there is none, p, which must not stand in line already, does so then, and is granted one
// when its turn comes; another pool's idle backend makes room.
func (b *Budget) take(p *Pool) bool {
	b.mu.Lock()
	if b.limit == 0 || b.used < b.limit {
		b.used++
		b.mu.Unlock()
		return true
	}
	p.joined = p.Now()
	b.setWaiting(append(b.waiting, p))
	donor := b.donor(p)
	b.mu.Unlock()
	if donor != nil {
		donor.Post(donor.evictIdle)
	}
	return false
}

// donor returns another pool than p that has an idle backend, nil if there is none. The mutex is held.
func (b *Budget) donor(p *Pool) *Pool {
	for _, other := range b.pools {
		if other != p && other.idleCount.Load() > 0 {
			return other
		}
	}
	return nil
}

// give gives a token back, or on to the pool that has waited longest for one. While there are more backends than there may
// be, it goes to nobody, and one more has to make room.
func (b *Budget) give() {
	b.mu.Lock()
	b.used--
	wake := b.grantable()
	var first, donor *Pool
	if len(wake) == 0 && len(b.waiting) > 0 {
		first = b.waiting[0]
		donor = b.donor(first)
	}
	b.mu.Unlock()
	b.tell(wake)
	switch {
	case donor != nil:
		donor.Post(donor.evictIdle)
	case first != nil:
		first.Post(first.makeRoom)
	}
}

// setWaiting changes the line. The mutex is held.
func (b *Budget) setWaiting(line []*Pool) {
	b.waiting = line
	b.line.Store(int32(len(line)))
	if len(line) > 0 {
		b.oldest.Store(line[0].joined.UnixNano())
	}
}

// longer reports whether another pool than p has waited for a token since before the given time, and for fairAfter at
// least.
func (b *Budget) longer(p *Pool, since time.Time) bool {
	if b.line.Load() == 0 {
		return false
	}
	joined := time.Unix(0, b.oldest.Load())
	return joined.Before(since) && p.Now().Sub(joined) >= fairAfter && b.hungry(p)
}

// hungry reports whether another pool than p waits for a token.
func (b *Budget) hungry(p *Pool) bool {
	if b.line.Load() == 0 {
		return false // without the lock: this is asked at the end of transactions
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 1 || len(b.waiting) == 1 && b.waiting[0] != p
}

// grantable takes the pools for which there are tokens off the list, and the tokens for them. The mutex is held.
func (b *Budget) grantable() []*Pool {
	n := len(b.waiting)
	if b.limit > 0 {
		n = min(n, max(0, b.limit-b.used))
	}
	wake := append([]*Pool(nil), b.waiting[:n]...)
	b.setWaiting(append(b.waiting[:0], b.waiting[n:]...))
	b.used += len(wake)
	return wake
}

func (b *Budget) tell(pools []*Pool) {
	for _, p := range pools {
		if !p.Post(p.granted) {
			b.give()
		}
	}
}

func (b *Budget) add(p *Pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = append(b.pools, p)
}

func (b *Budget) remove(p *Pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = without(b.pools, p)
	b.setWaiting(without(b.waiting, p))
}

func without(pools []*Pool, p *Pool) []*Pool {
	for i, q := range pools {
		if q == p {
			return append(pools[:i], pools[i+1:]...)
		}
	}
	return pools
}
