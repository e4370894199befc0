package netpolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Delays of logins behind failed ones. Each failure doubles the delay, from firstDelay on.
const (
	firstDelay = 100 * time.Millisecond
	// maxDelay is the most between two logins from an address with failures.
	maxDelay = 10 * time.Second
	// maxRoleDelay is the most that a login waits because others have failed as that role from elsewhere.
	maxRoleDelay = 5 * time.Second
	// maxHomeDelay is the most that a login waits that must not be locked out.
	maxHomeDelay = time.Second
	// freeFailures of a role, whoever made them, delay nobody.
	freeFailures = 10
)

// How much a Guard remembers. A table that is full loses what matters least, see keep.
const (
	maxSources  = 16384 // addresses with failures
	maxAccounts = 4096  // roles with failures, whether they exist or not
	maxHomes    = 10000 // roles that have logged in
	maxNetworks = 64    // addresses that a role has logged in from
	maxBans     = 10000
	maxRoleName = 63 // bytes of a role's name that count: Postgres keeps no more
)

// homeAge is how long an address from which a role has logged in counts as one that it normally comes from.
const homeAge = 30 * 24 * time.Hour

// homeBits is how long the IPv4 network around such an address is, within which the role's failures elsewhere delay nobody.
const homeBits = 24

// Limits say what a Guard does about failed logins.
type Limits struct {
	After  int           // failures from an address until it is banned; 0: never
	Window time.Duration // how long a failure counts, to an eighth of it
	For    time.Duration // how long a ban lasts
	Never  Networks      // are never banned
}

// Attempt is a login that is about to be tried, or was.
type Attempt struct {
	Tenant string
	Role   string
	Addr   netip.Addr // of the client; invalid: it is not known, or a Unix socket
}

// Ban is an address that may not log in to a tenant for a time.
type Ban struct {
	Tenant   string
	Network  netip.Prefix // see Source
	Since    time.Time
	Until    time.Time
	Failures int
	Reason   string
}

// Verdict is what a Guard says to an attempt.
type Verdict struct {
	Ban  *Ban          // not nil: refused
	Wait time.Duration // before the client is asked for its secret
	Busy bool          // refused: the wait would be longer than the client's time
}

// Guard counts failed logins and decides how long the next ones wait and which addresses are banned. It knows nothing of
// right passwords but where a role has logged in from. From these addresses the role is never banned and waits for a second
// at the most, whatever others do there; from the networks around them it does not wait for what is done elsewhere.
//
// It is safe for concurrent use, holds bounded memory, and takes the time from its callers.
type Guard struct {
	mu       sync.Mutex // guards below
	limits   Limits
	sources  map[source]*suspect
	accounts map[account]*recent // failures from elsewhere than the role's homes
	homes    map[account]*homes
	bans     map[source]*Ban
}

type source struct {
	tenant  string
	network netip.Prefix
}

type account struct{ tenant, role string }

// suspect is an address with failures.
type suspect struct {
	recent
	free time.Time // when the next login from it may begin
}

// NewGuard returns a Guard without a memory.
func NewGuard(l Limits) *Guard {
	return &Guard{
		limits: l, sources: make(map[source]*suspect), accounts: make(map[account]*recent),
		homes: make(map[account]*homes), bans: make(map[source]*Ban),
	}
}

// SetLimits changes what is done from now on. Bans that the new limits would not have made end: all of them without After,
// else those of networks that must not be banned. A new Window forgets the failures.
func (g *Guard) SetLimits(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Window != g.limits.Window {
		clear(g.sources)
		clear(g.accounts)
		for _, h := range g.homes {
			for i := range h.networks {
				h.networks[i].failures = recent{}
			}
		}
	}
	g.limits = l
	for k := range g.bans {
		if l.After == 0 || l.Never.Contains(k.network.Addr()) {
			delete(g.bans, k)
		}
	}
}

// Source returns the network that stands for an address: the address itself, or the /64 of an IPv6 one, within which one
// machine can have any address. That of the zero Addr is the zero Prefix.
func Source(addr netip.Addr) netip.Prefix { return networkOf(addr, 32) }

