package proxy

import (
	"time"

	"sluice/internal/loop"
)

// A statement may speak of other sessions by the pids that their clients were told, which are no process's on the transaction port: to end
// them, to cancel what they do, to look them up. Its session reaches for them: where they live they say which backend they have, and keep
// it until the statement's transaction is over; see visit.go. The message waits for that, but not for long.

// reachTimeout is how long a statement waits at most for those of whom it speaks.
const reachTimeout = time.Second

// reach is whom the statements of a session's transaction have reached.
type reach struct {
	visits []*visit
	search *search // for those of whom the message speaks that waits; nil: none does
	timer  loop.Timer
}

// search is what a message waits for.
type search struct {
	real   []uint32 // pids of backends, 0: none
	visits []*visit // that have not been answered, in the same order; nil: none
	left   int      // of them
}

// searching reports whether a message waits.
func (r *reach) searching() bool { return r != nil && r.search != nil }

// reachOut begins to find the backends of those of whom the client's message speaks. It reports whether it has; if not, the message waits.
func (s *session) reachOut() (done bool) {
	if s.reach == nil {
		s.reach = &reach{}
	}
	r, cancels := s.reach, s.lane.srv.cancels
	if r.search != nil {
		return false // under way
	}
	pids, signals := s.m.Mentioned()
	sr := &search{real: make([]uint32, len(pids)), visits: make([]*visit, len(pids))}
	for i, pid := range pids {
		switch other := cancels.pooled(pid, s.tenant); {
		case other == s:
			sr.real[i] = s.bc.b.Conn.PID
			s.bc.mayBeSignalled(signals)
		case other != nil:
			v := s.newVisit(other, signals, sr, i)
			sr.visits[i] = v
			sr.left++
			r.visits = append(r.visits, v)
			cancels.post(other, func() { other.visited(v) })
		}
	}
	if sr.left == 0 {
		s.m.Translate(sr.real)
		return true
	}
	r.search = sr
	s.lane.loop.Start(&r.timer, reachTimeout, func() { s.giveUpSearch(sr) })
	return false
}

// newVisit returns the visit that finds the pid at that place of the search.
func (s *session) newVisit(to *session, signals bool, sr *search, at int) *visit {
	home := s.lane.loop // the session does not leave it while it has a backend
	return &visit{to: to, near: s.bc.b.Conn.Identity, signals: signals, answer: func(pid uint32) {
		home.Post(func() {
			sr.real[at], sr.visits[at] = pid, nil
			if sr.left--; sr.left == 0 {
				s.reached(sr)
			}
		})
	}}
}

// giveUpSearch goes on without those who have not answered.
func (s *session) giveUpSearch(sr *search) {
	for _, v := range sr.visits {
		if v != nil {
			s.lane.srv.cancels.post(v.to, func() { v.end(true) })
		}
	}
	s.reached(sr)
}

// reached goes on with the message that waits, with what has been found.
func (s *session) reached(sr *search) {
	r := s.reach
	if r == nil || r.search != sr || s.ended {
		return
	}
	r.search = nil
	r.timer.Stop()
	s.settle()
	s.m.Translate(sr.real)
	p := s.held
	s.held = nil
	s.fromClient(p)
	s.interest()
}

// endReach lets those go whom the session has reached. over says that its statements are certain to be over.
func (s *session) endReach(over bool) {
	r := s.reach
	if r == nil {
		return
	}
	s.reach = nil
	r.timer.Stop()
	for _, v := range r.visits {
		s.lane.srv.cancels.post(v.to, func() { v.end(over) })
	}
}
