package proxy

import (
	"slices"
	"sync"
	"sync/atomic"

	"sluice/pool"
)

// tenant is what lives on over reloads: the pools of a tenant and their budget.
type tenant struct {
	name   string
	budget *pool.Budget
	gate   *pool.Gate
	code   codeBook

	// redefined counts what clients may have changed of the settings that new sessions begin with. Who logs in gets a baseline
	// of those that are in force, see baselineKey: backends that were opened before are for sessions from before.
	redefined atomic.Uint64

	observed observations
	logins   *tlsTally

	mu    sync.Mutex // guards below
	pools map[pool.Key]*parts
	hubs  map[string]*hub // by the database's name in Postgres
	// speakers has by the database's name in Postgres where the channel stands on which backends say who speaks.
	speakers map[string]*atomic.Pointer[string]
	vacated  map[string]int // statements that need others off a database, by its name in Postgres
	closed   bool           // removed by a reload
}

// parts are the lanes of a pool: one, or several on loops of their own. What is in it is guarded by tenant.mu.
type parts struct {
	lanes []*lane
	pins  atomic.Int32 // see pool.Params
	past  pool.Traffic // of lanes that have been removed
}

func newTenant(name string) *tenant {
	return &tenant{name: name, budget: pool.NewBudget(0), gate: pool.NewGate(), pools: make(map[pool.Key]*parts), hubs: make(map[string]*hub),
		speakers: make(map[string]*atomic.Pointer[string]), logins: newTLSTally()}
}

// lane returns the part of the pool with that key which has the fewest sessions, one reference added; nil if the tenant has
// been removed. If there is none, or all are used and the pool is to have more, create, which is called with the tenant
// locked, adds one.
func (t *tenant) lane(key pool.Key, want int, create func(*parts) *lane) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	ps := t.pools[key]
	if ps == nil {
		ps = &parts{}
		t.pools[key] = ps
	}
	l := ps.emptiest(nil)
	if l == nil || l.refs > 0 && len(ps.lanes) < want {
		l = create(ps)
		ps.tell()
	}
	l.refs++
	return l
}

// on reports whether a part is on sh. The tenant is locked.
func (ps *parts) on(sh *shard) bool {
	return slices.ContainsFunc(ps.lanes, func(l *lane) bool { return l.shard == sh })
}

// first reports whether l is the first part of its pool.
func (t *tenant) first(l *lane) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[l.key]
	return ps != nil && ps.lanes[0] == l
}

// emptiest returns the part with the fewest sessions, not counting one and those that are given up; nil if there is none.
// The tenant is locked.
func (ps *parts) emptiest(not *lane) *lane {
	var found *lane
	for _, l := range ps.lanes {
		if l != not && !l.leaving && (found == nil || l.refs < found.refs) {
			found = l
		}
	}
	return found
}

// tell has all parts know of each other. The tenant is locked.
func (ps *parts) tell() {
	for _, l := range ps.lanes {
		others := slices.DeleteFunc(slices.Clone(ps.lanes), func(other *lane) bool { return other == l })
		l.loop.Post(func() { l.know(others) })
	}
}

// share returns how many backends l may have of the size that all parts of its pool may have together. It has that many now,
// and gets what is its due as far as the others have come down to theirs.
func (t *tenant) share(l *lane, size, has int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[l.key]
	if ps == nil || !slices.Contains(ps.lanes, l) {
		return size // it is alone, or has been dropped
	}
	return ps.share(l, size, has)
}

// share is tenant.share with the tenant locked.
func (ps *parts) share(l *lane, size, has int) int {
	n, at, free := 0, 0, size
	for _, other := range ps.lanes {
		if other == l {
			at = n
		} else {
			free -= other.granted
		}
		if !other.leaving {
			n++
		}
	}
	due := 0
	if !l.leaving {
		due = size / n
		if at < size%n {
			due++
		}
	}
	l.granted = max(has, min(due, free), 0)
	return min(due, l.granted)
}

// move takes a reference from one part of a pool to another. It reports false if that one is not one any more.
func (t *tenant) move(from, to *lane) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[to.key]
	if ps == nil || !slices.Contains(ps.lanes, to) || to.leaving {
		return false
	}
	from.refs--
	to.refs++
	return true
}

// done takes back a reference.
func (t *tenant) done(l *lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.refs--
}

// forget removes a lane that nobody uses from the tenant's, and reports whether it did. What it has counted stays while its
// pool does.
func (t *tenant) forget(l *lane, counted pool.Traffic) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[l.key]
	if l.refs > 0 || ps != nil && !l.leaving && ps.emptiest(l) != nil && ps.used() {
		return false // sessions of other parts may come
	}
	if ps != nil {
		ps.past.Add(&counted)
	}
	t.removePart(l)
	t.forgetSpeaking(l.code)
	return true
}

// used reports whether any part has sessions. The tenant is locked.
func (ps *parts) used() bool {
	return slices.ContainsFunc(ps.lanes, func(l *lane) bool { return l.refs > 0 })
}

// eachPast calls f with what lanes have counted that were removed, for each pool that still has others.
func (t *tenant) eachPast(f func(pool.Key, *pool.Traffic)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, ps := range t.pools {
		f(key, &ps.past)
	}
}

// removePart takes l out of its pool's parts. The tenant is locked.
func (t *tenant) removePart(l *lane) {
	ps := t.pools[l.key]
	if ps == nil {
		return
	}
	at := slices.Index(ps.lanes, l)
	switch {
	case at < 0:
	case len(ps.lanes) == 1:
		delete(t.pools, l.key)
	default:
		ps.lanes = slices.Delete(ps.lanes, at, at+1)
		ps.tell()
	}
}

// all returns the tenant's lanes.
func (t *tenant) all() []*lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*lane
	for _, ps := range t.pools {
		all = append(all, ps.lanes...)
	}
	return all
}
