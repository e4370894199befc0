package netpolicy

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefixes(t testing.TB, texts ...string) []Entry {
	t.Helper()
	list := make([]Entry, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Entry{Prefix: prefix})
	}
	return list
}

func allow(t testing.TB, texts ...string) Rules {
	t.Helper()
	return Rules{Allowed: prefixes(t, texts...)}
}

func deny(t testing.TB, texts ...string) Rules {
	t.Helper()
	return Rules{AllowAny: true, Denied: prefixes(t, texts...)}
}

// noon is when policies are compiled.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustCompile(t testing.TB, spec Spec) *Policy {
	t.Helper()
	p, err := Compile(spec, noon)
	if err != nil {
		t.Fatalf("Compile(%+v): %v", spec, err)
	}
	return p
}

// causeOf returns the cause and level of a denial, zeroes for nil.
func causeOf(t testing.TB, err error) (Cause, Level) {
	t.Helper()
	if err == nil {
		return 0, 0
	}
	var denial *DeniedError
	if !errors.As(err, &denial) {
		t.Fatalf("got %T (%v), want *DeniedError", err, err)
	}
	return denial.Cause, denial.Level
}

func TestCheckAddrFollowsTheRulesOfTheProcess(t *testing.T) {
	t.Parallel()
	anyAddress := Rules{AllowAny: true}
	both := Rules{Allowed: prefixes(t, "10.0.0.0/8", "2001:db8::/32"), Denied: prefixes(t, "10.1.0.0/16")}
	tests := []struct {
		name  string
		rules Rules
		addr  string
		want  bool
	}{
		{"v4 inside", both, "10.2.3.4", true},
		{"v4 outside", both, "11.2.3.4", false},
		{"v4 first of the network", both, "10.0.0.0", true},
		{"v4 last of the network", both, "10.255.255.255", true},
		{"v4 just below", both, "9.255.255.255", false},
		{"v4 denied inside allowed", both, "10.1.9.9", false},
		{"v6 inside", both, "2001:db8:1::1", true},
		{"v6 outside", both, "2001:db9::1", false},
		{"mapped inside", both, "::ffff:10.2.3.4", true},
		{"mapped denied", both, "::ffff:10.1.0.1", false},
		{"zone is stripped", allow(t, "fe80::/10"), "fe80::1%eth0", true},
		{"zone does not hide from a denial", deny(t, "fe80::/10"), "fe80::1%eth0", false},
		{"mapped prefix is the v4 prefix", allow(t, "::ffff:10.0.0.0/104"), "10.9.9.9", true},
		{"mapped prefix ends where v4 does", allow(t, "::ffff:10.0.0.0/104"), "11.0.0.0", false},
		{"whole mapped range is all of v4", allow(t, "::ffff:0.0.0.0/96"), "203.0.113.7", true},
		{"all of v6 is not v4", allow(t, "::/0"), "10.0.0.1", false},
		{"all of v6 is not mapped v4", allow(t, "::/0"), "::ffff:10.0.0.1", false},
		{"all of v4 is not v6", allow(t, "0.0.0.0/0"), "2001:db8::1", false},
		{"host bits are masked", allow(t, "10.1.2.3/8"), "10.200.0.1", true},
		{"single host", allow(t, "10.1.2.3/32"), "10.1.2.3", true},
		{"next to the single host", allow(t, "10.1.2.3/32"), "10.1.2.4", false},
		{"denial wins over a longer allowed prefix",
			Rules{Allowed: prefixes(t, "10.1.2.3/32"), Denied: prefixes(t, "10.0.0.0/8")}, "10.1.2.3", false},
		{"denial wins over the same prefix",
			Rules{Allowed: prefixes(t, "10.0.0.0/8"), Denied: prefixes(t, "10.0.0.0/8")}, "10.1.2.3", false},
		{"empty list admits nobody", Rules{Allowed: []Entry{}}, "10.0.0.1", false},
		{"zero rules admit nobody", Rules{}, "10.0.0.1", false},
		{"absent list admits v4", anyAddress, "10.0.0.1", true},
		{"absent list admits v6", anyAddress, "2001:db8::1", true},
		{"denial without an allowed list, inside", deny(t, "10.0.0.0/8"), "10.0.0.1", false},
		{"denial without an allowed list, outside", deny(t, "10.0.0.0/8"), "11.0.0.1", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := mustCompile(t, Spec{Process: test.rules})
			err := p.CheckAddr(netip.MustParseAddr(test.addr))
			if cause, _ := causeOf(t, err); (cause == 0) != test.want {
				t.Errorf("CheckAddr(%s) with %+v: got %v, want admitted %t", test.addr, test.rules, err, test.want)
			}
		})
	}
}

