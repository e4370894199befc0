package netpolicy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// verdict is what a check said: zeroes for admitted.
type verdict struct {
	cause Cause
	level Level
}

// naive decides as Check does, by reading the whole Spec in order.
func naive(spec Spec, peer Peer) verdict {
	if !naiveAddr(spec.Process, peer) {
		return verdict{AddressDenied, LevelProcess}
	}
	for _, t := range spec.Tenants {
		if t.Name == peer.Tenant {
			return naiveTenant(t, peer)
		}
	}
	return verdict{UnknownTenant, LevelProcess}
}

func naiveTenant(t TenantSpec, peer Peer) verdict {
	if !naiveAddr(t.Rules, peer) {
		return verdict{AddressDenied, LevelTenant}
	}
	if t.TLS == Enforce && !(peer.TLS || peer.Unix) {
		return verdict{TLSRequired, LevelTenant}
	}
	r := slices.IndexFunc(t.Roles, func(r RoleSpec) bool { return r.Name == peer.Role })
	if r < 0 && !t.AllowOtherRoles {
		return verdict{RoleDenied, LevelTenant}
	}
	if r >= 0 && !naiveAddr(t.Roles[r].Rules, peer) {
		return verdict{AddressDenied, LevelRole}
	}
	if r >= 0 && t.Roles[r].TLS == Enforce && !(peer.TLS || peer.Unix) {
		return verdict{TLSRequired, LevelRole}
	}
	if r >= 0 && len(t.Roles[r].Modes) > 0 && !slices.Contains(t.Roles[r].Modes, peer.Mode) {
		return verdict{ModeDenied, LevelRole}
	}
	d := slices.IndexFunc(t.Databases, func(d DatabaseSpec) bool { return d.Name == peer.Database })
	if d < 0 && !t.AllowOtherDatabases {
		return verdict{DatabaseDenied, LevelTenant}
	}
	for _, d := range naiveDatabases(t, peer) {
		if !naiveAddr(d.Rules, peer) {
			return verdict{AddressDenied, LevelDatabase}
		}
		if d.TLS == Enforce && !(peer.TLS || peer.Unix) {
			return verdict{TLSRequired, LevelDatabase}
		}
	}
	return verdict{}
}

// naiveDatabases returns the one with the name that peer asks for, or else those which have that name in Postgres.
func naiveDatabases(t TenantSpec, peer Peer) (found []DatabaseSpec) {
	for _, d := range t.Databases {
		if d.Name == peer.Database {
			return []DatabaseSpec{d}
		}
		if d.InPostgres == peer.Database {
			found = append(found, d)
		}
	}
	return found
}

// naiveStage looks for everything that concerns peer.
func naiveStage(spec Spec, peer Peer) Stage {
	for _, t := range spec.Tenants {
		if t.Name != peer.Tenant {
			continue
		}
		strictest := t.TLS
		for _, r := range t.Roles {
			if r.Name == peer.Role && r.TLS > strictest {
				strictest = r.TLS
			}
		}
		for _, d := range naiveDatabases(t, peer) {
			strictest = max(strictest, d.TLS)
		}
		return strictest
	}
	return Enforce
}

func naiveAddr(r Rules, peer Peer) bool {
	if peer.Unix {
		return true
	}
	contains := func(e Entry) bool {
		if !e.Until.IsZero() && !e.Until.After(noon) {
			return false
		}
		network := e.Prefix
		if network.Addr().Is4In6() {
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
		}
		return network.Contains(peer.Addr.Unmap().WithZone(""))
	}
	if !peer.Addr.IsValid() || slices.ContainsFunc(r.Denied, contains) {
		return false
	}
	return r.AllowAny || slices.ContainsFunc(r.Allowed, contains)
}

// naiveExpires looks for the first expiry after noon.
func naiveExpires(spec Spec) (first time.Time) {
	all := []Rules{spec.Process}
	for _, t := range spec.Tenants {
		all = append(all, t.Rules)
		for _, r := range t.Roles {
			all = append(all, r.Rules)
		}
		for _, d := range t.Databases {
			all = append(all, d.Rules)
		}
	}
	for _, r := range all {
		for _, e := range slices.Concat(r.Allowed, r.Denied) {
			if e.Until.After(noon) && (first.IsZero() || e.Until.Before(first)) {
				first = e.Until
			}
		}
	}
	return first
}

// dice makes choices out of bytes, so that a fuzzer can steer them.
type dice struct{ data []byte }

func (d *dice) roll(sides int) int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b) % sides
}

func (d *dice) name() string { return string(rune('a' + d.roll(3))) }

// addr chooses from a small universe, so that addresses and networks meet.
func (d *dice) addr() netip.Addr {
	low := byte(d.roll(256))
	v4 := netip.AddrFrom4([4]byte{10, 0, byte(d.roll(2)), low})
	switch d.roll(4) {
	case 0:
		return v4
	case 1:
		return netip.AddrFrom16(v4.As16()) // IPv4-mapped
	case 2:
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(d.roll(2)), 15: low}).WithZone("eth0")
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 14: byte(d.roll(2)), 15: low})
}

