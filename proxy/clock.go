package proxy

import (
	"time"

	"sluice/netpolicy"
)

const (
	clockStep  = time.Minute // how long it may take until the policy follows a wall clock that was set
	clockRetry = time.Second
)

// rewind has followClock look again at what comes next.
func (s *Server) rewind() {
	select {
	case s.rewound <- struct{}{}:
	default: // it will
	}
}

// followClock has the policy change at its times: when an entry expires, and when a change goes back that nobody has
// confirmed. It ends with the server.
func (s *Server) followClock() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.rewound:
		case <-timer.C:
		}
		timer.Stop()
		next := s.strike()
		if next.IsZero() {
			continue
		}
		wait := time.Until(next)
		if wait <= 0 { // since strike looked, or what was due could not be done
			wait = clockRetry
		}
		timer.Reset(min(wait, clockStep))
	}
}

// strike does what is due, and returns when something is next; zero: nothing is.
func (s *Server) strike() time.Time {
	s.changing.Lock()
	defer s.changing.Unlock()
	now := time.Now()
	st := s.state.Load()
	if due := st.saved.due(); !due.IsZero() && !now.Before(due) {
		st = s.rollBack(st, now)
	}
	if expires := st.policy.Expires(); !expires.IsZero() && !now.Before(expires) {
		if fresh := s.recompile(st, st.saved, now); fresh != st {
			st = fresh
			s.log.Info("entries of the policy have expired")
			s.audit.note(auditExpired, append(Author{Via: "clock"}.attrs(), logExpired, expires)...)
		}
	}
	next := st.policy.Expires()
	if due := st.saved.due(); !due.IsZero() && (next.IsZero() || due.Before(next)) {
		next = due
	}
	return next
}

// rollBack undoes the changes that should have been confirmed by now. It counts even if it cannot be written: the file
// still says until when the change was to be confirmed, so that the next start goes back as well.
func (s *Server) rollBack(st *state, now time.Time) *state {
	after, tenants := st.saved.rolledBack(now)
	err := errStateChanged
	if !s.keeper.changed() {
		err = s.keeper.write(after)
	}
	if err != nil {
		s.log.Error("state cannot be written", logError, err)
	}
	st = s.recompile(st, after, now)
	for _, name := range tenants {
		s.log.Warn("policy rolled back, nobody has confirmed it", logTenant, name)
		s.audit.note(auditRolledBack, append(Author{Via: "clock"}.attrs(), logTenant, name)...)
	}
	return st
}

// recompile makes what sv says count at now, and returns the state that does; st if that is not possible.
func (s *Server) recompile(st *state, sv *saved, now time.Time) *state {
	policy, err := netpolicy.Compile(policySpec(st.cfg, sv), now)
	if err != nil { // the same entries have been compiled before
		s.log.Error("policy cannot be compiled", logError, err)
		return st
	}
	return s.usePolicy(policy, sv)
}
