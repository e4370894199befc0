package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"sluice/internal/relay"
	"sluice/pool"
)

// namesWithin is how much of what the client has sent is searched for the names of functions, before a backend is chosen.
const namesWithin = 256

// acquire gets a backend for the transaction that begins with p. It reports false if the session has to wait for one.
func (s *session) acquire(p []byte) bool {
	b := s.reclaim(p)
	if b == nil {
		b = s.ask()
	}
	if b == nil {
		s.lane.seek()
		return false
	}
	s.lane.traffic.Waits.Observe(0)
	s.attach(b.Owner.(*backendConn))
	return true
}

// reclaim gets the backend that has served nobody since it served the session, if it is idle and matters: it knows the numbers
// for which currval and lastval in p ask.
func (s *session) reclaim(p []byte) *pool.Backend {
	p = p[:min(len(p), namesWithin)]
	if !bytes.Contains(p, []byte("val(")) && !bytes.Contains(p, []byte("VAL(")) {
		return nil
	}
	return s.lane.pool.Reclaim(s.base.key, func(b *pool.Backend) bool { return b.Owner.(*backendConn).user == s.id })
}

// granted is called by the pool when the session's turn has come.
func (s *session) granted(b *pool.Backend, err error) {
	if away, ok := errors.AsType[*elsewhere](err); ok {
		if !s.moveTo(away.lane) {
			s.goOn(true)
		}
		return
	}
	s.lane.traffic.Waits.Observe(s.since.Until(s.lane.loop.Now()))
	if err != nil {
		s.end(describe(err))
		return
	}
	s.attach(b.Owner.(*backendConn))
	p := s.held
	s.held = nil
	s.fromClient(p)
	s.interest()
}

// attach takes the backend, and puts on it what the session has set.
func (s *session) attach(bc *backendConn) {
	bc.session, s.bc = s, bc
	s.m.Attach(bc.set, bc.user == 0 || bc.user == s.id)
	if s.pooled() && s.lane.sequences && bc.user != 0 && bc.user != s.id {
		s.m.DiscardSequences(&s.lane.toBackend)
	}
	bc.user = s.id
	switch {
	case s.pooled():
		s.m.Carry(&s.lane.toBackend)
	case s.lane.settings.addAddress:
		s.m.Announce(s.shownApplication(), &s.lane.toBackend)
		s.flush()
	}
	if s.visitors != nil {
		s.welcome()
	}
}

// detach takes the backend away from the session.
func (s *session) detach() *backendConn {
	bc := s.bc
	s.unpin()
	s.bc = nil
	s.m.Detach()
	return bc
}

// stay reports whether the session keeps its backend past the transaction, and ends the session if it must and may not.
func (s *session) stay() bool {
	why := s.m.Pinned()
	switch {
	case why == "":
		return false
	case s.pin == nil && !s.lane.pool.Pin(s.bc.b):
		s.end(&endError{
			reason:  ReasonTooManyPinned,
			message: fmt.Sprintf("too many sessions of this pool are tied to their backend: at most %d may be", s.lane.pool.Limits.MaxPinned),
			detail:  fmt.Sprintf("This session would be, because of: %s.", why),
		})
	case s.pin == nil || s.pin.reason != why:
		s.pinBy(why)
	}
	return true
}

// giveBack returns the backend between two transactions.
func (s *session) giveBack() {
	s.endReach(true)
	s.detach().leave((*backendConn).release)
}

// throwAway closes the backend. What runs on it is cancelled, since Postgres would run it to its end.
func (s *session) throwAway() {
	s.endReach(s.m.Quiet())
	running := !s.m.Quiet() && !s.bc.dead
	s.bc.cut = s.m.HalfSent()
	bc := s.detach()
	if running {
		bc.cancel(nil)
	}
	bc.leave((*backendConn).discard)
}

// part is what happens to the backend of a session whose client is gone: if it can be brought to a clean state it will
// serve somebody else, and the session lives until then.
func (s *session) part() {
	bc := s.bc
	reset := !s.pooled()
	running := !s.m.Quiet()
	if bc.dead || s.broken || s.m.Pinned() != "" || !s.m.Abandon(reset, &s.lane.toBackend) {
		s.lane.toBackend.Reset()
		s.throwAway()
		s.gone()
		return
	}
	s.flush()
	if running {
		bc.cancel(nil)
	}
	bc.conn.Want(true)
	s.lane.loop.Start(&s.timer, abandonTimeout, s.giveUp)
	s.comeBack()
}

