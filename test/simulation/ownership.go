package simulation

import (
	"strings"
	"time"
)

// What Sluice asks of a backend on its own account: to set something, perhaps in a transaction, and what a session has left.
const (
	ownBegin  = "BEGIN ISOLATION LEVEL READ COMMITTED"
	ownCommit = "COMMIT"

	ownSet      = "SELECT pg_catalog.set_config($1, $2, false)"
	ownSetLocal = "SELECT pg_catalog.set_config($1, $2, true)"                               // for a Parse, and back
	ownCalm     = "SELECT 't', 'statement_timeout', "                                        // and more: in front of a question that has failed before
	ownAsk      = "SELECT 's', s.name, s.setting, s.reset_val FROM pg_catalog.pg_settings s" // and more
)

// lateness is how long after a cancel request its effect may come: Sluice gives each as much.
const lateness = 11 * time.Second

// ownership is who may use a backend. One of the transaction port belongs to a session for a transaction, or from a
// statement on that changes the session's state until Sluice has asked what is left; one of the session port until DISCARD
// ALL.
type ownership struct {
	w      *world
	name   string // of the backend
	pooled bool
	user   string // session; empty: nobody's
	kept   bool   // the session may have left something here that Sluice does not know: nobody else may use it
}

// use notes that a statement of the session is to be run.
func (o *ownership) use(session string) {
	switch {
	case session == "":
		o.w.violation("%s was sent a statement without a stamp", o.name)
	case o.user != "" && o.user != session:
		o.w.violation("%s belongs to %s, and was sent a statement of %s", o.name, o.user, session)
	}
	o.user = session
}

// free notes that no transaction is open.
func (o *ownership) free() {
	if o.pooled && !o.kept {
		o.user = ""
	}
}

// inject checks a statement of Sluice's own: what cleans up may come only when the client is gone, what carries state
// only to a backend that is free.
func (o *ownership) inject(text string) {
	switch {
	case text == "ROLLBACK", text == "DISCARD ALL":
		if o.user != "" && !o.w.over(o.user) {
			o.w.violation("%s was sent %s while %s is alive", o.name, text, o.user)
		}
		if text == "DISCARD ALL" {
			o.user = ""
		}
	case text == ownSet, text == ownBegin, text == ownCommit:
		if !o.pooled || o.user != "" {
			o.w.violation("%s was sent %q while it belongs to %q", o.name, text, o.user)
		}
	case text == ownSetLocal:
		if !o.pooled {
			o.w.violation("%s was sent %q, though it is of the session port", o.name, text)
		}
	case strings.HasPrefix(text, ownAsk), strings.HasPrefix(text, ownCalm):
		if !o.pooled {
			o.w.violation("%s was asked what %s has left, though it is of the session port", o.name, o.user)
		}
	default:
		o.w.violation("%s was sent %q, which no client has sent", o.name, text)
	}
}

// over reports whether the session's client is gone, or has been told that it is over.
func (w *world) over(session string) bool {
	l, ok := w.crowd.of(session)
	return ok && (l.left || w.ends.of(l.addr) != nil)
}

// mayCancel reports whether what the session runs may be cancelled now: it has asked for that, it is over, or a timeout
// has passed.
func (w *world) mayCancel(session string) bool {
	if w.over(session) {
		return true
	}
	l, ok := w.crowd.of(session)
	if !ok {
		return false
	}
	recently := func(t time.Time) bool { return !t.IsZero() && time.Since(t) <= lateness }
	limit := w.rules.queryLimit()
	slow := limit > 0 && !l.working.IsZero() && time.Since(l.working) >= limit
	return recently(l.cancelled) || recently(l.slow) || slow
}
