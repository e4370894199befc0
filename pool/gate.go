package pool

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Bounds of a Gate's limit.
const (
	firstDials = 4  // few enough for a Postgres that has just started
	mostDials  = 64 // more cost a Postgres more than they gain
)

// Gate bounds how many backends of a tenant are opened at a time, over all its pools, by what Postgres bears: one more
// for each that was opened while others waited for their turn, half as many when opening fails. So the pools come up at
// full speed, and do not fall upon a Postgres that has just come back. Whoever has waited longest is first.
//
// It is used by the goroutines that open backends, never on a loop.
type Gate struct {
	mu      sync.Mutex // guards below; a leaf
	limit   int
	used    int
	round   uint64 // begins with each halving: what began in an earlier one tells nothing new by failing
	failing error  // how the last attempt failed; nil: Postgres has answered
	queue   []*ticket
}

// ticket is a place in a Gate's line.
type ticket struct {
	since    time.Time
	deadline time.Time     // how long it waits while Postgres cannot be reached
	turn     chan struct{} // closed when its turn has come, or err has
	round    uint64
	err      error
}

// GateStats is what is known of a Gate at one moment.
type GateStats struct {
	Limit   int // backends that may be opened at a time
	Opening int // that are being opened
	Waiting int // that wait for their turn
}

// outcome is what has become of an attempt to open a backend.
type outcome uint8

const (
	dialOpened  outcome = iota
	dialRefused         // Postgres has answered
	dialFailed          // Postgres cannot be reached, or is full
	dialGivenUp         // tells nothing
)

// NewGate returns a Gate that lets a few through at first.
func NewGate() *Gate { return &Gate{limit: firstDials} }

// Stats returns what the Gate bounds now.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return GateStats{Limit: g.limit, Opening: g.used, Waiting: len(g.queue)}
}

// enter waits for a turn; leave must follow, with the round that is returned. since is how long the caller has wanted to
// open a backend, patience how much longer it wants to while Postgres cannot be reached.
//
// Errors: ctx's cause, or, when patience is at its end, how the last attempt of another has failed.
func (g *Gate) enter(ctx context.Context, since time.Time, patience time.Duration) (round uint64, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	t := g.join(since, patience)
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		select {
		case <-t.turn:
			return t.round, t.err
		case <-end.C:
			g.expire()
		case <-ctx.Done():
			g.abandon(t)
			return 0, context.Cause(ctx)
		}
	}
}

// join puts a ticket into the line, and lets it through at once if it can be.
func (g *Gate) join(since time.Time, patience time.Duration) *ticket {
	t := &ticket{since: since, deadline: time.Now().Add(patience), turn: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	at, _ := slices.BinarySearchFunc(g.queue, since, func(q *ticket, since time.Time) int {
		if q.since.After(since) {
			return 1
		}
		return -1
	})
	g.queue = slices.Insert(g.queue, at, t)
	g.admit()
	return t
}

// leave ends a turn.
func (g *Gate) leave(round uint64, o outcome, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used--
	switch o {
	case dialOpened:
		g.failing = nil
		if len(g.queue) > 0 {
			g.limit = min(g.limit+1, mostDials)
		}
	case dialRefused:
		g.failing = nil
	case dialFailed:
		g.failing = err
		if round == g.round {
			g.limit = max(1, g.limit/2)
			g.round++
		}
		g.dismiss()
	case dialGivenUp:
	}
	g.admit()
}

// expire sends those away whose patience has ended, if Postgres cannot be reached.
func (g *Gate) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dismiss()
}

// dismiss is expire; the mutex is held.
func (g *Gate) dismiss() {
	if g.failing == nil {
		return
	}
	now := time.Now()
	g.queue = slices.DeleteFunc(g.queue, func(t *ticket) bool {
		if now.Before(t.deadline) {
			return false
		}
		t.err = g.failing
		close(t.turn)
		return true
	})
}

// abandon takes back a ticket, or the turn that it was given meanwhile.
func (g *Gate) abandon(t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.queue, t); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
		return
	}
	if t.err == nil {
		g.used--
		g.admit()
	}
}

// admit lets those through for whom there is room. The mutex is held.
func (g *Gate) admit() {
	for len(g.queue) > 0 && g.used < g.limit {
		t := g.queue[0]
		g.queue = slices.Delete(g.queue, 0, 1)
		g.used++
		t.round = g.round
		close(t.turn)
	}
}