func TestInvalidAddressIsDeniedEvenWhereAnyIsAllowed(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, Spec{
		Process: Rules{AllowAny: true},
		Tenants: []TenantSpec{{Name: "a", Rules: Rules{AllowAny: true}, AllowOtherRoles: true, AllowOtherDatabases: true}},
	})
	for name, err := range map[string]error{
		"CheckAddr": p.CheckAddr(netip.Addr{}),
		"Check":     p.Check(Peer{Tenant: "a"}),
	} {
		if cause, _ := causeOf(t, err); cause != AddressDenied {
			t.Errorf("%s of no address: got %v, want %v", name, err, AddressDenied)
		}
	}
}

func TestStrictestStageOfTLSCounts(t *testing.T) {
	t.Parallel()
	stages := []Stage{Observe, Warn, Enforce}
	for _, tenant := range stages {
		for _, role := range stages {
			for _, database := range stages {
				p := mustCompile(t, Spec{Process: Rules{AllowAny: true}, Tenants: []TenantSpec{{
					Name: "t", Rules: Rules{AllowAny: true}, TLS: tenant, AllowOtherRoles: true, AllowOtherDatabases: true,
					Roles:     []RoleSpec{{Name: "r", Rules: Rules{AllowAny: true}, TLS: role}},
					Databases: []DatabaseSpec{{Name: "d", Rules: Rules{AllowAny: true}, TLS: database}},
				}}})
				for _, test := range []struct {
					role, database string
					want           Stage
				}{
					{"r", "d", max(tenant, role, database)}, {"r", "other", max(tenant, role)}, {"other", "d", max(tenant, database)}, {"other", "other", tenant},
				} {
					peer := Peer{Addr: netip.MustParseAddr("10.0.0.1"), Tenant: "t", Role: test.role, Database: test.database}
					cause, _ := causeOf(t, p.Check(peer))
					if got := p.Stage(peer); got != test.want || (cause == TLSRequired) != (got == Enforce) {
						t.Errorf("tenant %v, role %v, database %v: %+v has %v and is denied for %v, want %v", tenant, role, database, peer, got, cause, test.want)
					}
					withTLS, onSocket := peer, peer
					withTLS.TLS, onSocket.Unix = true, true
					for _, exempt := range []Peer{withTLS, onSocket} {
						if err := p.Check(exempt); err != nil {
							t.Errorf("%+v: %v", exempt, err)
						}
					}
				}
			}
		}
	}
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}} {
		if got := p.Stage(Peer{Tenant: "t"}); got != Enforce {
			t.Errorf("%s policy: %v, want %v", name, got, Enforce)
		}
	}
}

// layered is a policy in which every level has something to say.
func layered(t testing.TB) *Policy {
	t.Helper()
	return mustCompile(t, Spec{
		Process: Rules{Allowed: prefixes(t, "10.0.0.0/8", "2001:db8::/32"), Denied: prefixes(t, "10.66.0.0/16")},
		Tenants: []TenantSpec{
			{
				Name:  "strict",
				Rules: allow(t, "10.0.0.0/9", "192.168.0.0/16"), // the second can never widen the process's list
				TLS:   Enforce,
				Roles: []RoleSpec{
					{Name: "app", Rules: Rules{AllowAny: true}},
					{Name: "job", Rules: allow(t, "10.1.0.0/16"), Modes: []string{"session"}},
					{Name: "off", Rules: Rules{}},
				},
				Databases: []DatabaseSpec{
					{Name: "main", Rules: Rules{AllowAny: true}},
					{Name: "vault", Rules: deny(t, "10.1.2.0/24")},
				},
			},
			{Name: "open", Rules: Rules{AllowAny: true}, AllowOtherRoles: true, AllowOtherDatabases: true,
				Roles: []RoleSpec{{Name: "job", Rules: allow(t, "10.1.0.0/16")}}},
		},
	})
}

