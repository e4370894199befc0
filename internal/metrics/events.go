package metrics

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// events is what is counted when it happens.
type events struct {
	refusals             tally
	loginFailures        tally
	backendLoginFailures tally
	cancels              tally
	bans                 tally
	loginDelays          tally
	logins               tally
	plainLogins          tally
	panics               atomic.Uint64

	mu         sync.Mutex // guards below
	reloadOK   bool
	reloadedAt time.Time // the last time with success
}

func (e *events) init(limit int) {
	e.refusals = newTally(1, limit)
	e.loginFailures = newTally(2, limit)
	e.backendLoginFailures = newTally(1, limit)
	e.cancels = newTally(0, limit)
	e.bans = newTally(0, limit)
	e.loginDelays = newTally(0, limit)
	e.logins = newTally(0, limit)
	e.plainLogins = newTally(2, limit)
}

// Refused counts a client that was refused before its login was complete. tenant and mode are empty if they are not
// known, or named by the client only.
func (m *Metrics) Refused(tenant, mode, reason string) {
	m.events.refusals.add(labelSet{tenant, mode, reason})
}

// LoginFailed counts a client whose proof was wrong. A role is named only if it is exported under its name, because it
// has logged in: what a client types is no label. tenant is empty if no such tenant is configured.
func (m *Metrics) LoginFailed(tenant, role string) {
	set := labelSet{tenant, role}
	roles := m.roles.Load()
	known := m.events.loginFailures.has(set)
	if roles != nil && !known {
		_, known = (*roles)[tenantRole{clean(tenant), clean(role)}]
	}
	if !known {
		set[1] = other
	}
	m.events.loginFailures.add(set)
}

// LoggedIn counts a client that has logged in over TCP, by its TLS; version is none without.
func (m *Metrics) LoggedIn(tenant, version, cipher string) {
	m.events.logins.add(labelSet{tenant, version, cipher})
}

// PlainLogin counts a client that has logged in over TCP without TLS, by what tls_enforcement says of it.
func (m *Metrics) PlainLogin(tenant, role, stage string) {
	m.events.plainLogins.add(labelSet{tenant, role, stage})
}

// LoginDelayed counts a client that had to wait because of failed logins before its own. tenant is empty if no such tenant
// is configured, here and in Banned.
func (m *Metrics) LoginDelayed(tenant string) { m.events.loginDelays.add(labelSet{tenant}) }

// Banned counts an address that was banned.
func (m *Metrics) Banned(tenant string) { m.events.bans.add(labelSet{tenant}) }

// BackendLoginFailed counts a login of Sluice that Postgres has refused, or that could not be tried.
func (m *Metrics) BackendLoginFailed(tenant, reason string) {
	m.events.backendLoginFailures.add(labelSet{tenant, reason})
}

// Cancelled counts a cancel request by what became of it.
func (m *Metrics) Cancelled(outcome string) { m.events.cancels.add(labelSet{outcome}) }

// Panicked counts a panic that was caught.
func (m *Metrics) Panicked() { m.events.panics.Add(1) }

// Reloaded notes that the configuration was loaded anew, or why it was not.
func (m *Metrics) Reloaded(err error) {
	e := &m.events
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reloadOK = err == nil
	if err == nil {
		e.reloadedAt = time.Now()
	}
}

func (e *events) reload() (ok bool, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reloadOK, e.reloadedAt
}

// labelSet is the values of a family's labels in their order; those it does not have are empty.
type labelSet [3]string

// tally counts events by label set. When it knows as many as it may, new ones have other in the place of their first
// labels, those that the code does not bound.
type tally struct {
	open, limit int

	mu     sync.Mutex // guards below
	counts map[labelSet]uint64
}

func newTally(open, limit int) tally {
	return tally{open: open, limit: limit, counts: make(map[labelSet]uint64)}
}

func (t *tally) add(set labelSet) {
	set = set.clean()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.counts[set]; !known && len(t.counts) >= t.limit {
		for i := range t.open {
			set[i] = other
		}
	}
	t.counts[set]++
}

func (t *tally) has(set labelSet) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.counts[set.clean()]
	return known
}

func (t *tally) snapshot() map[labelSet]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

func (s labelSet) clean() labelSet {
	for i := range s {
		s[i] = clean(s[i])
	}
	return s
}

// clean makes a name a label: names of Postgres may be in any encoding, labels are UTF-8.
func clean(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
