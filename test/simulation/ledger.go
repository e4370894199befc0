package simulation

import (
	"sync"
)

// told is what a client knows of a statement that inserts.
type told int

const (
	toldNothing   told = iota // the answer is still to come
	toldCommitted             // it was committed
	toldFailed                // it was not, and never will be
	toldUnknown               // it may have been: the session ended so
)

func (o told) String() string {
	return [...]string{"nothing", "that it is committed", "that it is not committed", "that it may be committed"}[o]
}

// ledger is what all clusters have run and committed, by stamp, beside what clients were told.
type ledger struct {
	w *world

	mu      sync.Mutex // guards below
	entries map[string]*entry
}

type entry struct {
	run       int
	committed int
	told      told
	why       string // of told
}

func newLedger(w *world) *ledger { return &ledger{w: w, entries: make(map[string]*entry)} }

// entry returns the entry of a stamp. l.mu is held.
func (l *ledger) entry(stamp string) *entry {
	e := l.entries[stamp]
	if e == nil {
		e = &entry{}
		l.entries[stamp] = e
	}
	return e
}

// run notes that a backend begins to run the statement: each does so once.
func (l *ledger) run(stamp string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(stamp)
	if e.run++; e.run > 1 {
		l.w.violation("%s was run %d times", stamp, e.run)
	}
}

// commit notes that the inserts with these stamps are committed.
func (l *ledger) commit(stamps []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range stamps {
		e := l.entry(s)
		if e.committed++; e.committed > 1 {
			l.w.violation("%s was committed %d times", s, e.committed)
		}
	}
}

// tell notes what the client was told of an insert.
func (l *ledger) tell(stamp string, what told, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(stamp)
	if e.told != toldNothing {
		l.w.violation("%s: the client was told %s and then %s", stamp, e.told, what)
	}
	e.told, e.why = what, why
}

// settle compares both sides.
func (l *ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stamp, e := range l.entries {
		switch {
		case e.told == toldCommitted && e.committed == 0, e.told == toldFailed && e.committed > 0,
			e.told == toldNothing && e.committed > 0:
			l.w.violation("%s was run %d times and committed %d times; the client was told %s (%s)", stamp, e.run, e.committed, e.told, e.why)
		case e.told != toldNothing:
			l.w.outcomes.add("insert: client told " + e.told.String())
		}
	}
}
