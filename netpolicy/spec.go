package netpolicy

import (
	"net/netip"
	"time"
)

// Rules are the address rules of one level: the process, a tenant, a role or a database.
//
// The zero Rules admit nobody, so a forgotten field closes the door. A level that has no list of allowed
// networks, and so does not narrow the level above, says so with AllowAny. Denied counts in either case and
// always wins, whatever the lengths of the prefixes.
//
// IPv4 prefixes match IPv4 addresses, however they arrived; IPv6 prefixes, ::/0 included, match IPv6 ones only.
// An IPv4-mapped prefix (::ffff:10.0.0.0/104) is the IPv4 prefix it maps. Host bits are masked off, as in
// pg_hba.conf.
type Rules struct {
	AllowAny bool    // no list of allowed networks; must not come with Allowed
	Allowed  []Entry // empty without AllowAny: nobody
	Denied   []Entry
}

// Entry is one network of a list. One that has expired is as if it were not there, in either kind of list.
type Entry struct {
	Prefix  netip.Prefix
	Until   time.Time // when it expires; zero: never
	Comment string    // for people; a denial by the entry names it in the log
}

// expired reports whether e does not count any more at now.
func (e Entry) expired(now time.Time) bool { return !e.Until.IsZero() && !now.Before(e.Until) }

// Spec is what Compile turns into a Policy. Names are compared byte for byte, as Postgres does.
type Spec struct {
	Process Rules
	Tenants []TenantSpec
}

// TenantSpec says who may connect to one tenant.
type TenantSpec struct {
	Name                string
	Rules               Rules
	TLS                 Stage // Unix sockets are exempt, at each level
	AllowOtherRoles     bool  // whether roles that are not in Roles are admitted
	AllowOtherDatabases bool  // whether databases that are not in Databases are admitted
	Roles               []RoleSpec
	Databases           []DatabaseSpec
}

// RoleSpec narrows its tenant for the clients that log in as one role.
type RoleSpec struct {
	Name  string
	Rules Rules
	TLS   Stage
	Modes []string // the listener modes the role may use; empty: all
}

// DatabaseSpec narrows its tenant for the clients that ask for one database: by its name, or by the one that it has in
// Postgres. A DatabaseSpec with that Name takes its place; where several have it in Postgres all of them count.
type DatabaseSpec struct {
	Name       string
	InPostgres string // its name there; empty: the same
	Rules      Rules
	TLS        Stage
}