func (d *dice) networks() []Entry {
	var list []Entry
	for range d.roll(5) {
		addr := d.addr().WithZone("")
		bits := addr.BitLen() - d.roll(14)
		if d.roll(8) == 0 && !addr.Is4In6() {
			bits = 0
		}
		list = append(list, Entry{Prefix: netip.PrefixFrom(addr, bits), Until: d.until()})
	}
	return list
}

// until is never, a moment before noon, noon, or a moment after it.
func (d *dice) until() time.Time {
	if d.roll(2) == 0 {
		return time.Time{}
	}
	return noon.Add(time.Duration(d.roll(3) - 1))
}

func (d *dice) rules() Rules {
	if d.roll(3) == 0 {
		return Rules{AllowAny: true, Denied: d.networks()}
	}
	return Rules{Allowed: append(d.networks(), d.networks()...), Denied: d.networks()}
}

// stage is hardly ever the strictest, so that other rules are met too.
func (d *dice) stage() Stage { return []Stage{Observe, Warn, Observe, Enforce, Warn}[d.roll(5)] }

func (d *dice) spec() Spec {
	spec := Spec{Process: Rules{AllowAny: true}}
	if d.roll(2) == 0 {
		spec.Process = d.rules()
	}
	for i := range d.roll(3) {
		t := TenantSpec{Name: string(rune('a' + i)), Rules: d.rules(), TLS: d.stage(),
			AllowOtherRoles: d.roll(2) == 0, AllowOtherDatabases: d.roll(2) == 0}
		for j := range d.roll(3) {
			r := RoleSpec{Name: string(rune('a' + j)), Rules: d.rules(), TLS: d.stage()}
			if d.roll(3) == 0 {
				r.Modes = []string{d.name()}
			}
			t.Roles = append(t.Roles, r)
		}
		for j := range d.roll(3) {
			database := DatabaseSpec{Name: string(rune('a' + j)), Rules: d.rules(), TLS: d.stage()}
			if d.roll(2) == 0 {
				database.InPostgres = d.name()
			}
			t.Databases = append(t.Databases, database)
		}
		spec.Tenants = append(spec.Tenants, t)
	}
	return spec
}

func (d *dice) peer() Peer {
	return Peer{Addr: d.addr(), Unix: d.roll(16) == 1, Tenant: d.name(), Role: d.name(), Database: d.name(),
		TLS: d.roll(2) == 0, Mode: d.name()}
}

// compare throws a policy and some peers and returns the verdicts that both ways of deciding agreed upon.
func compare(t *testing.T, data []byte) []verdict {
	t.Helper()
	d := &dice{data: data}
	spec := d.spec()
	p := mustCompile(t, spec)
	if got, want := p.Expires(), naiveExpires(spec); !got.Equal(want) {
		t.Fatalf("Expires() of %+v: got %v, want %v", spec, got, want)
	}
	var verdicts []verdict
	for range 16 {
		peer := d.peer()
		want := naive(spec, peer)
		cause, level := causeOf(t, p.Check(peer))
		if got := (verdict{cause, level}); got != want {
			t.Fatalf("Check(%+v) under %+v: got %v, want %v", peer, spec, got, want)
		}
		if got := p.Stage(peer); got != naiveStage(spec, peer) {
			t.Fatalf("Stage(%+v) under %+v: got %v, want %v", peer, spec, got, naiveStage(spec, peer))
		}
		peer.Unix = false
		addrCause, _ := causeOf(t, p.CheckAddr(peer.Addr))
		if admitted := naiveAddr(spec.Process, peer); (addrCause == 0) != admitted {
			t.Fatalf("CheckAddr(%v) under %+v: got cause %v, want admitted %t", peer.Addr, spec.Process, addrCause, admitted)
		}
		verdicts = append(verdicts, want)
	}
	return verdicts
}

func TestCheckAgreesWithReadingTheSpec(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[verdict]int{}
	for range 20000 {
		data := make([]byte, 500)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		for _, v := range compare(t, data) {
			seen[v]++
		}
	}
	for _, v := range []verdict{{}, {AddressDenied, LevelProcess}, {AddressDenied, LevelTenant}, {AddressDenied, LevelRole},
		{AddressDenied, LevelDatabase}, {TLSRequired, LevelTenant}, {TLSRequired, LevelRole}, {TLSRequired, LevelDatabase}, {RoleDenied, LevelTenant}, {DatabaseDenied, LevelTenant},
		{ModeDenied, LevelRole}, {UnknownTenant, LevelProcess}} {
		if seen[v] == 0 {
			t.Errorf("no random client met %v: the test proves nothing about it", v)
		}
	}
}

func FuzzCheckAgreesWithReadingTheSpec(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x02\x01\x04\x0a\x01\x00\x08\x03\x02\x01\x00\x05\x01\x01\x02\x09\x07"))
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, data) })
}
