package proxy

import (
	"slices"
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
	visits map[contact]*visit
	found  map[contact]uint32 // pids of the backends that visits keep
	search *search            // for those of whom the message speaks that waits; nil: none does
	timer  loop.Timer
}

// contact is a way in which statements speak of a session: by the pid that its client knows, and perhaps to send it a signal.
type contact struct {
	pid     uint32
	signals bool
}

// search is what a message waits for.
type search struct {
	pids    []uint32
	signals bool
	real    []uint32 // pids of backends, in the order of pids; 0: none
	waits   []bool   // for an answer, in that order
	left    int      // answers that it waits for
}

// searching reports whether a message waits.
func (r *reach) searching() bool { return r != nil && r.search != nil }

// reachOut begins to find the backends of those of whom the client's message speaks. It reports whether it has; if not, the message waits.
func (s *session) reachOut() (done bool) {
	if s.reach == nil {
		s.reach = &reach{visits: make(map[contact]*visit), found: make(map[contact]uint32)}
	}
	r := s.reach
	pids, signals := s.m.Mentioned()
	switch {
	case r.search == nil:
	case slices.Equal(r.search.pids, pids) && r.search.signals == signals:
		return false // under way
	default: // for a message that was not sent
		s.abandon(r.search)
	}
	sr := &search{pids: pids, signals: signals, real: make([]uint32, len(pids)), waits: make([]bool, len(pids))}
	for i := range pids {
		s.lookFor(sr, i)
	}
	if sr.left == 0 {
		s.m.Translate(sr.real)
		return true
	}
	r.search = sr
	s.lane.loop.Start(&r.timer, reachTimeout, func() { s.giveUpSearch(sr) })
	return false
}

// lookFor begins to find one of those for whom the session searches.
func (s *session) lookFor(sr *search, at int) {
	c := contact{sr.pids[at], sr.signals}
	other := s.lane.srv.cancels.pooled(c.pid, s.tenant)
	switch other {
	case nil:
		return
	case s:
		sr.real[at] = s.bc.b.Conn.PID
		s.bc.mayBeSignalled(c.signals)
		return
	}
	if sr.real[at] = s.reach.find(c); sr.real[at] != 0 {
		return
	}
	v := s.newVisit(other, sr, at)
	s.reach.visits[c] = v
	sr.waits[at] = true
	sr.left++
	s.lane.srv.cancels.post(other, func() { other.visited(v) })
}

// find returns the pid of the backend that an earlier visit keeps, 0 if there is none.
func (r *reach) find(c contact) uint32 {
	if pid := r.found[c]; pid != 0 || c.signals {
		return pid
	}
	return r.found[contact{c.pid, true}]
}

// newVisit returns the visit that finds the pid at that place of the search.
func (s *session) newVisit(to *session, sr *search, at int) *visit {
	home := s.lane.loop // the session does not leave it while it has a backend
	return &visit{to: to, near: s.bc.b.Conn.Identity, signals: sr.signals, answer: func(pid uint32) {
		home.Post(func() {
			r := s.reach
			if r == nil || r.search != sr {
				return
			}
			c := contact{sr.pids[at], sr.signals}
			if sr.real[at], sr.waits[at] = pid, false; pid != 0 {
				r.found[c] = pid
			} else {
				delete(r.visits, c) // it keeps nothing
			}
			if sr.left--; sr.left == 0 {
				s.reached(sr)
			}
		})
	}}
}

// giveUpSearch goes on without those who have not answered.
func (s *session) giveUpSearch(sr *search) {
	s.abandon(sr)
	s.reached(sr)
}

// abandon ends the visits that have not been answered.
func (s *session) abandon(sr *search) {
	for i, pid := range sr.pids {
		if c := (contact{pid, sr.signals}); sr.waits[i] {
			v := s.reach.visits[c]
			delete(s.reach.visits, c)
			s.lane.srv.cancels.post(v.to, func() { v.end(true) })
		}
	}
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
	if pids, signals := s.m.Mentioned(); slices.Equal(pids, sr.pids) && signals == sr.signals {
		s.m.Translate(sr.real)
	}
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
	s.m.Unmention()
	for _, v := range r.visits {
		s.lane.srv.cancels.post(v.to, func() { v.end(over) })
	}
}
