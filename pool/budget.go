package pool

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the backends of a tenant over all its pools, whichever loops they live on. Its mutex is the only lock of
// the data plane, and it is taken when a backend comes or goes, not when one is lent.
//
// Pools that find it used up stand in line. What is freed goes to the pool that has the fewest backends, of those to the
// one that has waited longest, so that no pool, however many wait in it, keeps another from its share.
type Budget struct {
	mu      sync.Mutex // guards below; a leaf: nothing is called while it is held
	limit   int        // 0: no bound
	used    int
	leaving int     // of used: backends that are being closed
	asked   int     // idle backends that pools have been asked to close, and have not begun to
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
	b.relieve()
}

// Used returns how many backends there are, those that are being opened or closed included, and how many there may be.
func (b *Budget) Used() (used, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.limit
}

// Share is what one pool has of a Budget.
type Share struct {
	Key      Key
	Backends int // those that are being opened or closed included
}

// Shares returns what each pool has, its parts together, the largest first, pools without backends left out.
func (b *Budget) Shares() []Share {
	b.mu.Lock()
	tokens := make(map[Key]int)
	for _, p := range b.pools {
		if p.tokens > 0 {
			tokens[p.Key] += p.tokens
		}
	}
	b.mu.Unlock()
	var shares []Share
	for key, n := range tokens {
		shares = append(shares, Share{key, n})
	}
	slices.SortFunc(shares, func(x, y Share) int {
		return cmp.Or(cmp.Compare(y.Backends, x.Backends), cmp.Compare(x.Key.String(), y.Key.String()))
	})
	return shares
}

// tryTake takes a token for p if there is one. It neither waits for one nor has room made.
func (b *Budget) tryTake(p *Pool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.grab(p)
}

// grab is tryTake; the mutex is held.
func (b *Budget) grab(p *Pool) bool {
	if b.limit > 0 && b.used >= b.limit {
		return false
	}
	b.used++
	p.tokens++
	return true
}

// take takes a token for p. If there is none, p, which must not stand in line already, does so then, and is granted one
// when its turn comes; an idle backend makes room, if there is one.
func (b *Budget) take(p *Pool) bool {
	b.mu.Lock()
	taken := b.grab(p)
	if !taken {
		p.joined = p.Now()
		b.setWaiting(append(b.waiting, p))
	}
	b.mu.Unlock()
	if !taken {
		b.relieve()
	}
	return taken
}

// leave takes p out of the line. It reports false if p has been granted a token meanwhile.
func (b *Budget) leave(p *Pool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.waiting, p) {
		return false
	}
	b.setWaiting(without(b.waiting, p))
	return true
}

// missing returns how many backends have to be closed for those who wait, beside those that are on their way out. The
// mutex is held.
func (b *Budget) missing() int {
	if len(b.waiting) == 0 {
		return 0
	}
	free := b.limit - (b.used - b.leaving - b.asked)
	return len(b.waiting) - free
}

// relieve has idle backends closed for those who wait, the coldest of all pools first. Where nobody has one, those who
// wait look among their own.
func (b *Budget) relieve() {
	b.mu.Lock()
	var donors, left []*Pool
	for b.missing() > 0 {
		donor := b.donor()
		if donor == nil {
			left = slices.Clone(b.waiting)
			break
		}
		b.asked++
		donors = append(donors, donor)
	}
	b.mu.Unlock()
	for _, p := range donors {
		if !p.Post(p.evict) {
			b.answered()
		}
	}
	for _, p := range left {
		p.Post(p.makeRoom)
	}
}

// donor returns the pool with the backend that has been idle longest, of the pools that do not wait themselves; nil if
// there is none. The mutex is held.
func (b *Budget) donor() *Pool {
	var donor *Pool
	var coldest int64
	for _, p := range b.pools {
		at := p.coldest.Load()
		if at != 0 && (donor == nil || at < coldest) && !slices.Contains(b.waiting, p) {
			donor, coldest = p, at
		}
	}
	return donor
}

// answered takes note that a pool that was asked to close an idle backend has begun to, or has none.
func (b *Budget) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked--
}

// closing takes note that a backend is being closed: its token comes back.
func (b *Budget) closing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving++
}

// closed gives the token of a backend back that was being closed.
func (b *Budget) closed(p *Pool) {
	b.mu.Lock()
	b.leaving--
	b.mu.Unlock()
	b.give(p)
}

// give gives a token of p back, or on to a pool that waits for one. While there are more backends than there may be, it
// goes to nobody, and others have to make room.
func (b *Budget) give(p *Pool) {
	b.mu.Lock()
	b.used--
	p.tokens--
	wake := b.grantable()
	b.mu.Unlock()
	b.tell(wake)
	b.relieve()
}

// setWaiting changes the line. The mutex is held.
func (b *Budget) setWaiting(line []*Pool) {
	b.waiting = line
	b.line.Store(int32(len(line)))
	if len(line) > 0 {
		b.oldest.Store(line[0].joined.UnixNano())
	}
}

// owes reports whether a backend of p that is free is to be closed for the sake of another pool, however long clients have
// waited in p: for one that has waited for fairAfter, and has no backend at all or at least two fewer than p. A backend is
// kept for fairAfter at least, so that pools that outnumber the backends take turns which are worth a connection.
func (b *Budget) owes(p *Pool, free *Backend) bool {
	if b.line.Load() == 0 {
		return false // without the lock: this is asked at the end of transactions
	}
	now := p.Now()
	if now.Sub(time.Unix(0, b.oldest.Load())) < fairAfter || now.Sub(free.opened) < fairAfter {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.missing() <= 0 {
		return false
	}
	return slices.ContainsFunc(b.waiting, func(other *Pool) bool {
		return other != p && now.Sub(other.joined) >= fairAfter && (other.tokens == 0 || p.tokens >= other.tokens+2)
	})
}

// lacks reports whether a pool waits for a token that nobody makes room for.
func (b *Budget) lacks() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missing() > 0
}

// hungry reports whether another pool than p waits for a token that nobody makes room for.
func (b *Budget) hungry(p *Pool) bool {
	if b.line.Load() == 0 {
		return false // without the lock, as owes
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return (len(b.waiting) > 1 || len(b.waiting) == 1 && b.waiting[0] != p) && b.missing() > 0
}

// grantable takes the pools for which there are tokens off the list, and the tokens for them. The mutex is held.
func (b *Budget) grantable() []*Pool {
	if len(b.waiting) == 0 {
		return nil
	}
	var wake []*Pool
	line := b.waiting
	for len(line) > 0 && (b.limit == 0 || b.used < b.limit) {
		next := slices.MinFunc(line, func(x, y *Pool) int { return cmp.Compare(x.tokens, y.tokens) }) // the first of several
		line = without(line, next)
		b.grab(next)
		wake = append(wake, next)
	}
	b.setWaiting(line)
	return wake
}

func (b *Budget) tell(pools []*Pool) {
	for _, p := range pools {
		if !p.Post(p.granted) {
			b.give(p)
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
	if i := slices.Index(pools, p); i >= 0 {
		return slices.Delete(pools, i, i+1)
	}
	return pools
}
