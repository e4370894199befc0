package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxHolders bounds the holders of one pool that are shown by name.
const maxHolders = 5

// holding is what becomes of a backend while it is held. The words are public: /status and the log have them.
type holding string

const (
	holdsActive    holding = "active"              // a statement is under way
	holdsInBlock   holding = "idle_in_transaction" // nothing is under way, but a transaction is open
	holdsPinned    holding = "pinned"              // between transactions, but the session keeps it
	holdsIdle      holding = "idle"                // the same in session mode, where every session does
	holdsReturning holding = "returning"           // on its way from one session to another
)

// holder is who holds a backend.
type holder struct {
	session *session // nil: nobody any more, or not yet
	state   holding
	pin     string // why, if the session is pinned
	age     time.Duration
}

// Holder is one of those who have held their backends longest, for operators.
type Holder struct {
	Session     uint64  `json:"session"`
	Role        string  `json:"role"`
	Application string  `json:"application_name"`
	ClientAddr  string  `json:"client_addr"`
	BackendPID  uint32  `json:"backend_pid"`
	State       holding `json:"state"`
	Pin         string  `json:"pin,omitempty"`
	Seconds     float64 `json:"seconds"` // in that state; pinned: since it has the backend
}

// String writes a Holder for the log.
func (h Holder) String() string {
	s := fmt.Sprintf("session %d of %q (%q from %s, backend %d) %s for %.1f s", h.Session, h.Role, h.Application, h.ClientAddr,
		h.BackendPID, h.State, h.Seconds)
	if h.Pin != "" {
		s += " because of " + h.Pin
	}
	return s
}

// holders returns who holds the pool's backends. To be called on the loop.
func (l *lane) holders() []holder {
	now := l.loop.Now()
	held := l.pool.Held()
	all := make([]holder, len(held))
	for i, b := range held {
		h := holder{session: b.Owner.(*backendConn).session, state: holdsReturning, age: now.Sub(b.Since())}
		if s := h.session; s != nil && !s.ended {
			if s.pin != nil {
				h.pin = s.pin.reason
			}
			h.state = s.holding()
			if h.state != holdsPinned {
				h.age = s.since.Until(now)
			}
		}
		all[i] = h
	}
	return all
}

// holding is what the session's backend is held for.
func (s *session) holding() holding {
	switch {
	case s.phase == phaseActive:
		return holdsActive
	case s.phase == phaseInBlock:
		return holdsInBlock
	case s.pin != nil:
		return holdsPinned
	case s.phase == phaseIdle && !s.pooled():
		return holdsIdle
	}
	return holdsReturning
}

// longest returns those who have held their backends longest, for operators. To be called on the loop.
func longest(all []holder) []Holder {
	all = slices.DeleteFunc(slices.Clone(all), func(h holder) bool { return h.session == nil || h.session.bc == nil })
	slices.SortFunc(all, func(x, y holder) int {
		return cmp.Or(cmp.Compare(y.age, x.age), cmp.Compare(x.session.id, y.session.id))
	})
	var shown []Holder
	for _, h := range all[:min(len(all), maxHolders)] {
		s := h.session
		shown = append(shown, Holder{
			Session: s.id, Role: s.role, Application: s.application, ClientAddr: s.clientAddr(), BackendPID: s.bc.b.Conn.PID,
			State: h.state, Pin: h.pin, Seconds: h.age.Seconds(),
		})
	}
	return shown
}

// longestHolders returns those of several parts of a pool.
func longestHolders(all []Holder) []Holder {
	slices.SortFunc(all, func(x, y Holder) int {
		return cmp.Or(cmp.Compare(y.Seconds, x.Seconds), cmp.Compare(x.Session, y.Session))
	})
	return all[:min(len(all), maxHolders)]
}

// group is a number of holders that do the same.
type group struct {
	what    string // for people
	state   holding
	n       int
	longest time.Duration
}

// groups adds holders up for people, the greatest number first, then the longest. They name nobody.
func groups(all []holder) []group {
	var found []group
	for _, h := range all {
		what := holdingWords(h)
		i := slices.IndexFunc(found, func(g group) bool { return g.what == what })
		if i < 0 {
			i = len(found)
			found = append(found, group{what: what, state: h.state})
		}
		found[i].n++
		found[i].longest = max(found[i].longest, h.age)
	}
	slices.SortFunc(found, func(x, y group) int {
		return cmp.Or(cmp.Compare(y.n, x.n), cmp.Compare(y.longest, x.longest), cmp.Compare(x.what, y.what))
	})
	return found
}

// listed writes groups as a list.
func listed(groups []group) string {
	parts := make([]string, len(groups))
	for i, g := range groups {
		parts[i] = fmt.Sprintf("%d %s (longest %.1f s)", g.n, g.what, g.longest.Seconds())
	}
	return strings.Join(parts, ", ")
}

// holdingWords says what a holder does.
func holdingWords(h holder) string {
	switch h.state {
	case holdsInBlock:
		return "idle in transaction"
	case holdsPinned:
		return "pinned by " + pinWords(h.pin)
	case holdsIdle:
		return "idle between transactions"
	case holdsReturning:
		return "changing hands"
	}
	return string(h.state)
}
