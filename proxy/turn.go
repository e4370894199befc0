package proxy

import "sluice/pool"

// turn is a session's place in the line for a backend. A session has one while it waits, which few do at a time: its shard
// keeps those that are not in use.
type turn struct {
	pool.Waiter
	session *session
}

// waits reports whether the session waits for a backend.
func (s *session) waits() bool { return s.turn != nil }

// ask asks the pool for a backend. It returns nil if the session has to wait: granted will be called then, perhaps before
// ask returns, unless leaveLine comes first.
func (s *session) ask() *pool.Backend {
	s.turn = s.lane.takeTurn(s)
	b := s.lane.pool.Acquire(&s.turn.Waiter, s.base.key, s.m.State(), *s.target)
	if b != nil {
		s.dropTurn()
	}
	return b
}

// leaveLine has the session wait no longer, if it does.
func (s *session) leaveLine() {
	if s.turn != nil {
		s.lane.pool.Cancel(&s.turn.Waiter)
		s.dropTurn()
	}
}

// dropTurn gives a turn back that stands in no line.
func (s *session) dropTurn() {
	t := s.turn
	s.turn, t.session = nil, nil
	s.lane.turns = append(s.lane.turns, t)
}

// takeTurn returns a turn for the session.
func (sh *shard) takeTurn(s *session) *turn {
	last := len(sh.turns) - 1
	if last < 0 {
		t := &turn{session: s}
		t.Granted = t.granted
		return t
	}
	t := sh.turns[last]
	sh.turns[last] = nil
	sh.turns = sh.turns[:last]
	t.session = s
	return t
}

// granted is called by the pool when the turn has come.
func (t *turn) granted(b *pool.Backend, err error) {
	s := t.session
	s.dropTurn()
	s.granted(b, err)
}
