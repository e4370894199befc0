package pool

import (
	"time"

	"sluice/internal/backend"
)

// shelf is the part of a pool that was opened with the same start-up parameters. Its waiters can be served by no other.
type shelf struct {
	key     string
	target  backend.Target
	idle    []*Backend // a stack
	total   int        // backends, those being opened included
	login   int
	opening []*attempt // login of them, the first begun first
	refused bool       // by Postgres, the last time that one was opened

	waiters line
	plain   line             // those of them who have set nothing
	others  map[string]*line // and of each state; none is empty
	spare   []*line          // to be used in others
}

func newShelf(key string, t backend.Target) *shelf {
	s := &shelf{key: key, target: t, others: make(map[string]*line)}
	s.waiters.init(s, lineOfAll)
	s.plain.init(s, lineOfState)
	return s
}

// join puts w at the end of the line.
func (s *shelf) join(w *Waiter, state string) {
	l := s.alike(state)
	if l == nil {
		l = s.newLine(state)
		s.others[state] = l
	}
	w.line = l
	s.waiters.push(w)
	l.push(w)
}

// leave takes w out of it.
func (s *shelf) leave(w *Waiter) {
	l := w.line
	w.line = nil
	s.waiters.remove(w)
	l.remove(w)
	if l.len == 0 && l != &s.plain {
		delete(s.others, l.state)
		s.spare = append(s.spare, l)
	}
}

// alike returns the line of those with the state, nil if there are none.
func (s *shelf) alike(state string) *line {
	if state == "" {
		return &s.plain
	}
	return s.others[state]
}

func (s *shelf) newLine(state string) *line {
	l := new(line)
	if last := len(s.spare) - 1; last >= 0 {
		l, s.spare = s.spare[last], s.spare[:last]
	} else {
		l.init(s, lineOfState)
	}
	l.state = state
	return l
}

// best returns the idle backend that was used last of those with the state, else of all; nil if none is idle.
func (s *shelf) best(state string) *Backend {
	for i := len(s.idle) - 1; i >= 0; i-- {
		if s.idle[i].State == state {
			return s.idle[i]
		}
	}
	if len(s.idle) == 0 {
		return nil
	}
	return s.idle[len(s.idle)-1]
}

const (
	// patience is how long a waiter may be passed over by others who find their settings on the freed backend.
	patience = 5 * time.Second
	// passedOver is how many times as long as one of those it waits at most. With less the backends would go through the
	// states as a herd: where all but one are served by two or three backends, who waits for that one waits twice as long.
	passedOver = 3
)

// heir returns the waiter, of whom there is one, to whom a freed backend goes: the first in line, or past it the longest waiter
// with the backend's State, because nothing has to be carried then.
func (s *shelf) heir(b *Backend, now time.Time) *Waiter {
	first := s.waiters.first()
	if first.line.state == b.State {
		return first
	}
	same := s.alike(b.State).first()
	if same == nil {
		return first
	}
	if waited := now.Sub(first.since); waited >= patience || waited > passedOver*now.Sub(same.since) {
		return first
	}
	return same
}

// The lines in which a Waiter stands at a time.
const (
	lineOfAll = iota
	lineOfState
)

// links are a Waiter's neighbours in a line.
type links struct{ prev, next *Waiter }

// line is a ring of waiters; behind the root, which is none, is the first.
type line struct {
	shelf *shelf
	state string
	which int
	root  Waiter
	len   int
}

func (l *line) init(s *shelf, which int) {
	l.shelf, l.which = s, which
	l.root.links[which] = links{&l.root, &l.root}
}

// first returns who has waited longest, nil if nobody does. A line that does not exist has nobody.
func (l *line) first() *Waiter {
	if l == nil || l.len == 0 {
		return nil
	}
	return l.root.links[l.which].next
}

func (l *line) push(w *Waiter) {
	last := l.root.links[l.which].prev
	w.links[l.which] = links{last, &l.root}
	last.links[l.which].next, l.root.links[l.which].prev = w, w
	l.len++
}

func (l *line) remove(w *Waiter) {
	at := w.links[l.which]
	at.prev.links[l.which].next, at.next.links[l.which].prev = at.next, at.prev
	w.links[l.which] = links{}
	l.len--
}
