// Package pool lends backends to sessions within the caps per pool, role and tenant; the longest waiter is served first, but
// for one that has waited nearly as long and finds its settings on the backend.
//
// A Pool lives on one loop, as do the sessions that use it: its methods are called there, and nothing in it is locked.
// Lending is a pop from a stack, a hand-over to a waiter a pop from a list. What blocks, opening a connection, happens on
// goroutines which post their results to the loop.
//
// puddle constructs the backends and knows which exist; it is not on the path of a transaction.
package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"

	"sluice/internal/backend"
)

// ErrClosed is the answer of a pool that is being closed.
var ErrClosed = errors.New("pool closed")

// fairAfter is how long a waiter with start-up parameters of its own waits for a slot before an idle or freed backend
// with other parameters is closed for it, and a pool for the Budget before a freed backend of another pool is.
const fairAfter = 100 * time.Millisecond

// Key names a pool: the backends of one tenant, database, role and mode.
type Key struct {
	Tenant, Database, Role, Mode string
}

// String writes the key for people: role@tenant/database (mode).
func (k Key) String() string {
	return k.Role + "@" + k.Tenant + "/" + k.Database + " (" + k.Mode + ")"
}

// Limits bounds a pool.
type Limits struct {
	Size        int           // backends at most
	MinIdle     int           // backends kept open
	MaxPinned   int           // backends that sessions may keep past their transactions
	IdleTimeout time.Duration // an idle backend is closed after it; 0: never
	MaxLifetime time.Duration // a backend is closed after it, when it is free; 0: never
}

// Dialer opens backends. *backend.Dialer is one.
type Dialer interface {
	Dial(ctx context.Context, t backend.Target) (*backend.Conn, error)
}

// Backend is a backend of a pool. The session that holds it may use what is exported; what else it says is the pool's.
type Backend struct {
	Conn  *backend.Conn
	Owner any    // the caller's: what it keeps with the backend
	State string // tells what sessions have set there apart; empty: nothing

	shelf   *shelf
	res     *puddle.Resource[*backend.Conn]
	state   state
	since   time.Time // of the state
	opened  time.Time
	expires time.Time // zero: never
	place   int       // in Pool.held
	pinned  bool

	generation uint64
}

type state uint8

const (
	stateIdle state = iota
	stateHeld
	stateClosing
)

// Baseline returns the key under which the backend was asked for: see Acquire.
func (b *Backend) Baseline() string { return b.shelf.key }

// Since returns when the backend was lent, or became idle.
func (b *Backend) Since() time.Time { return b.since }

// Params says how a Pool works. Nothing in it may be nil.
type Params struct {
	Key    Key
	Limits Limits
	Budget *Budget
	Gate   *Gate
	Dialer Dialer
	// Retry is how long opening a backend is tried again, at growing intervals, while Postgres cannot be reached.
	Retry time.Duration
	// Rejected reports that trying again is of no use: Postgres has answered, and refused.
	Rejected func(error) bool
	Post     func(func()) bool // has a function called on the pool's loop
	Now      func() time.Time  // the loop's time

	// Opened is called on the loop with a new backend, before it is lent: it sets Owner.
	Opened func(*Backend)
	// Retired is called on the loop with a backend that is to be closed; Pool.Closed must follow when it is.
	Retired func(*Backend)

	// Pins counts the pinned backends of all parts of a pool that is split over loops, for which Limits.MaxPinned is meant
	// then; nil: the pool has no other part.
	Pins *atomic.Int32
	// Spare, if not nil, is called on the loop when a backend has become idle and nobody waits for it here. It may be changed.
	Spare func()
}

// Pool lends backends. Make one with New.
type Pool struct {
	Params
	store   *puddle.Pool[*backend.Conn]
	ctx     context.Context // ends when the pool is closed: no more attempts to open a backend
	cancel  context.CancelFunc
	shelves map[string]*shelf
	account backend.Target // whose role and credential count; none without a role
	warm    *shelf         // the last one used, which Sweep keeps warm
	closed  bool
	paused  bool
	vacated bool
	vacant  []func() // called when vacated and nobody is connected who is not held
	empty   func()   // called when closed and nothing is left

	generation uint64 // backends of an earlier one are not lent again

	held []*Backend // in no order

	total, idle, login, closing, pinned, waiting int

	short   bool         // stands in the Budget's line for a token
	coldest atomic.Int64 // for the Budget: since when the first of the idle is so, in Unix nanoseconds; 0: none is idle
	queued  atomic.Bool  // somebody waits
	roomy   atomic.Bool  // there are fewer backends than there may be

	// Guarded by the Budget's mutex.
	joined time.Time // its line
	tokens int       // that the pool has
}

