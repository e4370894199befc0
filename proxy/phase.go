package proxy

import (
	"time"

	"sluice/internal/loop"
)

// phase is what a session does, as its timeouts and the numbers that are shown see it.
type phase uint8

const (
	phaseIdle    phase = iota // between two transactions
	phaseWaiting              // for a backend
	phaseActive               // a statement is under way
	phaseInBlock              // idle inside a transaction
	numPhases                 // none: not begun, or ended
)

// settle finds the session's phase anew, and whether the moment of cancel requests has come.
func (s *session) settle() {
	switch {
	case s.ended:
	case s.waits():
		s.setPhase(phaseWaiting)
	case s.bc == nil:
		s.setPhase(phaseIdle)
	case !s.m.Quiet(), s.reach.searching():
		s.setPhase(phaseActive)
	case s.m.InBlock():
		s.setPhase(phaseInBlock)
	default:
		s.setPhase(phaseIdle)
	}
	if s.cancelling != nil {
		s.tryCancel()
	}
}

// setPhase changes the phase: numbers, times and the timeout that goes with it.
func (s *session) setPhase(p phase) {
	if p == s.phase {
		return
	}
	now := s.lane.loop.Now()
	t := &s.lane.traffic
	switch s.phase {
	case phaseActive:
		t.Working--
		t.QueryTime.Observe(s.since.Until(now))
	case phaseInBlock:
		t.InBlock--
	}
	switch p {
	case phaseActive:
		t.Working++
		if s.blockSince.IsZero() {
			s.blockSince = loop.At(now)
		}
	case phaseInBlock:
		t.InBlock++
	}
	if (p == phaseIdle || p == numPhases) && !s.blockSince.IsZero() {
		t.TransactionTime.Observe(s.blockSince.Until(now))
		s.blockSince = 0
	}
	s.phase, s.since = p, loop.At(now)
	s.startTimeout()
}

// startTimeout starts the timeout of the phase, if it has one.
func (s *session) startTimeout() {
	if d := s.timeout(); d > 0 {
		s.lane.loop.Start(&s.timer, d, s.timedOut)
	} else {
		s.timer.Stop()
	}
}

// timeout is how long the phase may last; 0: for ever.
func (s *session) timeout() time.Duration {
	l := &s.lane.settings
	return [numPhases + 1]time.Duration{
		phaseIdle: l.timeouts.ClientIdle, phaseWaiting: l.waitTimeout,
		phaseActive: l.timeouts.Query, phaseInBlock: l.timeouts.IdleInTransaction,
	}[s.phase]
}

// timedOut deals with a phase that has lasted too long.
func (s *session) timedOut() {
	switch s.phase {
	case phaseIdle:
		s.end(&endError{reason: ReasonIdleSessionTimeout})
	case phaseWaiting:
		s.waitedTooLong()
	case phaseActive: // Postgres tells the client
		if s.cancelQuery(func() {}) {
			count(&s.lane.traffic.Ended, ReasonQueryTimeout.String())
		}
	case phaseInBlock:
		s.end(&endError{reason: ReasonIdleInTransactionTimeout})
	}
}
