package netpolicy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompileListsEveryProblemWithItsPlace(t *testing.T) {
	t.Parallel()
	invalid := []Entry{{}}
	spec := Spec{
		Process: Rules{AllowAny: true, Allowed: prefixes(t, "10.0.0.0/8")},
		Tenants: []TenantSpec{
			{Name: "a", Rules: Rules{Denied: append(prefixes(t, "10.0.0.0/8"), invalid...)},
				Roles: []RoleSpec{
					{Name: "r", Rules: Rules{Allowed: prefixes(t, "::ffff:10.0.0.0/90")}},
					{Name: "r", Modes: []string{""}},
				},
				Databases: []DatabaseSpec{{Name: "d"}, {Name: "d", Rules: Rules{Allowed: invalid}}, {}},
			},
			{Name: "a"},
			{},
		},
	}
	p, err := Compile(spec, noon)
	if err == nil || p != nil {
		t.Fatalf("got (%v, %v), want no policy and an error", p, err)
	}
	want := []string{
		`process: allowed_cidrs: a list of networks together with any address`,
		`tenant "a": denied_cidrs[1]: "invalid Prefix" is not a network`,
		`tenant "a": role "r": allowed_cidrs[0]: ::ffff:10.0.0.0/90 mixes IPv4 and IPv6 addresses: write one network for each`,
		`tenant "a": role "r": modes: an empty mode`,
		`tenant "a": roles[1]: duplicate name "r"`,
		`tenant "a": database "d": allowed_cidrs[0]: "invalid Prefix" is not a network`,
		`tenant "a": databases[1]: duplicate name "d"`,
		`tenant "a": databases[2]: empty name`,
		`tenants[1]: duplicate name "a"`,
		`tenants[2]: empty name`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestPolicyKeepsNothingOfItsSpec(t *testing.T) {
	t.Parallel()
	spec := Spec{
		Process: allow(t, "10.0.0.0/8"),
		Tenants: []TenantSpec{{Name: "a", Rules: Rules{AllowAny: true}, AllowOtherDatabases: true,
			Roles: []RoleSpec{{Name: "r", Rules: Rules{AllowAny: true}, Modes: []string{"session"}}}}},
	}
	p := mustCompile(t, spec)
	spec.Process.Allowed[0] = Entry{Prefix: netip.MustParsePrefix("192.168.0.0/16")}
	spec.Tenants[0].Roles[0].Modes[0] = "transaction"
	spec.Tenants[0].Roles[0].Name = "s"
	peer := Peer{Addr: netip.MustParseAddr("10.0.0.1"), Tenant: "a", Role: "r", Mode: "session"}
	if err := p.Check(peer); err != nil {
		t.Errorf("Check(%+v) after the spec was changed: %v", peer, err)
	}
}

func TestNamesOfTenantsDoNotShareRolesAndDatabases(t *testing.T) {
	t.Parallel()
	rules := Rules{AllowAny: true}
	p := mustCompile(t, Spec{Process: rules, Tenants: []TenantSpec{
		{Name: "a", Rules: rules, Roles: []RoleSpec{{Name: "x", Rules: rules}}, Databases: []DatabaseSpec{{Name: "x", Rules: rules}}},
		{Name: "b", Rules: rules, Roles: []RoleSpec{{Name: "y", Rules: rules}}, Databases: []DatabaseSpec{{Name: "x", Rules: rules}}},
	}})
	peer := Peer{Addr: netip.MustParseAddr("10.0.0.1"), Tenant: "b", Role: "x", Database: "x"}
	if cause, _ := causeOf(t, p.Check(peer)); cause != RoleDenied {
		t.Errorf("Check(%+v): got cause %v, want %v", peer, cause, RoleDenied)
	}
}
