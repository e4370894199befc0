package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// ends is Sluice's log: it collects how each session and each attempt ended. Each does so once.
type ends struct {
	w *world

	mu       sync.Mutex // guards below
	byID     map[string]bool
	byAddr   map[string]*end
	byReason map[reasonKey]int
	lines    int
}

type end struct {
	at                     time.Time
	reason, sqlstate, text string
	tenant, mode           string
}

type reasonKey struct{ tenant, mode, reason string }

func newEnds(w *world) *ends {
	return &ends{w: w, byID: make(map[string]bool), byAddr: make(map[string]*end), byReason: make(map[reasonKey]int)}
}

// Enabled implements slog.Handler.
func (e *ends) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (e *ends) WithAttrs([]slog.Attr) slog.Handler { return e }

// WithGroup implements slog.Handler.
func (e *ends) WithGroup(string) slog.Handler { return e }

// Handle implements slog.Handler.
func (e *ends) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]string)
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	switch {
	case r.Message == "session ended":
		e.ended(attrs)
	case strings.Contains(r.Message, "panic"):
		e.w.violation("%s: %v", r.Message, attrs)
	default:
		e.w.note("sluice", "%s %v", r.Message, attrs)
	}
	return nil
}

func (e *ends) ended(attrs map[string]string) {
	addr, reason := attrs["client_addr"], attrs["reason"]
	e.w.note("sluice", "session %s of %s ended: %s %s", attrs["session"], addr, reason, attrs["error"])
	e.w.outcomes.add("end: " + reason)
	if reason == "internal_error" || reason == "protocol_violation" {
		e.w.violation("a session ended with %s: %v", reason, attrs)
	}
	e.mu.Lock()
	if e.byID[attrs["session"]] || e.byAddr[addr] != nil {
		e.w.violation("session %s of %s ended twice, now with %s", attrs["session"], addr, reason)
	}
	e.byID[attrs["session"]] = true
	e.byAddr[addr] = &end{time.Now(), reason, attrs["sqlstate"], attrs["error"], attrs["tenant"], attrs["mode"]}
	e.byReason[reasonKey{attrs["tenant"], attrs["mode"], reason}]++
	e.lines++
	e.mu.Unlock()
	e.w.crowd.ended(addr, reason)
}

// of returns how the session of a client's address has ended, nil if it has not.
func (e *ends) of(addr string) *end {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byAddr[addr]
}

// count returns how many sessions and attempts have ended so.
func (e *ends) count(key reasonKey) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byReason[key]
}

// reasons returns all that have occurred.
func (e *ends) reasons() (all []reasonKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key := range e.byReason {
		all = append(all, key)
	}
	return all
}

// settle checks that every client that Sluice has greeted has ended, and as it was told.
func (e *ends) settle() {
	for _, l := range e.w.crowd.all() {
		end := e.of(l.addr)
		switch {
		case !l.greeted:
		case end == nil:
			e.w.violation("%s (%s) was greeted, and no end of its session was logged", l.session, l.addr)
		case l.fatal != "" && !agree(l.fatal, end):
			e.w.violation("%s was told %s, and the log says %s", l.session, l.fatal, end)
		case l.fatal == "" && !l.left && !l.torn:
			e.w.violation("%s was told nothing, and the log says %s", l.session, end)
		}
	}
}

// agree reports whether the reason in the log is what the client was told. What Postgres itself says has no SQLSTATE there.
func agree(fatal string, e *end) bool {
	if e.reason == "backend_terminated" || e.reason == "backend_refused" {
		return true
	}
	return e.sqlstate == fatal || e.reason == "client_disconnected" || e.reason == "client_terminated"
}

func (e *end) String() string { return fmt.Sprintf("%s %s %s", e.reason, e.sqlstate, e.text) }