func TestEachLevelNarrowsTheOneAbove(t *testing.T) {
	t.Parallel()
	p := layered(t)
	strict := func(addr, role, database string) Peer {
		return Peer{Addr: netip.MustParseAddr(addr), Tenant: "strict", Role: role, Database: database, TLS: true, Mode: "session"}
	}
	tests := []struct {
		name  string
		peer  Peer
		edit  func(*Peer)
		cause Cause
		level Level
	}{
		{"admitted", strict("10.2.0.1", "app", "main"), nil, 0, 0},
		{"process list", strict("172.16.0.1", "app", "main"), nil, AddressDenied, LevelProcess},
		{"process denial", strict("10.66.0.1", "app", "main"), nil, AddressDenied, LevelProcess},
		{"tenant list", strict("10.200.0.1", "app", "main"), nil, AddressDenied, LevelTenant},
		{"tenant cannot widen the process", strict("192.168.0.1", "app", "main"), nil, AddressDenied, LevelProcess},
		{"unknown tenant", strict("10.2.0.1", "app", "main"), func(p *Peer) { p.Tenant = "nobody" }, UnknownTenant, LevelProcess},
		{"no tls", strict("10.2.0.1", "app", "main"), func(p *Peer) { p.TLS = false }, TLSRequired, LevelTenant},
		{"unlisted role", strict("10.2.0.1", "other", "main"), nil, RoleDenied, LevelTenant},
		{"role names are exact", strict("10.2.0.1", "App", "main"), nil, RoleDenied, LevelTenant},
		{"role list", strict("10.2.0.1", "job", "main"), nil, AddressDenied, LevelRole},
		{"role list inside", strict("10.1.0.1", "job", "main"), nil, 0, 0},
		{"role list mapped", strict("::ffff:10.1.0.1", "job", "main"), nil, 0, 0},
		{"role that admits nobody", strict("10.2.0.1", "off", "main"), nil, AddressDenied, LevelRole},
		{"mode", strict("10.1.0.1", "job", "main"), func(p *Peer) { p.Mode = "transaction" }, ModeDenied, LevelRole},
		{"role without modes has all", strict("10.2.0.1", "app", "main"), func(p *Peer) { p.Mode = "transaction" }, 0, 0},
		{"unlisted database", strict("10.2.0.1", "app", "else"), nil, DatabaseDenied, LevelTenant},
		{"database denial", strict("10.1.2.3", "job", "vault"), nil, AddressDenied, LevelDatabase},
		{"database denial outside", strict("10.1.3.3", "job", "vault"), nil, 0, 0},
		{"others admitted", Peer{Addr: netip.MustParseAddr("10.9.0.1"), Tenant: "open", Role: "x", Database: "y"}, nil, 0, 0},
		{"listed role beside others", Peer{Addr: netip.MustParseAddr("10.9.0.1"), Tenant: "open", Role: "job", Database: "y"},
			nil, AddressDenied, LevelRole},
		{"v6 through an open tenant", Peer{Addr: netip.MustParseAddr("2001:db8::5"), Tenant: "open", Role: "x"}, nil, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			peer := test.peer
			if test.edit != nil {
				test.edit(&peer)
			}
			err := p.Check(peer)
			if cause, level := causeOf(t, err); cause != test.cause || level != test.level {
				t.Errorf("Check(%+v): got %v, want %v at %v", peer, err, test.cause, test.level)
			}
		})
	}
}

func TestUnixSocketIsExemptFromAddressesAndTLSOnly(t *testing.T) {
	t.Parallel()
	p := layered(t)
	tests := []struct {
		name  string
		peer  Peer
		cause Cause
	}{
		{"no address, no tls", Peer{Unix: true, Tenant: "strict", Role: "job", Database: "vault", Mode: "session"}, 0},
		{"role with an empty list", Peer{Unix: true, Tenant: "strict", Role: "off", Database: "main"}, 0},
		{"tenant", Peer{Unix: true, Tenant: "nobody", Role: "app", Database: "main"}, UnknownTenant},
		{"mode", Peer{Unix: true, Tenant: "strict", Role: "job", Database: "main", Mode: "transaction"}, ModeDenied},
		{"role", Peer{Unix: true, Tenant: "strict", Role: "other", Database: "main"}, RoleDenied},
		{"database", Peer{Unix: true, Tenant: "strict", Role: "app", Database: "else"}, DatabaseDenied},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := p.Check(test.peer)
			if cause, _ := causeOf(t, err); cause != test.cause {
				t.Errorf("Check(%+v): got %v, want cause %v", test.peer, err, test.cause)
			}
		})
	}
}

