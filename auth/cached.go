package auth

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// MaxQueries is how many queries of a Cached are under way at a time, so that logins leave Postgres its connections.
const MaxQueries = 2

const (
	maxUnknown = 1000        // roles remembered not to exist
	invalidGap = time.Second // between two invalidations of a role
	askFormat  = "ask for role %.64q: %w"
)

// QueryFunc asks Postgres for a role. It may block until ctx is done, and is safe for concurrent use. Errors:
// ErrUnknownRole, wrapped; any other is a failure to find out.
type QueryFunc func(ctx context.Context, role string) (Entry, error)

// Cached is a Store over a query. What it has learned, of roles that exist and of up to 1,000 that do not, it believes
// for a time; then the next Lookup of the role asks again, and waits for the answer. Lookups of one role at a time share
// one query, and at most two queries are under way.
//
// It fails closed: when the query fails, what was known before is not used.
type Cached struct {
	query QueryFunc
	ttl   time.Duration
	slots chan struct{} // one for each query under way

	mu      sync.Mutex // guards below
	roles   map[string]*record
	unknown *list.List // of *record without an entry, last used first
	flights map[string]*flight
	forgot  int // how often Forget was called
}

// record is what is remembered of a role.
type record struct {
	role        string
	entry       Entry
	place       *list.Element // in unknown; nil: the role exists
	asked       time.Time
	stale       bool
	invalidated time.Time // when it last became stale before its time
}

// flight is a query under way, shared by all who wait for it. The others are set once done is closed.
type flight struct {
	done      chan struct{}
	forgot    int // of the Cached, when it began
	entry     Entry
	err       error
	abandoned bool // by the caller on whose behalf it ran: it says nothing about the role
}

// NewCached returns a Cached that believes an answer for ttl.
func NewCached(query QueryFunc, ttl time.Duration) *Cached {
	return &Cached{
		query: query, ttl: ttl, slots: make(chan struct{}, MaxQueries),
		roles: make(map[string]*record), unknown: list.New(), flights: make(map[string]*flight),
	}
}

// Lookup implements Store. Errors: ErrUnknownRole, ErrLookup, or ctx's cause, all wrapped.
func (c *Cached) Lookup(ctx context.Context, role string) (Entry, error) {
	for {
		r, f, leads := c.begin(role)
		switch {
		case r != nil && r.place != nil:
			return Entry{}, ErrUnknownRole
		case r != nil:
			return r.entry, nil
		case leads:
			c.fly(ctx, role, f)
			return f.entry, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Entry{}, fmt.Errorf(askFormat, role, context.Cause(ctx))
		}
		if !f.abandoned {
			return f.entry, f.err
		}
	}
}

// Invalidate has the next Lookup of the role ask again. Of calls within a second for the same role only the first
// counts, so that failed logins cannot be turned into a flood of queries.
func (c *Cached) Invalidate(role string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.roles[role]
	if r == nil || (!r.invalidated.IsZero() && time.Since(r.invalidated) < invalidGap) {
		return
	}
	r.stale, r.invalidated = true, time.Now()
}

// Forget has the next Lookup of each role ask again. What a query says that is under way is for those only who wait for it.
func (c *Cached) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgot++
	for _, r := range c.roles {
		r.stale = true
	}
	clear(c.flights) // who asks now does not wait for an answer from before
}

// begin returns a copy of the record to believe, or else the flight to wait for, or to lead.
func (c *Cached) begin(role string) (r *record, f *flight, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.roles[role]; r != nil && !r.stale && time.Since(r.asked) < c.ttl {
		if r.place != nil {
			c.unknown.MoveToFront(r.place)
		}
		believed := *r
		return &believed, nil, false
	}
	if f := c.flights[role]; f != nil {
		return nil, f, false
	}
	f = &flight{done: make(chan struct{}), forgot: c.forgot, abandoned: true}
	c.flights[role] = f
	return nil, f, true
}

// fly runs the query, remembers the answer and tells those who wait, even if the query panics.
func (c *Cached) fly(ctx context.Context, role string, f *flight) {
	defer c.land(role, f)
	f.entry, f.err = c.ask(ctx, role)
	f.abandoned = f.err != nil && ctx.Err() != nil
}

// ask runs the query when a slot is free.
func (c *Cached) ask(ctx context.Context, role string) (Entry, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return Entry{}, fmt.Errorf(askFormat, role, context.Cause(ctx))
	}
	e, err := c.query(ctx, role)
	switch {
	case err == nil:
		return e, nil
	case errors.Is(err, ErrUnknownRole):
		return Entry{}, ErrUnknownRole
	case ctx.Err() != nil:
		return Entry{}, fmt.Errorf(askFormat, role, context.Cause(ctx))
	}
	return Entry{}, fmt.Errorf("%w: "+askFormat, ErrLookup, role, err)
}

func (c *Cached) land(role string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[role] == f {
		delete(c.flights, role)
	}
	defer close(f.done)
	switch {
	case f.forgot != c.forgot:
	case errors.Is(f.err, ErrUnknownRole):
		c.remember(role).leave(c)
	case f.err == nil && !f.abandoned:
		c.remember(role).enter(c, &f.entry)
	}
}

// remember returns the role's record, as of now.
func (c *Cached) remember(role string) *record {
	r := c.roles[role]
	if r == nil {
		r = &record{role: role}
		c.roles[role] = r
	}
	r.asked, r.stale = time.Now(), false
	return r
}

// enter records that the role exists. A secret that has not changed stays, with what was computed from it.
func (r *record) enter(c *Cached, e *Entry) {
	if r.place != nil {
		c.unknown.Remove(r.place)
		r.place = nil
	}
	e.keep(r.entry)
	r.entry = *e
}

// leave records that the role does not exist, and forgets the one that was asked for least recently.
func (r *record) leave(c *Cached) {
	r.entry = Entry{}
	if r.place != nil {
		c.unknown.MoveToFront(r.place)
		return
	}
	r.place = c.unknown.PushFront(r)
	if c.unknown.Len() > maxUnknown {
		last := c.unknown.Remove(c.unknown.Back()).(*record)
		delete(c.roles, last.role)
	}
}
