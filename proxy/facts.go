package proxy

import (
	"net/netip"

	"sluice/internal/loop"
	"sluice/netpolicy"
)

// facts is what is known of a client since its login, and does not change.
type facts struct {
	id          uint64
	addr        netip.AddrPort  // zero for a Unix socket
	balancer    *netip.AddrPort // that stands in front and has told addr; nil: none
	application string
	began       loop.Instant
	unix        bool
	veiled      bool // behind a balancer that does not tell: addr is the balancer's
	tls         bool
	*destination
}

// destination is where a client wants to go. Sessions of a lane share theirs.
type destination struct {
	listener string
	mode     string
	tenant   string
	role     string
	database string
}

func (f *facts) peer() netpolicy.Peer {
	return netpolicy.Peer{
		Addr: f.ruled(), Unix: f.unix, Tenant: f.tenant, Role: f.role, Database: f.database, TLS: f.tls, Mode: f.mode,
	}
}

// clientAddr is the client's address for people.
func (f *facts) clientAddr() string {
	switch {
	case f.unix:
		return "unix"
	case f.veiled:
		return "unknown"
	}
	return f.addr.String()
}

// seenAs is the client's address without the port, for the client itself.
func (f *facts) seenAs() string {
	if f.veiled {
		return "unknown"
	}
	return f.addr.Addr().String()
}

func (f *facts) attrs() []any {
	attrs := []any{
		logSession, f.id, logClientAddr, f.clientAddr(), logListener, f.listener, logMode, f.mode, logTenant, f.tenant,
		logRole, shownName(f.role), logDatabase, shownName(f.database), logTLS, f.tls, logApplication, f.application,
	}
	if f.balancer != nil {
		attrs = append(attrs, logBalancer, *f.balancer)
	}
	return attrs
}

// ruled is the address that rules are asked about: the client's or, where a balancer does not tell it, the balancer's own.
// That of a balancer on this machine says nothing, so the unspecified address stands for it: only a network of all
// addresses holds that.
func (f *facts) ruled() netip.Addr {
	addr := f.addr.Addr()
	switch {
	case !f.veiled || !addr.IsLoopback():
		return addr
	case addr.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// counted is the address that limits, delays and bans count, invalid where there is none: a Unix socket, or a balancer that
// does not tell the client's.
func (f *facts) counted() netip.Addr {
	if f.unix || f.veiled {
		return netip.Addr{}
	}
	return f.addr.Addr()
}

// local reports whether the client is on this machine, where nobody else can listen.
func (f *facts) local() bool {
	return f.unix || f.balancer == nil && f.addr.Addr().IsLoopback()
}

// source is what the crowd knows the connection's address by; invalid: none that counts.
func (f *facts) source() netip.Addr { return netpolicy.Source(f.counted()).Addr() }
