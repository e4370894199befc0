package proxy

import "sluice/pool"

// A pool is in one part, a lane, or in several, on loops of their own: as many as `spread` says, or with auto one more whenever
// a loop is too hot. Each part has its share of the pool's backends, and keeps them; it is sessions that move, between two
// transactions or while they wait: to even the parts out, and to where a backend is idle.

// elsewhere is what a waiter is told that had better go to another part of its pool.
type elsewhere struct{ lane *lane }

func (e *elsewhere) Error() string { return "another part of the pool has a backend" }

// wantedParts returns how many parts a pool has from the beginning.
func (s *Server) wantedParts(l *laneSettings) int {
	if l.spread.Auto {
		return 1
	}
	return s.mostParts(l)
}

// mostParts returns how many parts a pool may have: no more than there are loops, and with auto none that has a single backend.
func (s *Server) mostParts(l *laneSettings) int {
	if l.spread.Auto {
		return max(1, min(len(s.shards), l.limits.Size/2))
	}
	return max(1, min(len(s.shards), l.limits.Size, l.spread.N))
}

// know takes note of the other parts of the pool.
func (l *lane) know(others []*lane) {
	l.others = others
	l.pool.Spare = nil
	if len(others) > 0 {
		l.pool.Spare = l.invite
	}
	l.limit()
	l.even()
}

// limit gives the pool its share of the limits.
func (l *lane) limit() {
	st := l.pool.Stats()
	limits := l.settings.limits
	limits.Size = l.tenant.share(l, limits.Size, st.Idle+st.Active+st.Login+st.Closing)
	if len(l.others) > 0 {
		limits.MinIdle = min(limits.MinIdle/(len(l.others)+1)+1, limits.MinIdle, limits.Size)
	}
	before := l.pool.Limits
	if limits == before {
		return
	}
	l.pool.SetLimits(limits)
	l.invite()
	if limits.Size < before.Size {
		l.tellLimits()
	}
}

// tellLimits has the other parts look for what is left to them.
func (l *lane) tellLimits() {
	for _, other := range l.others {
		other.loop.Post(other.limit)
	}
}

// closed takes note that a backend is closed: another part may have its place.
func (l *lane) closed(bc *backendConn) {
	l.pool.Closed(bc.b)
	if len(l.others) > 0 {
		l.limit()
		l.tellLimits()
	}
}

// invite has the longest waiter of another part come, if there is a backend for it here.
func (l *lane) invite() {
	if l.inviting {
		return
	}
	for _, other := range l.others {
		if other.pool.HasWaiting() && l.serves(other) {
			l.inviting = true
			other.loop.Post(func() {
				came := other.send(l)
				l.loop.Post(func() { l.invited(came) })
			})
			return
		}
	}
}

// invited goes on after an invitation has been answered: whoever has come, has its backend already.
func (l *lane) invited(came bool) {
	l.inviting = false
	if came {
		l.invite()
	}
}

// serves reports whether a waiter of another part has a backend sooner here: one is idle, or can be opened here but not there.
func (l *lane) serves(other *lane) bool {
	return l.pool.HasIdle() || l.pool.HasRoom() && !other.pool.HasRoom()
}

// seek sends the longest waiter to another part in which there is a backend for it.
func (l *lane) seek() {
	if l.seeking {
		return
	}
	for _, other := range l.others {
		if other.serves(l) {
			l.seeking = true
			l.loop.Post(func() { // not while a session is in the middle of something
				l.seeking = false
				l.send(other)
			})
			return
		}
	}
}

// send has the longest waiter go to another part, if there is still a backend for it. It reports whether there was one.
func (l *lane) send(to *lane) bool {
	return to.serves(l) && l.pool.Dismiss(&elsewhere{to})
}

// sweepParts sees how the pool's parts go on.
func (l *lane) sweepParts() {
	l.recent, l.before = l.counters.Transactions-l.before, l.counters.Transactions
	if len(l.others) > 0 {
		l.limit()
		l.invite() // who came while there was no room
		l.even()
		l.cool()
	}
}

// even sends sessions to parts that have fewer, all of them if this one is given up.
func (l *lane) even() {
	if len(l.others) == 0 {
		return
	}
	to, n := l.tenant.excess(l)
	for s := range l.sessions.All() {
		if n <= 0 {
			return
		}
		if s.lane == l && s.moveTo(to) {
			n--
		}
	}
}

// excess returns how many sessions l has too many, and where they belong.
func (t *tenant) excess(l *lane) (to *lane, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[l.key]
	if ps == nil {
		return nil, 0
	}
	to = ps.emptiest(l)
	switch {
	case to == nil:
		return nil, 0
	case l.leaving:
		return to, l.refs
	case l.refs-to.refs <= max(1, l.refs/8): // near enough
		return nil, 0
	}
	return to, (l.refs - to.refs) / 2
}

// widen gives the hottest pool of the shard another part, on a loop that has time, if it may have one.
func (sh *shard) widen() {
	var hottest *lane
	for l := range sh.lanes {
		if l.settings.spread.Auto && (hottest == nil || l.recent > hottest.recent) {
			hottest = l
		}
	}
	if hottest == nil {
		return
	}
	t := hottest.tenant
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[hottest.key]
	if t.closed || ps == nil || len(ps.lanes) >= sh.srv.mostParts(&hottest.settings) {
		return
	}
	if at := sh.srv.pick(ps); at != nil && at.heat.load.Load() < coolLoad {
		hottest.sibling(ps, at)
		ps.tell()
		sh.srv.log.Info("pool split", logPool, hottest.key.String(), logParts, len(ps.lanes))
	}
}

// sibling makes another part of l's pool.
func (l *lane) sibling(ps *parts, at *shard) *lane {
	return at.newLane(ps, pool.Params{
		Key: l.key, Budget: l.pool.Budget, Gate: l.pool.Gate, Retry: l.pool.Retry, Pins: &ps.pins,
	}, &lane{tenant: l.tenant, key: l.key, code: l.code, settings: l.settings, speaking: l.speaking})
}

// narrow gives up the last part of the pool: its sessions go to the others.
func (l *lane) narrow() {
	t := l.tenant
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := t.pools[l.key]
	if ps == nil || len(ps.lanes) < 2 {
		return
	}
	last := ps.lanes[len(ps.lanes)-1]
	last.leaving = true
	ps.tell()
	l.srv.log.Info("pool joined", logPool, l.key.String(), logParts, len(ps.lanes)-1)
}