// New returns an empty pool.
func New(p Params) (*Pool, error) {
	if p.Pins == nil {
		p.Pins = new(atomic.Int32)
	}
	pl := &Pool{Params: p, shelves: make(map[string]*shelf)}
	store, err := puddle.NewPool(&puddle.Config[*backend.Conn]{
		Constructor: pl.construct,
		Destructor:  func(c *backend.Conn) { _ = c.Close() }, // does nothing once its loop has it
		MaxSize:     1 << 20,                                 // above any limit: the limits that change are the pool's and the Budget's
	})
	if err != nil {
		return nil, err
	}
	pl.store = store
	pl.count(0)
	pl.ctx, pl.cancel = context.WithCancel(context.Background())
	p.Budget.add(pl)
	return pl, nil
}

// SetLimits changes the limits. Idle backends above them are closed, held ones when they are free.
func (p *Pool) SetLimits(l Limits) {
	p.Limits = l
	p.count(0)
	for p.total-p.closing > l.Size && p.closeColdest(nil) {
		continue
	}
	p.pump()
}

// count adds n to the backends that there are, those being opened or closed included.
func (p *Pool) count(n int) {
	p.total += n
	p.roomy.Store(p.total < p.Limits.Size)
}

// SetDialer changes how backends are opened from now on, and retires those that are open.
func (p *Pool) SetDialer(d Dialer) {
	p.Dialer = d
	p.Renew()
}

// SetLogin says with which role and credential backends are opened from now on: those of t. Before, those of the target
// that Acquire was given count.
func (p *Pool) SetLogin(t backend.Target) { p.account = t }

// Renew has no backend lent again that is open now: idle ones are closed, held ones when they come back.
func (p *Pool) Renew() {
	p.generation++
	for _, s := range p.shelves {
		s.refused = false
		for n := len(s.idle); n > 0; n = len(s.idle) {
			b := s.idle[n-1]
			p.take(b)
			p.close(b)
		}
	}
	p.pump()
}

// Pause has nothing lent until Resume: who asks waits in line.
func (p *Pool) Pause() { p.paused = true }

// Resume ends a Pause.
func (p *Pool) Resume() {
	p.paused = false
	for _, s := range p.shelves {
		for n := len(s.idle); n > 0 && s.waiters.len > 0; n = len(s.idle) {
			b := s.idle[n-1]
			p.take(b)
			p.hand(b)
		}
	}
	p.feed()
	p.pump()
}

// Vacate has the pool keep no backend that is not held, until Occupy: idle ones are closed, held ones when they come back, and
// none is opened. empty, if not nil, is called on the loop when that is so.
func (p *Pool) Vacate(empty func()) {
	p.vacated = true
	if empty != nil {
		p.vacant = append(p.vacant, empty)
	}
	p.Renew()
	p.finish()
}

// Occupy ends a Vacate.
func (p *Pool) Occupy() {
	if p.vacated {
		p.vacated = false
		p.pump()
	}
}

// Vacated reports whether the pool is to be kept empty now.
func (p *Pool) Vacated() bool { return p.vacated }

// Pin reports whether the session that holds b may keep it past its transaction, and counts it if so.
func (p *Pool) Pin(b *Backend) bool {
	if b.pinned {
		return true
	}
	if int(p.Pins.Add(1)) > p.Limits.MaxPinned {
		p.Pins.Add(-1)
		return false
	}
	b.pinned = true
	p.pinned++
	return true
}

// Pinned returns how many backends are pinned.
func (p *Pool) Pinned() int { return p.pinned }

// Held returns the backends that sessions hold, in no order. It is the pool's, and valid until the pool is used again.
func (p *Pool) Held() []*Backend { return p.held }

// Stats returns what the pool holds now.
func (p *Pool) Stats() Stats {
	s := Stats{
		Key: p.Key, Limits: p.Limits, Parts: 1, Idle: p.idle, Active: len(p.held), Pinned: p.pinned,
		Login: p.login, Closing: p.closing, Waiting: p.waiting, Short: p.short,
	}
	if w := p.oldest(nil); w != nil {
		s.OldestWait = p.Now().Sub(w.since)
	}
	return s
}

// Close refuses the waiters, closes what is idle, and what is held when it comes back; empty is called on the loop when
// nothing is left.
func (p *Pool) Close(empty func()) {
	if p.closed {
		return
	}
	p.closed, p.empty = true, empty
	for _, s := range p.shelves {
		p.refuse(s, ErrClosed)
	}
	p.cancel()
	p.Renew()
	p.finish()
}

func (p *Pool) finish() {
	if p.idle+p.login+p.closing == 0 {
		vacant := p.vacant
		p.vacant = nil
		for _, f := range vacant {
			f()
		}
	}
	if p.closed && p.total == 0 && p.empty != nil {
		p.Budget.remove(p)
		p.store.Close() // nothing is left in it
		p.empty()
		p.empty = nil
	}
}
