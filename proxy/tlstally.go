package proxy

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/netpolicy"
)

// Bounds of what is kept of a tenant's logins, since clients choose what they call themselves. Rows for which there is no
// room are added up: first over applications and networks, then over roles and databases too.
const (
	maxTallied = 2000 // rows of each kind; some 200 bytes each
	maxFolded  = 1000 // rows for a role and a database, beside these
	folded     = "other"
)

// TLSReport says who has logged in without TLS, and with which, by tenant in the order of the configuration. Logins on Unix
// sockets are left aside.
type TLSReport struct {
	Tenants []TenantTLS `json:"tenants"`
}

// TenantTLS is one tenant's part of a TLSReport.
type TenantTLS struct {
	Tenant      string        `json:"tenant"`
	Stage       string        `json:"tls_enforcement"` // of the tenant itself
	Since       time.Time     `json:"since"`
	PlainLogins uint64        `json:"plain_logins"`
	TLSLogins   uint64        `json:"tls_logins"`
	Plain       []PlainLogins `json:"plain"` // the most frequent first
	TLS         []TLSLogins   `json:"tls"`   // the same
}

// PlainLogins are logins without TLS. "other" stands for what is added up for want of room.
type PlainLogins struct {
	Role        string    `json:"role"`
	Database    string    `json:"database"`
	Application string    `json:"application_name"`
	Network     string    `json:"network"`         // an IPv4 address, an IPv6 /64
	Stage       string    `json:"tls_enforcement"` // what counts for them now
	Count       uint64    `json:"count"`
	LastSeen    time.Time `json:"last_seen"`
}

// TLSLogins are logins with TLS.
type TLSLogins struct {
	Role     string    `json:"role"`
	Version  string    `json:"version"`
	Cipher   string    `json:"cipher"`
	Count    uint64    `json:"count"`
	LastSeen time.Time `json:"last_seen"`
}

// TLSLogins returns what has been counted of the tenants' logins.
func (s *Server) TLSLogins() TLSReport {
	st := s.state.Load()
	report := TLSReport{Tenants: []TenantTLS{}}
	for i := range st.cfg.Tenants {
		t := &st.cfg.Tenants[i]
		r := TenantTLS{Tenant: t.Name, Stage: tenantStage(t, st.saved).String(), Plain: []PlainLogins{}, TLS: []TLSLogins{}}
		st.tenants[strings.ToLower(t.Name)].logins.list(&r, func(k plainKey) netpolicy.Stage {
			return st.policy.Stage(netpolicy.Peer{Tenant: t.Name, Role: k.role, Database: k.database})
		})
		report.Tenants = append(report.Tenants, r)
	}
	return report
}

// plainKey is what logins without TLS are told apart by. The zero network is that of rows that are added up.
type plainKey struct {
	role, database, application string
	network                     netip.Prefix
}

// tlsKey is what logins with TLS are told apart by.
type tlsKey struct{ role, version, cipher string }

// tallied is a row.
type tallied struct {
	count uint64
	last  time.Time
}

// tlsTally counts a tenant's logins with and without TLS.
type tlsTally struct {
	since time.Time

	mu         sync.Mutex // guards below; held for moments
	plain      map[plainKey]tallied
	tls        map[tlsKey]tallied
	plainCount uint64
	tlsCount   uint64
}

func newTLSTally() *tlsTally {
	return &tlsTally{since: time.Now(), plain: make(map[plainKey]tallied), tls: make(map[tlsKey]tallied)}
}

// addPlain counts a login without TLS.
func (t *tlsTally) addPlain(k plainKey, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plainCount++
	if _, known := t.plain[k]; !known && len(t.plain) >= maxTallied {
		k = plainKey{role: k.role, database: k.database, application: folded}
		if _, known := t.plain[k]; !known && len(t.plain) >= maxTallied+maxFolded {
			k = plainKey{role: folded, database: folded, application: folded}
		}
	}
	t.plain[k] = tallied{t.plain[k].count + 1, now}
}

// addTLS counts a login with TLS.
func (t *tlsTally) addTLS(k tlsKey, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tlsCount++
	if _, known := t.tls[k]; !known && len(t.tls) >= maxTallied {
		k.role = folded
	}
	t.tls[k] = tallied{t.tls[k].count + 1, now}
}

// list adds everything to r.
func (t *tlsTally) list(r *TenantTLS, stage func(plainKey) netpolicy.Stage) {
	t.mu.Lock()
	plain, secure := maps.Clone(t.plain), maps.Clone(t.tls)
	r.Since, r.PlainLogins, r.TLSLogins = t.since.UTC(), t.plainCount, t.tlsCount
	t.mu.Unlock()
	for k, n := range plain {
		network := folded
		if k.network.IsValid() {
			network = k.network.String()
		}
		r.Plain = append(r.Plain, PlainLogins{k.role, k.database, k.application, network, stage(k).String(), n.count, n.last.UTC()})
	}
	for k, n := range secure {
		r.TLS = append(r.TLS, TLSLogins{k.role, k.version, k.cipher, n.count, n.last.UTC()})
	}
	slices.SortFunc(r.Plain, func(x, y PlainLogins) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Role, y.Role), cmp.Compare(x.Database, y.Database),
			cmp.Compare(x.Application, y.Application), cmp.Compare(x.Network, y.Network))
	})
	slices.SortFunc(r.TLS, func(x, y TLSLogins) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Role, y.Role), cmp.Compare(x.Version, y.Version), cmp.Compare(x.Cipher, y.Cipher))
	})
}

// agreed returns the version and the cipher suite of the client's TLS, empty without.
func (a *admission) agreed() (version, cipher string) {
	if a.tlsConn == nil {
		return "", ""
	}
	cs := a.tlsConn.ConnectionState()
	return tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite)
}

// tally counts a client that is let in by its TLS.
func (a *admission) tally(t *tenant, now time.Time) {
	version, cipher := a.agreed()
	switch {
	case a.unix:
		return
	case version != "":
		t.logins.addTLS(tlsKey{a.role, version, cipher}, now)
	default:
		t.logins.addPlain(plainKey{a.role, a.database, a.application, netpolicy.Source(a.ruled())}, now)
		a.srv.metrics.PlainLogin(a.tenant, a.role, a.state.policy.Stage(a.peer()).String())
		version = "none"
	}
	a.srv.metrics.LoggedIn(a.tenant, version, cipher)
}

// plainWarned reports whether the client is to be told that it will be refused without TLS.
func (a *admission) plainWarned() bool {
	return !a.tls && !a.unix && a.state.policy.Stage(a.peer()) == netpolicy.Warn
}
