package pool

import (
	"slices"
	"time"

	"sluice/internal/backend"
)

// Waiter is a session's place in the line. The zero value is ready to use; a Waiter stands in one line at a time.
type Waiter struct {
	// Granted is called on the loop: with a backend, which the session holds from then on, or with the reason why there
	// is none: ErrClosed, or what opening one has said.
	Granted func(*Backend, error)

	links [2]links
	line  *line // of those with the same state; nil: w does not wait
	since time.Time
}

// Waiting reports whether w stands in a line.
func (w *Waiter) Waiting() bool { return w.line != nil }

// Acquire lends a backend that was opened for the target: baseline is a key that tells targets apart, but for their role and
// credential, which SetLogin changes; state tells what the session has set apart, as Backend.State does. If any are idle, one is
// returned at once: the last used of those with that state, else the last used. Otherwise w stands in line, nil is returned,
// and w.Granted will be called unless Cancel comes first; a backend is opened if the limits allow it.
func (p *Pool) Acquire(w *Waiter, baseline, state string, t backend.Target) *Backend {
	s := p.shelf(baseline, t)
	if b := s.best(state); b != nil && !p.closed && !p.paused {
		p.take(b)
		p.lend(b)
		return b
	}
	p.enqueue(w, s, state)
	if p.closed {
		p.refuse(s, ErrClosed)
		return nil
	}
	p.pump()
	return nil
}

// Reclaim lends the idle backend, opened for that baseline, of which mine is true: the last used one. It returns nil if there is
// none.
func (p *Pool) Reclaim(baseline string, mine func(*Backend) bool) *Backend {
	s := p.shelves[baseline]
	if s == nil || p.closed || p.paused {
		return nil
	}
	for _, b := range slices.Backward(s.idle) {
		if mine(b) {
			p.take(b)
			p.lend(b)
			return b
		}
	}
	return nil
}

// Cancel takes w out of its line. It reports false if w stood in none.
func (p *Pool) Cancel(w *Waiter) bool {
	if !w.Waiting() {
		return false
	}
	p.dequeue(w)
	return true
}

// Release takes a backend back that is as good as new for its shelf, but for its State. It goes straight to who waits for one:
// see heir.
func (p *Pool) Release(b *Backend) {
	p.unhold(b)
	if b.generation != p.generation || p.closed || p.expired(b) || p.total-p.closing > p.Limits.Size {
		p.close(b)
		return
	}
	if p.paused {
		p.shelve(b)
		return
	}
	s := b.shelf
	w := s.waiters.first()
	if other := p.oldest(s); other != nil && p.mustYield(w, other) {
		p.close(b)
		return
	}
	switch {
	case w != nil && p.Budget.owes(p, b):
		p.close(b) // another pool has its share to come
	case w != nil:
		p.hand(b)
	default:
		p.shelve(b)
		p.feed()
		if p.Spare != nil {
			p.Spare()
		}
	}
}

// Dismiss takes the longest waiter out of the line and calls its Granted with err. It reports false if nobody waits.
func (p *Pool) Dismiss(err error) bool {
	w := p.oldest(nil)
	if w == nil {
		return false
	}
	p.dequeue(w)
	w.Granted(nil, err)
	return true
}

// HasIdle reports whether a backend is idle, HasRoom whether another one may be opened, if the Budget allows it, and HasWaiting
// whether somebody waits for one. They may be called from anywhere, and be out of date when they return.
func (p *Pool) HasIdle() bool { return p.coldest.Load() != 0 }

// HasRoom is explained at HasIdle.
func (p *Pool) HasRoom() bool { return p.roomy.Load() }

// HasWaiting is explained at HasIdle.
func (p *Pool) HasWaiting() bool { return p.queued.Load() }

// hand lends b, which is on no shelf, to one of those who wait for it.
func (p *Pool) hand(b *Backend) {
	w := b.shelf.heir(b, p.Now())
	p.dequeue(w)
	p.lend(b)
	w.Granted(b, nil)
}

// feed closes an idle backend if another pool waits for its token. That is asked after the backend has been shelved: the
// other pool may look for one at the same moment.
func (p *Pool) feed() {
	if p.Budget.hungry(p) {
		p.closeColdest(nil)
	}
}

// Discard closes a held backend that cannot be lent again.
func (p *Pool) Discard(b *Backend) {
	p.unhold(b)
	p.close(b)
}

