package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// caps counts clients and refuses those above a limit. It counts those who have shown who they are: else who only says so
// could use a limit up.
type caps struct {
	mu        sync.Mutex // guards below
	total     int
	addresses map[netip.Addr]int
	tenants   map[capKey]int
	roles     map[capKey]int
	databases map[capKey]int
}

// capKey names what is counted: a tenant, or a role or database of it, in one mode.
type capKey struct{ tenant, mode, name string }

// capLimits are the limits that concern one client; 0 means none.
type capLimits struct {
	process, address, tenant, role, database int
}

func newCaps() *caps {
	return &caps{
		addresses: make(map[netip.Addr]int), tenants: make(map[capKey]int),
		roles: make(map[capKey]int), databases: make(map[capKey]int),
	}
}

func (f *facts) tenantCap() capKey   { return capKey{f.tenant, f.mode, ""} }
func (f *facts) roleCap() capKey     { return capKey{f.tenant, f.mode, f.role} }
func (f *facts) databaseCap() capKey { return capKey{f.tenant, f.mode, f.database} }

// enter counts a client. What it returns is nil, or the refusal of a client above a limit, which is not counted.
func (c *caps) enter(f *facts, l capLimits) *endError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.refusal(f, l); e != nil {
		return e
	}
	c.add(f, f.source(), 1)
	return nil
}

// full returns the refusal that enter would give now; nil: none.
func (c *caps) full(f *facts, l capLimits) *endError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal(f, l)
}

// refusal is full. c.mu is held.
func (c *caps) refusal(f *facts, l capLimits) *endError {
	addr := f.source()
	for _, limit := range [...]struct {
		reason   Reason
		n, limit int
		what     string
	}{
		{ReasonTooManyClients, c.total, l.process, "limits.max_clients"},
		{ReasonTooManyClientsFromAddress, c.addresses[addr], l.address, "limits.max_clients_per_address"},
		{ReasonTooManyClientsForTenant, c.tenants[f.tenantCap()], l.tenant, "tenant"},
		{ReasonTooManyClientsForDatabase, c.databases[f.databaseCap()], l.database, "database"},
		{ReasonTooManyClientsForRole, c.roles[f.roleCap()], l.role, "role"},
	} {
		if limit.limit == 0 || limit.n < limit.limit || limit.reason == ReasonTooManyClientsFromAddress && !addr.IsValid() {
			continue
		}
		what := limit.what
		if !strings.HasPrefix(what, "limits.") {
			what = fmt.Sprintf("max_clients of this %s in %s mode", what, f.mode)
		}
		return &endError{reason: limit.reason, message: "too many clients already", detail: fmt.Sprintf("%s is %d.", what, limit.limit)}
	}
	return nil
}

// leave takes back what enter has counted.
func (c *caps) leave(f *facts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(f, f.source(), -1)
}

func (c *caps) add(f *facts, addr netip.Addr, n int) {
	c.total += n
	bump(c.addresses, addr, n)
	bump(c.tenants, f.tenantCap(), n)
	bump(c.roles, f.roleCap(), n)
	bump(c.databases, f.databaseCap(), n)
}

func bump[K comparable](m map[K]int, k K, n int) {
	if m[k] += n; m[k] == 0 {
		delete(m, k)
	}
}

// count returns how many clients there are.
func (c *caps) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}
