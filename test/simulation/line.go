package simulation

import (
	"sync"
	"time"
)

// line watches who is served in which order. Those who wait for a backend of one pool that was opened with the same
// start-up parameters are on one shelf, and are to be served in the order of their coming. Sessions that have set something are
// not watched: whom they pass over, and who passes over them, depends on which backend is freed. Where pools are split over
// loops that order holds in each part, so it is not looked at, but nobody may be forgotten. A place is known to be taken
// when all of a request has been written, and a request was not there before its first byte was.
type line struct {
	w *world

	mu      sync.Mutex // guards below
	waiting map[string]*place
	served  map[string][]service // by shelf
	parted  map[string]bool      // tenants whose pools are split, or have been
}

type place struct {
	tenant      string
	shelf       string
	came        time.Time // its first byte was written
	whole       time.Time // its last was; zero: not yet
	servedSoFar int       // on its shelf, when it was whole
}

type service struct {
	session  string
	came, at time.Time
}

func newLine(w *world) *line {
	return &line{w: w, waiting: make(map[string]*place), served: make(map[string][]service), parted: make(map[string]bool)}
}

// split is called when a tenant's pools are split over loops.
func (l *line) split(tenant string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parted[tenant] = true
}

// come is called before a session writes a request that needs a backend.
func (l *line) come(session, tenant, shelf string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[session] = &place{tenant: tenant, shelf: shelf, came: time.Now()}
}

// whole is called when it has written all of it.
func (l *line) whole(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.waiting[session]; p != nil {
		p.whole, p.servedSoFar = time.Now(), len(l.served[p.shelf])
	}
}

// serve is called when a backend is seen to work for the session.
func (l *line) serve(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.waiting[session]
	if p == nil {
		return
	}
	l.judge(session, p)
	delete(l.waiting, session)
	l.served[p.shelf] = append(l.served[p.shelf], service{session, p.came, time.Now()})
}

// judge reports those who came later and were served at an earlier instant than now. l.mu is held.
func (l *line) judge(session string, p *place) {
	if p.whole.IsZero() || l.parted[p.tenant] {
		return
	}
	now := time.Now()
	for _, s := range l.served[p.shelf][p.servedSoFar:] {
		if s.came.After(p.whole) && s.at.Before(now) {
			l.w.violation("%s: %s came at %s and was served at %s, before %s, which waits since %s",
				p.shelf, s.session, s.came.Sub(l.w.began), s.at.Sub(l.w.began), session, p.whole.Sub(l.w.began))
			return
		}
	}
}

// despair is called when the session was told that it has waited too long: nobody behind it may have been served.
func (l *line) despair(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.waiting[session]; p != nil {
		l.judge(session, p)
		delete(l.waiting, session)
	}
}

// leave is called when the session waits no more, for whatever reason.
func (l *line) leave(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, session)
}

// settle checks that nobody was forgotten.
func (l *line) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for session, p := range l.waiting {
		l.w.violation("%s: %s still waits in the end", p.shelf, session)
	}
}
