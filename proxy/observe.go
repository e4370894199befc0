package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/relay"
)

// maxObserved bounds what is kept of a tenant.
const maxObserved = 5000

// What a transaction port makes of a statement that may change the session.
const (
	Asks      = relay.Asks
	Pins      = relay.Pins
	PinsToEnd = relay.PinsToEnd
)

// TransactionModeReport says what the clients of the session ports would have to reckon with on a transaction port, by tenant
// in the order of the configuration.
type TransactionModeReport struct {
	Tenants []TenantObservation `json:"tenants"`
}

// TenantObservation is one tenant's part of a TransactionModeReport.
type TenantObservation struct {
	Tenant    string              `json:"tenant"`
	Observing bool                `json:"observe_transaction_mode"`
	Since     *time.Time          `json:"since,omitempty"` // nil: nothing has been observed yet
	Looked    uint64              `json:"statements"`      // that were looked at: each Query and each Parse
	Omitted   uint64              `json:"omitted"`         // of these: they have an effect, but there was no room to list them
	Code      []OpaqueCode        `json:"code"`            // by database
	Effects   []ObservedStatement `json:"effects"`         // the worst first
}

// OpaqueCode is a database that has code which may change the session behind any statement.
type OpaqueCode struct {
	Database string `json:"database"`
	Function string `json:"function"` // the first one
}

// ObservedStatement is a statement that would have an effect on a transaction port.
type ObservedStatement struct {
	Database    string       `json:"database"`
	Role        string       `json:"role"`
	Application string       `json:"application_name"`
	Effect      relay.Effect `json:"effect"`
	Reason      string       `json:"reason"`
	Count       uint64       `json:"count"`
	Statement   string       `json:"statement"` // its fingerprint
}

// TransactionMode returns what has been observed on the session ports of tenants with observe_transaction_mode.
func (s *Server) TransactionMode() TransactionModeReport {
	everyLane(s, func(l *lane) struct{} {
		l.reportObserved()
		return struct{}{}
	})
	report := TransactionModeReport{Tenants: []TenantObservation{}}
	state := s.state.Load()
	for _, t := range state.cfg.Tenants {
		o := TenantObservation{Tenant: t.Name, Observing: t.ObserveTransactionMode, Code: []OpaqueCode{}, Effects: []ObservedStatement{}}
		if live := state.tenants[strings.ToLower(t.Name)]; live != nil && o.Observing {
			live.observed.list(&o)
			live.codeObserved(&o)
		}
		report.Tenants = append(report.Tenants, o)
	}
	return report
}

// observe turns observing on or off. To be called on the loop.
func (l *lane) observe() {
	if l.settings.observe {
		l.observer.Start()
		return
	}
	l.observer.Stop()
}

// reportObserved passes what has been observed on to the tenant. To be called on the loop.
func (l *lane) reportObserved() {
	if !l.settings.observe {
		return
	}
	o := &l.tenant.observed
	o.mu.Lock()
	defer o.mu.Unlock()
	looked, omitted := l.observer.Drain(func(row relay.Observed, n uint64) { o.add(place{l.key.Database, l.key.Role, row}, n) })
	o.looked += looked
	o.omitted += omitted
}

// codeObserved adds the databases whose code may change any session.
func (ts *tenantState) codeObserved(o *TenantObservation) {
	seen := make(map[string]bool)
	for _, l := range ts.all() {
		function := ts.code.look(l.code).first
		if l.key.Mode == modeSession && function != "" && !seen[l.key.Database] {
			seen[l.key.Database] = true
			o.Code = append(o.Code, OpaqueCode{l.key.Database, function})
		}
	}
	slices.SortFunc(o.Code, func(x, y OpaqueCode) int { return cmp.Compare(x.Database, y.Database) })
}

// place is an observed statement with who has sent it where.
type place struct {
	database, role string
	relay.Observed
}

// observations are what a tenant's session ports have seen. The zero value has seen nothing.
type observations struct {
	mu      sync.Mutex // guards below
	since   time.Time  // zero: nothing is observed
	counts  map[place]uint64
	looked  uint64
	omitted uint64
}

// follow makes it begin, or forget everything, as the configuration has it.
func (o *observations) follow(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !on:
		o.since, o.counts, o.looked, o.omitted = time.Time{}, nil, 0, 0
	case o.since.IsZero():
		o.since, o.counts = time.Now(), make(map[place]uint64)
	}
}

// add counts n of a statement. o.mu is held.
func (o *observations) add(p place, n uint64) {
	if _, known := o.counts[p]; !known && (o.counts == nil || len(o.counts) >= maxObserved) {
		o.omitted += n
		return
	}
	o.counts[p] += n
}

// list adds everything to t, the worst effects first and of these the most frequent.
func (o *observations) list(t *TenantObservation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		since := o.since.UTC()
		t.Since = &since
	}
	t.Looked, t.Omitted = o.looked, o.omitted
	for p, n := range maps.All(o.counts) {
		t.Effects = append(t.Effects, ObservedStatement{p.database, p.role, p.Application, p.Effect, p.Reason, n, p.Statement})
	}
	slices.SortFunc(t.Effects, func(x, y ObservedStatement) int {
		return cmp.Or(
			cmp.Compare(y.Effect.Weight(), x.Effect.Weight()), cmp.Compare(y.Count, x.Count), cmp.Compare(x.Database, y.Database),
			cmp.Compare(x.Role, y.Role), cmp.Compare(x.Application, y.Application), cmp.Compare(x.Statement, y.Statement), cmp.Compare(x.Reason, y.Reason))
	})
}
