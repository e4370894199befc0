// Package netpolicy decides from its address, role, database and TLS state whether a client may connect.
package netpolicy

import (
	"net/netip"
	"slices"
	"time"
)

// Policy is a compiled Spec. It is immutable: any number of goroutines may ask it at once, and a change is a new
// Policy. A nil Policy and the zero Policy deny everybody.
type Policy struct {
	process addresses
	tenants map[string]*tenant
	expires time.Time
}

// Expires returns when the first entry of the policy expires, so that it has to be compiled anew; zero: never.
func (p *Policy) Expires() time.Time { return p.expires }

// Peer is a client that wants to connect, as far as it is known after its start-up message.
type Peer struct {
	Addr     netip.Addr // of the client, not of a load balancer in front of it; unused if Unix
	Unix     bool       // came through a Unix socket: no address rule applies to it, nor does a Stage
	Tenant   string
	Role     string // as logged in with; SET ROLE does not count
	Database string
	TLS      bool   // the connection is encrypted
	Mode     string // of the listener
}

type tenant struct {
	addresses
	stage               Stage
	allowOtherRoles     bool
	allowOtherDatabases bool
	roles               map[string]*role
	databases           map[string]*database
	renamed             map[string][]*database // by the name in Postgres, where databases has none of that name
}

type role struct {
	addresses
	stage Stage
	modes []string // empty: all
}

type database struct {
	addresses
	stage Stage
}

// CheckAddr asks the rules of the process alone whether a client from addr may speak at all. It is for the moment
// before the first byte is read; clients on Unix sockets, which have no address, are not asked about.
// It returns nil or a *DeniedError, and does not allocate when it returns nil.
func (p *Policy) CheckAddr(addr netip.Addr) error {
	if p == nil {
		p = &Policy{}
	}
	addr = canonical(addr)
	if p.process.admits(addr) {
		return nil
	}
	return deniedAddress(Peer{Addr: addr}, LevelProcess, &p.process)
}

// Check reports whether peer may connect. Process, tenant, role and database are asked in this order; each can only
// narrow what the ones before it allow, and the first that denies is the one reported.
// It returns nil or a *DeniedError, and does not allocate when it returns nil.
func (p *Policy) Check(peer Peer) error {
	if p == nil {
		p = &Policy{}
	}
	peer.Addr = canonical(peer.Addr)
	if !p.process.admitsPeer(&peer) {
		return deniedAddress(peer, LevelProcess, &p.process)
	}
	t, found := p.tenants[peer.Tenant]
	if !found {
		return denied(peer, LevelProcess, UnknownTenant, "tenants")
	}
	if !t.admitsPeer(&peer) {
		return deniedAddress(peer, LevelTenant, &t.addresses)
	}
	if t.stage.denies(&peer) {
		return denied(peer, LevelTenant, TLSRequired, stageRule)
	}
	if err := t.checkRole(&peer); err != nil {
		return err
	}
	return t.checkDatabase(&peer)
}

func (t *tenant) checkRole(peer *Peer) error {
	r, listed := t.roles[peer.Role]
	switch {
	case !listed && t.allowOtherRoles:
		return nil
	case !listed:
		return denied(*peer, LevelTenant, RoleDenied, "other_roles")
	case !r.admitsPeer(peer):
		return deniedAddress(*peer, LevelRole, &r.addresses)
	case r.stage.denies(peer):
		return denied(*peer, LevelRole, TLSRequired, stageRule)
	case len(r.modes) > 0 && !slices.Contains(r.modes, peer.Mode):
		return denied(*peer, LevelRole, ModeDenied, "modes")
	}
	return nil
}

func (t *tenant) checkDatabase(peer *Peer) error {
	if d, listed := t.databases[peer.Database]; listed {
		return d.check(peer)
	}
	if !t.allowOtherDatabases {
		return denied(*peer, LevelTenant, DatabaseDenied, "other_databases")
	}
	for _, d := range t.renamed[peer.Database] {
		if err := d.check(peer); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) check(peer *Peer) error {
	switch {
	case !d.admitsPeer(peer):
		return deniedAddress(*peer, LevelDatabase, &d.addresses)
	case d.stage.denies(peer):
		return denied(*peer, LevelDatabase, TLSRequired, stageRule)
	}
	return nil
}

// admitsPeer is admits for peer's address, which must be canonical; no address rule applies to a Unix socket.
func (a *addresses) admitsPeer(peer *Peer) bool {
	return peer.Unix || a.admits(peer.Addr)
}

// stageRule is the configuration key of a Stage.
const stageRule = "tls_enforcement"

func deniedAddress(peer Peer, level Level, a *addresses) error {
	return denied(peer, level, AddressDenied, a.rule(peer.Addr))
}

func denied(peer Peer, level Level, cause Cause, rule string) error {
	return &DeniedError{Peer: peer, Level: level, Rule: rule, Cause: cause}
}
