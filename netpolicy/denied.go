package netpolicy

import (
	"fmt"
	"strings"
)

// Level is where in the policy a client was denied.
type Level int

// The levels, from the widest to the narrowest.
const (
	LevelProcess Level = iota + 1
	LevelTenant
	LevelRole
	LevelDatabase
)

// String returns the level as logs name it.
func (l Level) String() string {
	switch l {
	case LevelProcess:
		return "process"
	case LevelTenant:
		return "tenant"
	case LevelRole:
		return "role"
	case LevelDatabase:
		return "database"
	}
	return fmt.Sprintf("level %d", int(l))
}

// Cause is why a client was denied. Callers branch on it to choose what the client is told.
type Cause int

// The causes.
const (
	AddressDenied  Cause = iota + 1 // a denied network holds the address, or no allowed one does
	TLSRequired                     // the tenant, role or database wants TLS and the client has none
	ModeDenied                      // the role may not use the listener's mode
	RoleDenied                      // the role is not listed and others are not admitted
	DatabaseDenied                  // the database is not listed and others are not admitted
	UnknownTenant                   // the policy has no such tenant
)

// String returns the cause as logs name it.
func (c Cause) String() string {
	switch c {
	case AddressDenied:
		return "address denied"
	case TLSRequired:
		return "tls required"
	case ModeDenied:
		return "mode denied"
	case RoleDenied:
		return "role denied"
	case DatabaseDenied:
		return "database denied"
	case UnknownTenant:
		return "unknown tenant"
	}
	return fmt.Sprintf("cause %d", int(c))
}

// DeniedError says that a client may not connect, and what decided so.
//
// Its text is for logs: it may hold the rule and the names the client sent (quoted). It is never for the client.
type DeniedError struct {
	Peer  Peer // with Addr as it was compared: unmapped, without a zone
	Level Level
	Rule  string // the configuration key, and the network if one matched: "denied_cidrs 10.0.0.0/8"
	Cause Cause
}

// Error describes the denial for a log.
func (e *DeniedError) Error() string {
	var b strings.Builder
	b.WriteString("client ")
	switch {
	case e.Peer.Unix:
		b.WriteString("on a unix socket")
	case e.Peer.Addr.IsValid():
		b.WriteString(e.Peer.Addr.String())
	default:
		b.WriteString("without an address")
	}
	fmt.Fprintf(&b, " denied: %s by %s of the %s", e.Cause, e.Rule, e.Level)
	if e.Peer.Tenant != "" || e.Peer.Role != "" {
		fmt.Fprintf(&b, " (tenant %q, role %.64q, database %.64q, mode %q, tls %t)",
			e.Peer.Tenant, e.Peer.Role, e.Peer.Database, e.Peer.Mode, e.Peer.TLS)
	}
	return b.String()
}
