package proxy

import (
	"crypto/sha256"
	"slices"
	"time"

	"sluice/internal/backend"
	"sluice/internal/relay"
	"sluice/internal/wire"
)

// trip is what a session takes to another part of its pool.
type trip struct {
	srv      *Server
	baseline string
	params   []wire.Param // that the client was greeted with
	luggage  relay.Luggage
	waits    bool          // for a backend
	life     time.Duration // that is left of its lifetime
	visits   []*visit      // that wait for its backend

	// What logins have told the part that it leaves: one that has had none must know how to open backends.
	target *backend.Target
	cred   *[sha256.Size]byte
}

// movable reports whether the session holds nothing of its loop: it is idle, or waits for a backend.
func (s *session) movable() bool {
	return !s.ended && !s.leaving && s.verdict == nil && s.bc == nil && s.m.Movable() && s.client.Movable()
}

// moveTo sends the session to another part of its pool, and reports whether it goes. It is not to be touched any more here
// then. It must not be called while the session is in the middle of something.
func (s *session) moveTo(to *lane) bool {
	from := s.lane
	if !s.movable() || !from.tenant.move(from, to) {
		return false
	}
	from.srv.moves.Add(1)
	from.srv.census.begun.Add(1)
	t := &trip{
		srv: from.srv, baseline: s.base.key, params: s.m.Params().Baseline, luggage: s.m.Depart(), waits: s.phase == phaseWaiting,
		target: from.target, cred: from.cred.Load(), visits: s.takeVisits(),
	}
	if s.hearing != nil {
		s.hearing.depart(s)
	}
	s.leaveLine()
	s.timer.Stop()
	if s.life != nil {
		t.life = coarse(s.life.Left(from.loop), from.settings.timeouts.ClientLifetime)
		s.life.Stop()
	}
	from.dropBaseline(s.base)
	from.sessions.Remove(s)
	from.traffic.Clients--
	if s.tls {
		from.traffic.TLSClients--
	}
	cancels := from.srv.cancels
	cancels.mu.Lock() // whoever asks for the session's lane finds one where the session is, or arrives before the question
	defer cancels.mu.Unlock()
	if s.client.Move(to.loop, func() { s.arrive(t) }) {
		s.lane = to
		return true
	}
	to.tenant.move(to, from) // the other loop has ended, and this one will
	from.loop.Post(func() { s.arrive(t) })
	return true
}

// arrive has the session go on at the part of the pool to which it was sent.
func (s *session) arrive(t *trip) {
	srv := t.srv
	l := srv.cancels.laneOf(s)
	l.sessions.Add(s)
	l.traffic.Clients++
	if s.tls {
		l.traffic.TLSClients++
	}
	srv.census.done.Add(1)
	s.base = l.baseline(t.baseline)
	s.m.Arrive(l.paramsAs(s.base, t.params), t.luggage)
	if l.target == nil {
		l.target = t.target
		l.cred.Store(t.cred)
		l.pool.SetLogin(*t.target)
	}
	s.target = s.base.share(s.target, fingerprint(s.target.Credential))
	if s.life != nil {
		l.loop.Start(s.life, t.life, s.outlived)
	}
	if d := s.timeout(); d > 0 {
		l.loop.Start(&s.timer, coarse(d-s.since.Until(l.loop.Now()), d), s.timedOut)
	}
	switch {
	case srv.ctx.Err() != nil:
		s.endNow()
		return
	case srv.draining.Load():
		s.endWhenFree(&endError{reason: ReasonShutdown})
	case l.dropped:
		s.endWhenFree(&endError{reason: ReasonPolicyRevoked, message: databaseMoved})
	default:
		s.checkPolicy()
	}
	if !s.ended {
		s.goOn(t.waits)
	}
	for _, v := range t.visits {
		s.visited(v)
	}
}

// coarse rounds what is left of a timeout up to one of a few durations: a loop keeps a list for each.
func coarse(left, whole time.Duration) time.Duration {
	step := max(whole/64, time.Millisecond)
	return max(left+step-1, step).Truncate(step)
}

// goOn has the session do what it was about to do before it moved.
func (s *session) goOn(waits bool) {
	if waits {
		if b := s.ask(); b != nil {
			s.granted(b, nil)
		}
		return
	}
	s.interest()
}

// paramsAs returns what machines go by whose client was greeted with params.
func (l *lane) paramsAs(b *baseline, params []wire.Param) *relay.Params {
	if b.relay == nil {
		l.setParams(b, params)
	}
	if slices.Equal(b.params, params) {
		return b.relay
	}
	p := *b.relay
	p.Baseline = params
	return &p
}