// comeBack gives the backend of a client that is gone back when it is clean.
func (s *session) comeBack() {
	switch {
	case s.bc == nil:
		s.gone()
	case s.m.Pinned() != "":
		s.throwAway()
		s.gone()
	case !s.m.Free():
	case s.m.Calm(&s.lane.toBackend):
		s.flush()
	default:
		s.giveBack()
		s.gone()
	}
}

// giveUp closes a backend that did not come back in time.
func (s *session) giveUp() {
	s.throwAway()
	s.gone()
}

// gone is the very end of the session.
func (s *session) gone() {
	s.timer.Stop()
	s.m.Close()
	s.lane.dropBaseline(s.base)
	s.lane.sessions.Remove(s)
	s.lane.tenant.done(s.lane)
}

// backendLost deals with the end of the backend's connection.
func (s *session) backendLost(err error) {
	if s.ended {
		s.throwAway()
		s.gone()
		return
	}
	lost := &endError{reason: ReasonBackendLost, err: err}
	switch {
	case s.m.Fatal():
		lost.reason = ReasonBackendTerminated
	case s.m.Loss() == relay.LostUnknown:
		lost.reason = ReasonCommitUnknown
	case s.m.Loss() == relay.LostNothing:
		lost.message = "connection to PostgreSQL was lost"
		lost.hint = "Connect again."
	}
	s.end(lost)
}

// backendBroken deals with a backend that cannot be understood, or on which the session's state could not be put.
func (s *session) backendBroken(err error) {
	if s.ended {
		s.throwAway()
		s.gone()
		return
	}
	broken := &endError{reason: ReasonBackendLost, err: err}
	switch {
	case s.m.Loss() == relay.LostUnknown: // what the client has sent may have shared the write with what failed
		broken.reason = ReasonCommitUnknown
	case errors.Is(err, relay.ErrCarry):
		broken.reason = ReasonCarryFailed
	}
	s.broken = true
	s.end(broken)
}

// terminated deals with Terminate: what was sent before it runs to its end.
func (s *session) terminated() {
	s.leaving, s.held = true, nil
	s.client.Want(false)
	if s.over() {
		s.end(&endError{reason: ReasonClientTerminated})
		return
	}
	s.bc.conn.Want(true) // however little the client reads
	s.settle()
}

// saidItAll reports whether neither side has anything to say behind the client's Terminate. With TLS its close_notify may
// be on its way: a connection that is closed before that is reset.
func (s *session) saidItAll() bool { return !s.tls && s.client.Unsent() == 0 }

// end ends the session for its client: once, with one reason, which is logged, counted and, if a message boundary allows
// it, sent. What becomes of the backend is part's business.
func (s *session) end(e *endError) {
	if s.ended {
		return
	}
	s.lane.explain(e)
	s.setPhase(numPhases)
	s.ended, s.held, s.verdict = true, nil, nil
	s.timer.Stop()
	if s.life != nil {
		s.life.Stop()
	}
	s.leaveLine()
	s.endVacancy()
	if s.cancelling != nil {
		s.uncancel()
	}
	s.dismissVisitors()
	s.account(e) // first, so that who has been told finds it in the log and its place free
	s.hearNoMore()
	s.lane.toBackend.Reset()
	s.lane.toClient.Reset()
	response := e.response()
	if response != nil && s.m.Boundary() {
		s.lane.traffic.BytesOut += uint64(len(response))
		s.client.Write(response)
	}
	if e.reason == ReasonClientDisconnected || e.reason == ReasonClientTerminated && s.saidItAll() {
		s.client.Close()
	} else {
		s.client.Shutdown()
	}
	s.client = nil
	switch {
	case s.bc == nil:
		s.gone()
	case e.reason == ReasonIdleInTransactionTimeout: // Postgres rolls back what is open
		s.giveUp()
	default:
		s.part()
	}
}

// account counts and logs the end.
func (s *session) account(e *endError) {
	t := &s.lane.traffic
	t.Clients--
	if s.tls {
		t.TLSClients--
	}
	count(&t.Ended, e.reason.String())
	srv := s.lane.srv
	srv.cancels.remove(s)
	srv.caps.leave(&s.facts)
	srv.history.note(&s.facts, time.Now())
	srv.logEnd(&s.facts, e, s.began.Until(time.Now()))
}

// waitedTooLong ends a session for which no backend was free in time.
func (s *session) waitedTooLong() {
	s.end(&endError{
		reason:  ReasonPoolWaitTimeout,
		message: fmt.Sprintf("no backend of the pool was free within %s (pool_wait_timeout)", s.lane.settings.waitTimeout),
	})
}