// networkOf returns the network of an address: an IPv4 one of that length, or the /64.
func networkOf(addr netip.Addr, bits int) netip.Prefix {
	addr = canonical(addr)
	switch {
	case !addr.IsValid():
		return netip.Prefix{}
	case addr.Is6():
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// Ask says what is to be done before the attempt, and counts it as one that begins when it may. patience is how long the
// client can wait.
func (g *Guard) Ask(a Attempt, patience time.Duration, now time.Time) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.home(a, now); h != nil {
		return Verdict{Wait: min(patience, delay(h.failures.count(now, g.limits.Window), maxHomeDelay))}
	}
	elsewhere := g.accounts[a.account()].count(now, g.limits.Window) - freeFailures
	if g.homes[a.account()].near(a.Addr, now) {
		elsewhere = 0
	}
	if g.spared(a.Addr) {
		return Verdict{Wait: min(patience, delay(elsewhere, maxHomeDelay))}
	}
	if b := g.ban(a, now); b != nil {
		return Verdict{Ban: b}
	}
	wait := delay(elsewhere, maxRoleDelay)
	s := g.sources[a.source()]
	n := 0
	if s != nil {
		n = s.count(now, g.limits.Window)
		wait = max(wait, s.free.Sub(now))
	}
	if wait > patience {
		return Verdict{Busy: true}
	}
	if n > 0 {
		s.free = now.Add(wait + delay(n, maxDelay))
	}
	return Verdict{Wait: max(0, wait)}
}

// Banned returns the ban that refuses the attempt, nil if none does.
func (g *Guard) Banned(a Attempt, now time.Time) *Ban {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.home(a, now) != nil || g.spared(a.Addr) {
		return nil
	}
	return g.ban(a, now)
}

// Failed counts an attempt whose proof was complete and wrong. It returns the ban that follows, nil if none does.
func (g *Guard) Failed(a Attempt, now time.Time) *Ban {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.limits
	if h := g.home(a, now); h != nil {
		h.failures.add(now, l.Window)
	} else {
		r, known := g.accounts[a.account()]
		if !known {
			r = &recent{}
			keep(g.accounts, maxAccounts, func(x, y *recent) bool { return x.lessThan(y, now, l.Window) })
			g.accounts[a.account()] = r
		}
		r.add(now, l.Window)
	}
	if g.spared(a.Addr) {
		return nil
	}
	k := a.source()
	s := g.sources[k]
	if s == nil {
		s = &suspect{}
		keep(g.sources, maxSources, func(x, y *suspect) bool { return x.lessThan(&y.recent, now, l.Window) })
		g.sources[k] = s
	}
	s.add(now, l.Window)
	n := s.count(now, l.Window)
	if free := now.Add(delay(n, maxDelay)); free.After(s.free) {
		s.free = free
	}
	if l.After == 0 || n < l.After || g.bans[k] != nil && now.Before(g.bans[k].Until) {
		return nil
	}
	delete(g.sources, k)
	b := &Ban{Tenant: a.Tenant, Network: k.network, Since: now, Until: now.Add(l.For), Failures: n,
		Reason: fmt.Sprintf("%d failed logins within %s, the last as role %q", n, l.Window, a.account().role)}
	keep(g.bans, maxBans, func(x, y *Ban) bool { return x.Until.Before(y.Until) })
	g.bans[k] = b
	copied := *b
	return &copied
}

// Succeeded notes that the role has logged in from there.
func (g *Guard) Succeeded(a Attempt, now time.Time) {
	if !a.Addr.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	k := a.account()
	h := g.homes[k]
	if h == nil {
		h = &homes{}
		keep(g.homes, maxHomes, func(x, y *homes) bool { return x.last.Before(y.last) })
		g.homes[k] = h
	}
	h.see(Source(a.Addr), now)
}

// Bans returns the bans of now, those that end first in front.
func (g *Guard) Bans(now time.Time) []Ban {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Ban, 0, len(g.bans))
	for k, b := range g.bans {
		if !now.Before(b.Until) {
			delete(g.bans, k)
			continue
		}
		list = append(list, *b)
	}
	slices.SortFunc(list, func(x, y Ban) int {
		return cmp.Or(x.Until.Compare(y.Until), cmp.Compare(x.Tenant, y.Tenant), x.Network.Addr().Compare(y.Network.Addr()))
	})
	return list
}

// Restore takes over bans of an earlier Guard, as far as they have not ended and the limits would make such.
func (g *Guard) Restore(list []Ban, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range list {
		if g.limits.After == 0 || !now.Before(b.Until) || g.spared(b.Network.Addr()) || len(g.bans) >= maxBans {
			continue
		}
		g.bans[source{b.Tenant, b.Network}] = &b
	}
}

// Clear ends the bans of a tenant, of all with an empty name, that touch a network, or any with the zero Prefix, and
// forgets the failures that have led to them. It returns how many bans there were.
func (g *Guard) Clear(tenant string, network netip.Prefix, now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	meant := func(k source) bool {
		return (tenant == "" || k.tenant == tenant) && (!network.IsValid() || network.Overlaps(k.network))
	}
	n := 0
	for k, b := range g.bans {
		if meant(k) {
			if now.Before(b.Until) {
				n++
			}
			delete(g.bans, k)
		}
	}
	for k := range g.sources {
		if meant(k) {
			delete(g.sources, k)
		}
	}
	return n
}

// ban returns a copy of the ban of the attempt's address. g.mu is held.
func (g *Guard) ban(a Attempt, now time.Time) *Ban {
	b := g.bans[a.source()]
	switch {
	case b == nil:
		return nil
	case !now.Before(b.Until):
		delete(g.bans, a.source())
		return nil
	}
	copied := *b
	return &copied
}

// spared reports whether an address must not be banned, whatever comes from it: one that is not known, one of this
// machine, and those that the operator names. g.mu is held.
func (g *Guard) spared(addr netip.Addr) bool {
	return !addr.IsValid() || canonical(addr).IsLoopback() || g.limits.Never.Contains(addr)
}

// home returns the attempt's address among those that the role normally comes from, nil if it is none. g.mu is held.
func (g *Guard) home(a Attempt, now time.Time) *home {
	return g.homes[a.account()].find(Source(a.Addr), now)
}

func (a Attempt) source() source { return source{a.Tenant, Source(a.Addr)} }

// account names the role, whose name may be as long as a client likes.
func (a Attempt) account() account {
	role := a.Role
	if len(role) > maxRoleName {
		role = strings.Clone(role[:maxRoleName])
	}
	return account{a.Tenant, role}
}

// delay is what n failures cost.
func delay(n int, most time.Duration) time.Duration {
	switch {
	case n <= 0:
		return 0
	case n > 16: // beyond every bound, before it overflows
		return most
	}
	return min(most, firstDelay<<(n-1))
}
