package proxy

import (
	"errors"
	"slices"

	"sluice/internal/backend"
	"sluice/pool"
)

// visit is that of a statement to a session of which it speaks by its pid. It is touched where that session is.
type visit struct {
	to      *session
	near    backend.Identity // whose server counts
	signals bool             // the statement may send the session's backend a signal: it needs one
	answer  func(pid uint32) // that of its backend, 0: it has none

	bc       *backendConn // which is kept for the visit
	answered bool
	over     bool
}

// visitors are the statements that speak of a session.
type visitors struct {
	visits []*visit
	waiter pool.Waiter // for a backend, if the session neither has nor wants one
}

// signalled is what is known of signals that others' statements may have sent to a backend.
type signalled uint8

const (
	notSignalled   signalled = iota
	maybeSignalled           // it is not lent on until it is known to live
	proving                  // it has been asked whether it does
	doomed                   // it is never lent on: the signal may be still to come
)

// visited takes a visit. A session between two transactions gets a backend for one that may send it a signal, as if one began.
func (s *session) visited(v *visit) {
	switch {
	case v.over:
	case s.ended, s.bc == nil && !v.signals:
		v.reply(0)
	case s.bc != nil:
		s.enroll(v)
		s.welcome()
	default: // its login is about to end, it waits for a backend, or it is to have one
		s.enroll(v)
		s.lendToVisitors()
	}
}

func (s *session) enroll(v *visit) {
	if s.visitors == nil {
		s.visitors = &visitors{}
	}
	s.visitors.visits = append(s.visitors.visits, v)
}

// lendToVisitors gets the session a backend for its visitors, if nothing else does.
func (s *session) lendToVisitors() {
	vs := s.visitors
	if vs == nil || s.client == nil || s.bc != nil || s.waits() || vs.waiter.Waiting() {
		return
	}
	vs.waiter.Granted = s.lentToVisitors
	b := s.lane.pool.Acquire(&vs.waiter, s.base.key, s.m.State(), *s.target)
	switch {
	case b != nil:
		s.lentToVisitors(b, nil)
	case vs.waiter.Waiting():
		s.lane.seek()
	}
}

// lentToVisitors is called by the pool with a backend for the session's visitors, or why there is none.
func (s *session) lentToVisitors(b *pool.Backend, err error) {
	if away, ok := errors.AsType[*elsewhere](err); ok {
		if !s.moveTo(away.lane) {
			s.lendToVisitors()
		}
		return
	}
	switch {
	case err != nil:
		s.dismissVisitors()
	case s.waits(): // it has come to want one itself
		s.leaveLine()
		s.granted(b, nil)
	default:
		s.attach(b.Owner.(*backendConn))
		s.m.Excuse()
		s.flush()
		s.rest()
		s.interest()
	}
}

// welcome has the visitors keep the session's backend.
func (s *session) welcome() {
	vs := s.visitors
	if vs.waiter.Waiting() {
		s.lane.pool.Cancel(&vs.waiter)
	}
	for _, v := range slices.Clone(vs.visits) {
		s.lodge(v)
	}
	if s.visitors != nil {
		s.attend()
	}
}

// lodge has the visit keep the session's backend, if that is one of the server that counts.
func (s *session) lodge(v *visit) {
	if v.bc != nil {
		return
	}
	if s.bc.b.Conn.PID == 0 || !s.bc.b.Conn.SameServer(v.near) {
		s.forgetVisit(v)
		v.reply(0)
		return
	}
	v.bc = s.bc
	v.bc.visits++
	v.bc.mayBeSignalled(v.signals)
}

// mayBeSignalled takes note that a statement may send the backend a signal, if it sends any.
func (bc *backendConn) mayBeSignalled(signals bool) {
	if signals && bc.signalled != doomed {
		bc.signalled = maybeSignalled
	}
}

// attend answers the visits when the backend may get a signal: what it does is the client's, or nothing.
func (s *session) attend() {
	if s.bc == nil || !s.m.Quiet() && !s.m.Running() {
		return
	}
	for _, v := range s.visitors.visits {
		v.reply(s.bc.b.Conn.PID)
	}
}

// dismissVisitors answers the visits that there is no backend; those that keep one do so until they are over.
func (s *session) dismissVisitors() {
	for _, v := range s.takeVisits() {
		v.reply(0)
	}
}

// takeVisits returns the visits, which the session does not have any more.
func (s *session) takeVisits() []*visit {
	vs := s.visitors
	if vs == nil {
		return nil
	}
	s.visitors = nil
	if vs.waiter.Waiting() {
		s.lane.pool.Cancel(&vs.waiter)
	}
	return vs.visits
}

func (s *session) forgetVisit(v *visit) {
	vs := s.visitors
	if vs == nil {
		return
	}
	vs.visits = slices.DeleteFunc(vs.visits, func(other *visit) bool { return other == v })
	if len(vs.visits) == 0 {
		s.takeVisits()
	}
}

// reply answers the visit, once.
func (v *visit) reply(pid uint32) {
	if !v.answered {
		v.answered = true
		v.answer(pid)
	}
}

// end ends the visit. certain says that the statement is over, and has sent all the signals that it ever will.
func (v *visit) end(certain bool) {
	s, bc := v.to, v.bc
	v.over, v.bc = true, nil
	s.forgetVisit(v)
	if bc == nil {
		return
	}
	bc.visits--
	if !certain && v.signals {
		bc.signalled = doomed
	}
	if s.bc == bc && !s.ended {
		s.afterBackend()
	} else {
		bc.goOn()
	}
}

// prove asks the backend whether it lives if it may have been sent a signal. It reports whether the answer is still to come.
func (s *session) prove() bool {
	switch s.bc.signalled {
	case maybeSignalled:
		s.bc.signalled = proving
		s.m.Prove(&s.lane.toBackend)
		return true
	case proving: // it has answered
		s.bc.signalled = notSignalled
	}
	return false
}
