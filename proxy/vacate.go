package proxy

import (
	"slices"
	"strings"
	"time"

	"sluice/internal/loop"
)

// vacateTimeout is how long a statement waits at most for the idle backends in its way to be closed.
const vacateTimeout = 5 * time.Second

// vacancy keeps the databases that a session's statement needs for itself free of backends that nobody holds, whichever pool
// of the tenant they belong to: of both ports, of all roles, and the service's.
type vacancy struct {
	databases []string // by their names in Postgres
	service   *service // nil: it is in no way
	left      int      // pools that still have such backends, and the service
	timer     loop.Timer
}

// vacate begins to get idle backends out of the way of the statement that the client has sent. It reports whether they are;
// if not, the client's message waits.
func (s *session) vacate() (done bool) {
	if s.lane.vacancies[s] != nil {
		return false // under way
	}
	v := &vacancy{databases: s.m.Vacancy()}
	if s.lane.vacancies == nil {
		s.lane.vacancies = make(map[*session]*vacancy)
	}
	s.lane.vacancies[s] = v
	t := s.lane.tenant
	gone := func() { s.lane.loop.Post(func() { s.vacated(v) }) }
	for _, l := range t.vacate(v.databases, 1) {
		if l.loop.Post(func() { l.pool.Vacate(gone) }) {
			v.left++
		}
	}
	if ts := s.lane.srv.state.Load().tenants[strings.ToLower(t.name)]; ts != nil && ts.svc != nil && slices.Contains(v.databases, ts.svc.target.Database) {
		v.service = ts.svc
		v.left++
		s.lane.done.Go(func() {
			v.service.vacate(1)
			gone()
		})
	}
	if v.left == 0 {
		s.m.Vacated()
		return true
	}
	s.lane.loop.Start(&v.timer, vacateTimeout, func() {
		v.left = 1
		s.vacated(v)
	})
	return false
}

// vacated takes note that one more pool is out of the way; behind the last one the client's message goes on.
func (s *session) vacated(v *vacancy) {
	if v.left--; v.left != 0 || s.lane.vacancies[s] != v {
		return
	}
	v.timer.Stop()
	s.m.Vacated()
	p := s.held
	s.held = nil
	s.fromClient(p)
	s.interest()
}

// endVacancy has the databases used again when the statement is over.
func (s *session) endVacancy() {
	v := s.lane.vacancies[s]
	if v == nil {
		return
	}
	delete(s.lane.vacancies, s)
	v.timer.Stop()
	for _, l := range s.lane.tenant.vacate(v.databases, -1) {
		l.loop.Post(l.heedVacancy)
	}
	if v.service != nil {
		s.lane.done.Go(func() { v.service.vacate(-1) })
	}
}

// heedVacancy has the lane's pool do what statements that are under way need of its database. To be called on the loop.
func (l *lane) heedVacancy() {
	if l.tenant.vacates(l.code) {
		l.pool.Vacate(nil)
	} else {
		l.pool.Occupy()
	}
}

// vacate takes note that n statements more need others off the databases, and returns the lanes of these.
func (t *tenant) vacate(databases []string, n int) (lanes []*lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vacated == nil {
		t.vacated = make(map[string]int)
	}
	for _, database := range databases {
		bump(t.vacated, database, n)
	}
	for _, ps := range t.pools {
		for _, l := range ps.lanes {
			if slices.Contains(databases, l.code) {
				lanes = append(lanes, l)
			}
		}
	}
	return lanes
}

// vacates reports whether a statement is under way that needs others off the database.
func (t *tenant) vacates(database string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vacated[database] > 0
}
