package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIdentitiesMustMeanSomething(t *testing.T) {
	t.Parallel()
	const (
		asks   = "tls: {cert_file: c, key_file: k, client_cert: optional, client_ca_file: ca}\n"
		people = "ident_maps: [{map: people, identity: '/^(.*)@example\\.com$', role: '\\1'}, {map: people, identity: root, role: admin}, {map: other, identity: x, role: x}]\n"
		unasks = "tls: {cert_file: c, key_file: k}\n"
		socket = "listeners: [{name: a, address: /run/.s.PGSQL.6543, mode: session}]\n"
	)
	for _, tt := range []struct{ name, file, want string }{
		{"a map with method cert", asks + people + "tenants: [{auth: {method: cert, map: people, cert_names: [email, cn]}}]", ""},
		{"a map beside a password", asks + people + "tenants: [{auth: {method: scram-sha-256, client_cert: verify-full, map: people, cert_names: [dns, uri]}}]", ""},
		{"a map with method peer", socket + people + "tenants: [{auth: {method: peer, map: other}}]", ""},
		{"verify-ca beside a password", asks + "tenants: [{auth: {client_cert: verify-ca}}]", ""},
		{"verify-full that cert says already", asks + "tenants: [{auth: {method: cert, client_cert: verify-full}}]", ""},
		{"a map that there is not", asks + people + "tenants: [{auth: {method: cert, map: nobody}}]",
			`tenants[0].auth.map: must be the map of one of ident_maps, got "nobody"`},
		{"a map, and no maps at all", asks + "tenants: [{auth: {method: cert, map: people}}]",
			`tenants[0].auth.map: must be the map of one of ident_maps, got "people"`},
		{"a map for nothing", asks + people + "tenants: [{auth: {map: people}}, {name: b, auth: {client_cert: verify-ca, map: people}}]",
			"tenants[0].auth.map: has a meaning only with tenants[0].auth.method cert or peer, or tenants[0].auth.client_cert verify-full\n" +
				"tenants[1].auth.map: has a meaning only with tenants[1].auth.method cert or peer, or tenants[1].auth.client_cert verify-full"},
		{"names for nothing", asks + "tenants: [{auth: {client_cert: verify-ca, cert_names: [dns]}}]",
			"tenants[0].auth.cert_names: has a meaning only with tenants[0].auth.method cert, or tenants[0].auth.client_cert verify-full"},
		{"no names", asks + "tenants: [{auth: {method: cert, cert_names: []}}]", "tenants[0].auth.cert_names: must have at least one of cn, dns, email, uri"},
		{"names that there are not", asks + "tenants: [{auth: {method: cert, cert_names: [cn, dn]}}]",
			`tenants[0].auth.cert_names[1]: must be one of cn, dns, email, uri, got "dn"`},
		{"a rule that there is not", asks + "tenants: [{auth: {client_cert: required}}]",
			`tenants[0].auth.client_cert: must be one of none, verify-ca, verify-full, got "required"`},
		{"certificates that are not asked for", unasks + "tenants: [{auth: {client_cert: verify-full}}, {name: b, auth: {client_cert: verify-ca}}]",
			"tenants[0].auth.client_cert: verify-full needs tls.client_cert, optional or required\n" +
				"tenants[1].auth.client_cert: verify-ca needs tls.client_cert, optional or required"},
		{"less than cert asks for", asks + "tenants: [{auth: {method: cert, client_cert: verify-ca}}]",
			"tenants[0].auth.client_cert: must be verify-full or none with method cert, which asks for no less"},
		{"certificates on sockets", asks + socket + "tenants: [{auth: {method: peer, client_cert: verify-full}}, {name: b, auth: {client_cert: verify-full}}]",
			"tenants[0].auth.client_cert: cannot be asked for with method peer: on Unix sockets there is no TLS\n" +
				"tenants[1].auth.client_cert: verify-full needs a listener over TCP: on Unix sockets there is no TLS"},
		{"lines that are wrong", `
ident_maps:
  - {map: m, identity: '/(', role: '\1'}
  - {map: m, identity: '/a)(?:b', role: a}
  - {map: m, identity: '/', role: a}
  - {map: m, identity: '/.*', role: '\1'}
  - {map: m, identity: alice, role: 'x\1'}
  - {map: m, identity: '/(.)(.)', role: '\2'}
  - {map: m, identity: alice, role: /alice}
  - {map: m, identity: alice, role: +admins}
  - {map: m, identity: '', role: ''}
  - {identity: alice}
  - {map: m, identity: '/(?P<n>.*)', role: 'x\1y'}
`, `sluice.yaml:3: ident_maps[0].identity: must be a regular expression behind its /: missing closing ), got "/("
sluice.yaml:4: ident_maps[1].identity: must be a regular expression behind its /: unexpected ), got "/a)(?:b"
sluice.yaml:5: ident_maps[2].identity: must have a regular expression behind its /
sluice.yaml:6: ident_maps[3].role: has \1, but the regular expression of ident_maps[3].identity has no group
sluice.yaml:7: ident_maps[4].role: has \1, but ident_maps[4].identity is no regular expression: it begins with no /
sluice.yaml:8: ident_maps[5].role: must refer to the first group only, \1, got "\\2"
sluice.yaml:9: ident_maps[6].role: must be the name of a role, not a regular expression or a group of roles, got "/alice"
sluice.yaml:10: ident_maps[7].role: must be the name of a role, not a regular expression or a group of roles, got "+admins"
sluice.yaml:11: ident_maps[8].identity: must not be empty
sluice.yaml:11: ident_maps[8].role: must not be empty
sluice.yaml:12: ident_maps[9].map: is required
sluice.yaml:12: ident_maps[9].role: is required`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := loginProblems(t, tt.file)
			if strings.HasPrefix(tt.want, "sluice.yaml:") {
				_, err := load(t, tt.file)
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems of\n%s\n(-want +got):\n%s", tt.file, diff)
			}
		})
	}
}