// Lost takes note that an idle backend is no more; it is closed.
func (p *Pool) Lost(b *Backend) {
	if b.state != stateIdle {
		return
	}
	p.take(b)
	p.close(b)
	p.pump()
}

// Closed takes note that a backend given to Params.Close is closed.
func (p *Pool) Closed(b *Backend) {
	p.closing--
	p.count(-1)
	b.shelf.total--
	b.res.Destroy()
	p.Budget.closed(p)
	p.pump()
	p.sweepShelf(b.shelf)
	p.finish()
}

// mustYield reports whether the slot of a freed backend goes to a waiter of another shelf rather than to w.
func (p *Pool) mustYield(w, other *Waiter) bool {
	if other.line.shelf.login >= other.line.shelf.waiters.len || p.total-p.closing < p.Limits.Size && (!p.short || p.closing > 0) {
		return false // it is being served
	}
	if w == nil {
		return true
	}
	return other.since.Before(w.since) && p.Now().Sub(other.since) >= fairAfter
}

// oldest returns the waiter that has waited longest, those of shelf not counted.
func (p *Pool) oldest(not *shelf) *Waiter {
	if p.waiting == 0 || not != nil && len(p.shelves) == 1 {
		return nil
	}
	var oldest *Waiter
	for _, s := range p.shelves {
		if w := s.waiters.first(); s != not && w != nil && (oldest == nil || w.since.Before(oldest.since)) {
			oldest = w
		}
	}
	return oldest
}

func (p *Pool) shelf(baseline string, t backend.Target) *shelf {
	s := p.shelves[baseline]
	if s == nil {
		s = newShelf(baseline, t)
		p.shelves[baseline] = s
	}
	p.warm = s
	return s
}

// lend gives b, which is on no shelf, to the caller.
func (p *Pool) lend(b *Backend) {
	b.state, b.since = stateHeld, p.Now()
	b.place = len(p.held)
	p.held = append(p.held, b)
}

func (p *Pool) unhold(b *Backend) {
	if b.state != stateHeld {
		panic("bug: a backend was given back that nobody holds")
	}
	last := len(p.held) - 1
	p.held[b.place] = p.held[last]
	p.held[b.place].place = b.place
	p.held[last] = nil
	p.held = p.held[:last]
	if b.pinned {
		b.pinned = false
		p.pinned--
		p.Pins.Add(-1)
	}
}

func (p *Pool) shelve(b *Backend) {
	b.state, b.since = stateIdle, p.Now()
	b.shelf.idle = append(b.shelf.idle, b)
	if p.idle++; p.coldest.Load() == 0 {
		p.coldest.Store(b.since.UnixNano())
	}
}

// take takes an idle backend off its shelf.
func (p *Pool) take(b *Backend) {
	idle := b.shelf.idle
	at := len(idle) - 1
	for at >= 0 && idle[at] != b {
		at-- // from the top, where it is most often
	}
	if at < 0 {
		panic("bug: an idle backend is on no shelf")
	}
	b.shelf.idle = slices.Delete(idle, at, at+1)
	p.idle--
	if at == 0 {
		p.findColdest()
	}
}

// findColdest says for the Budget since when the backend that has been idle longest is so; the first of each shelf has.
func (p *Pool) findColdest() {
	var coldest int64
	if p.idle > 0 {
		for _, s := range p.shelves {
			if len(s.idle) > 0 && (coldest == 0 || s.idle[0].since.UnixNano() < coldest) {
				coldest = s.idle[0].since.UnixNano()
			}
		}
	}
	p.coldest.Store(coldest)
}

func (p *Pool) close(b *Backend) {
	b.state = stateClosing
	p.closing++
	p.Budget.closing()
	p.Retired(b)
}

func (p *Pool) enqueue(w *Waiter, s *shelf, state string) {
	w.since = p.Now()
	s.join(w, state)
	if p.waiting++; p.waiting == 1 {
		p.queued.Store(true)
	}
}

func (p *Pool) dequeue(w *Waiter) {
	s := w.line.shelf
	s.leave(w)
	if p.waiting--; p.waiting == 0 {
		p.queued.Store(false)
	}
	if s.login > s.waiters.len {
		p.trim(s)
	}
	if p.waiting == 0 && p.short && p.Budget.leave(p) {
		p.short = false
	}
}

// refuse tells all who wait at s that there will be no backend.
func (p *Pool) refuse(s *shelf, err error) {
	for w := s.waiters.first(); w != nil; w = s.waiters.first() {
		p.dequeue(w)
		w.Granted(nil, err)
	}
}
