package proxy

import (
	"time"

	"sluice/internal/loop"
	"sluice/internal/relay"
)

// headStart is how long Postgres gets to begin with a statement before a cancel request is sent that has waited for it: what comes
// before has no effect.
const headStart = 10 * time.Millisecond

// cancelling is what cancel requests want that are not settled yet: one for Postgres.
type cancelling struct {
	request uint32   // of the client's that is to be cancelled: how many have been answered before it
	done    []func() // are called when that is settled
	waited  bool     // for the request to be what Postgres runs
	timer   loop.Timer
}

// cancelQuery does what a cancel request asks for: the session is taken out of the line, or what it has sent is cancelled, as soon as
// that and nothing of Sluice's own is what Postgres runs. done is called on the loop when Postgres has taken note. It reports whether
// there is anything to cancel.
func (s *session) cancelQuery(done func()) bool {
	if s.ended || !s.cancellable() {
		done()
		return false
	}
	request := s.m.Served()
	if s.bc != nil && s.bc.cancels > 0 && s.bc.cancelling.request == request { // Postgres would not tell two from one
		s.bc.cancelling.done = append(s.bc.cancelling.done, done)
		return true
	}
	if s.cancelling == nil {
		s.cancelling = &cancelling{request: request}
	}
	s.cancelling.done = append(s.cancelling.done, done)
	s.tryCancel()
	return true
}

// cancellable reports whether the client waits for the answer to something that a cancel request can mean.
func (s *session) cancellable() bool {
	return s.waits() || len(s.held) > 0 && s.next != relay.More || s.bc != nil && (s.m.Running() || s.m.Owes())
}

// tryCancel does what cancel requests want, if its moment has come. While one is on its way to Postgres others wait.
func (s *session) tryCancel() {
	c := s.cancelling
	switch {
	case s.waits(), s.next == relay.NeedVacancy && s.m.Quiet() && !s.m.InBlock():
		s.uncancel()
		s.refuseHeld(&endError{reason: ReasonQueryCancelled})
	case c.request != s.m.Served() || !s.cancellable():
		s.uncancel()
	case s.bc == nil || s.bc.cancels > 0 || c.timer.Running():
	case !s.m.Running():
		c.waited = true
	case c.waited:
		s.lane.loop.Start(&c.timer, headStart, func() {
			c.waited = false
			s.tryCancel()
		})
	default:
		s.cancelling, s.bc.cancelling = nil, c
		s.bc.cancel(c.settled)
	}
}

// uncancel is for cancel requests that mean nothing any more.
func (s *session) uncancel() {
	c := s.cancelling
	s.cancelling = nil
	c.timer.Stop()
	c.settled()
}

func (c *cancelling) settled() {
	for _, done := range c.done {
		done()
	}
}

// cancelOver goes on when no cancel request is on its way to Postgres any more.
func (s *session) cancelOver() {
	s.m.CancelOver(&s.lane.toBackend)
	s.resume()
}

// refuseHeld answers what the client has sent with an error instead of a backend; the session lives on.
func (s *session) refuseHeld(e *endError) {
	s.leaveLine()
	s.m.Refuse(e.response(), &s.lane.toClient)
	s.flush()
	count(&s.lane.traffic.Ended, e.reason.String())
	p := s.held
	s.held = nil
	s.fromClient(p)
	s.interest()
	s.lendToVisitors() // they relied on its turn
}