func TestNoPolicyDeniesEverybody(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("127.0.0.1")
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}, "compiled from nothing": mustCompile(t, Spec{})} {
		for what, err := range map[string]error{
			"CheckAddr":     p.CheckAddr(addr),
			"Check":         p.Check(Peer{Addr: addr, TLS: true}),
			"Check of unix": p.Check(Peer{Unix: true, TLS: true}),
		} {
			if cause, _ := causeOf(t, err); cause == 0 {
				t.Errorf("%s policy: %s admitted", name, what)
			}
		}
	}
}

func TestDenialNamesWhatDecided(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, Spec{Process: deny(t, "10.0.0.0/8", "10.7.0.0/16")})
	err := p.Check(Peer{Addr: netip.MustParseAddr("::ffff:10.7.0.1"), Tenant: "a", Role: "x\ny", Database: "d", Mode: "session"})
	want := &DeniedError{
		Peer:  Peer{Addr: netip.MustParseAddr("10.7.0.1"), Tenant: "a", Role: "x\ny", Database: "d", Mode: "session"},
		Level: LevelProcess,
		Rule:  "denied_cidrs 10.7.0.0/16",
		Cause: AddressDenied,
	}
	var got *DeniedError
	if !errors.As(err, &got) {
		t.Fatalf("got %v, want *DeniedError", err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("denial (-want +got):\n%s", diff)
	}
	const text = `client 10.7.0.1 denied: address denied by denied_cidrs 10.7.0.0/16 of the process` +
		` (tenant "a", role "x\ny", database "d", mode "session", tls false)`
	if err.Error() != text {
		t.Errorf("text:\n got %s\nwant %s", err, text)
	}
	const short = `client 10.7.0.1 denied: address denied by denied_cidrs 10.7.0.0/16 of the process`
	if err := p.CheckAddr(want.Peer.Addr); err.Error() != short {
		t.Errorf("text of CheckAddr:\n got %s\nwant %s", err, short)
	}
}

func TestEntryStopsCountingAtItsTime(t *testing.T) {
	t.Parallel()
	all := netip.MustParsePrefix("10.0.0.0/8")
	one := netip.MustParsePrefix("10.1.0.0/16")
	spec := Spec{Process: Rules{
		Allowed: []Entry{{Prefix: all, Until: noon.Add(2 * time.Hour)}, {Prefix: netip.MustParsePrefix("192.0.2.0/24")}},
		Denied:  []Entry{{Prefix: one, Until: noon.Add(time.Hour), Comment: "scanner"}},
	}}
	for _, test := range []struct {
		at      time.Time
		allowed bool // the rest of 10.0.0.0/8
		denied  bool // 10.1.0.0/16
		expires time.Time
	}{
		{noon, true, true, noon.Add(time.Hour)},
		{noon.Add(time.Hour - 1), true, true, noon.Add(time.Hour)},
		{noon.Add(time.Hour), true, false, noon.Add(2 * time.Hour)},
		{noon.Add(2*time.Hour - 1), true, false, noon.Add(2 * time.Hour)},
		{noon.Add(2 * time.Hour), false, true, time.Time{}},
	} {
		p, err := Compile(spec, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.CheckAddr(netip.MustParseAddr("10.2.0.1")) == nil; got != test.allowed {
			t.Errorf("at %s: 10.2.0.1 admitted %t, want %t", test.at, got, test.allowed)
		}
		if got := p.CheckAddr(netip.MustParseAddr("10.1.0.1")) != nil; got != test.denied {
			t.Errorf("at %s: 10.1.0.1 denied %t, want %t", test.at, got, test.denied)
		}
		if got := p.Expires(); !got.Equal(test.expires) {
			t.Errorf("at %s: expires %s, want %s", test.at, got, test.expires)
		}
	}
}

func TestDenialNamesTheCommentInTheLog(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, Spec{Process: Rules{AllowAny: true,
		Denied: []Entry{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Comment: "scanner, see \"T-17\""}}}})
	err := p.CheckAddr(netip.MustParseAddr("10.1.2.3"))
	if want := `client 10.1.2.3 denied: address denied by denied_cidrs 10.1.0.0/16 "scanner, see \"T-17\"" of the process`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
