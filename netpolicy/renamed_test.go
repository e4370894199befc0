package netpolicy

import (
	"net/netip"
	"testing"
)

func TestRulesOfADatabaseCountForItsNameInPostgresToo(t *testing.T) {
	t.Parallel()
	spec := Spec{Process: Rules{AllowAny: true}, Tenants: []TenantSpec{{
		Name: "t", Rules: Rules{AllowAny: true}, AllowOtherRoles: true, AllowOtherDatabases: true,
		Databases: []DatabaseSpec{
			{Name: "eu", InPostgres: "prod", Rules: allow(t, "10.1.0.0/16", "10.9.0.0/16")},
			{Name: "us", InPostgres: "prod", Rules: allow(t, "10.2.0.0/16", "10.9.0.0/16"), TLS: Enforce},
			{Name: "alias", InPostgres: "listed", Rules: allow(t, "10.1.0.0/16")},
			{Name: "listed", InPostgres: "listed", Rules: Rules{AllowAny: true}},
		},
	}}}
	p := mustCompile(t, spec)
	for _, test := range []struct {
		addr, database string
		tls            bool
		cause          Cause
		stage          Stage
	}{
		{"10.1.0.1", "eu", false, 0, Observe},
		{"10.1.0.1", "us", true, AddressDenied, Enforce},
		{"10.1.0.1", "prod", true, AddressDenied, Enforce}, // us
		{"10.2.0.1", "prod", true, AddressDenied, Enforce}, // eu
		{"10.9.0.1", "prod", true, 0, Enforce},
		{"10.9.0.1", "prod", false, TLSRequired, Enforce},
		{"10.2.0.1", "alias", false, AddressDenied, Observe},
		{"10.2.0.1", "listed", false, 0, Observe},
		{"10.2.0.1", "other", false, 0, Observe},
	} {
		peer := Peer{Addr: netip.MustParseAddr(test.addr), Tenant: "t", Role: "r", Database: test.database, TLS: test.tls}
		cause, level := causeOf(t, p.Check(peer))
		if cause != test.cause || cause != 0 && level != LevelDatabase || p.Stage(peer) != test.stage {
			t.Errorf("%+v: %v at %v, stage %v, want %v, stage %v", peer, cause, level, p.Stage(peer), test.cause, test.stage)
		}
	}
	spec.Tenants[0].AllowOtherDatabases = false
	peer := Peer{Addr: netip.MustParseAddr("10.9.0.1"), Tenant: "t", Role: "r", Database: "prod", TLS: true}
	if cause, _ := causeOf(t, mustCompile(t, spec).Check(peer)); cause != DatabaseDenied {
		t.Errorf("where others are denied: %v, want %v", cause, DatabaseDenied)
	}
}
