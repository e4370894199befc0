package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loginProblems loads text and returns what is wrong with it, a line for each problem.
func loginProblems(t *testing.T, text string) string {
	t.Helper()
	_, err := load(t, text)
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, p.Path+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}

func TestTLSEnforcementHasDefaults(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `
tls: {cert_file: c, key_file: k}
tenants:
  - {name: a, roles: [{name: r}, {name: s, tls_enforcement: warn}], databases: [{name: d}, {name: e, tls_enforcement: enforce}]}
  - {name: b, require_tls: true}
  - {name: c, tls_enforcement: warn}
`)
	var got []string
	for _, t := range c.Tenants {
		got = append(got, t.TLSEnforcement)
		for _, r := range t.Roles {
			got = append(got, r.TLSEnforcement)
		}
		for _, d := range t.Databases {
			got = append(got, d.TLSEnforcement)
		}
	}
	if want := "observe observe warn observe enforce enforce warn"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

func TestLoginsMustBePossible(t *testing.T) {
	t.Parallel()
	const (
		tlsBlock = "tls: {cert_file: c, key_file: k, client_cert: required, client_ca_file: ca}\n"
		socket   = "listeners: [{name: a, address: /run/.s.PGSQL.6543, mode: session}]\n"
		two      = "listeners: [{name: a, address: /run/.s.PGSQL.6543, mode: session, tenants: [other]}, {name: b, address: ':1', mode: session}]\n"
		remote   = "host: db.example, cert_file: c, key_file: k"
		noSecret = " gives no secret to log in to PostgreSQL with: it needs tenants[0].roles[].backend.password, or tenants[0].backend.cert_file, or secrets in tenants[0].auth.users_file"
	)
	jwt := func(keys string) string {
		return "tenants: [{auth: {method: jwt, jwt: {" + keys + ", issuer: i, audience: [a, b], roles: [r]}}}]"
	}
	for _, tt := range []struct{ name, file, want string }{
		{"require_tls without a certificate", "tenants: [{require_tls: true}]",
			"tenants[0].require_tls: needs tls.cert_file and tls.key_file: without them nobody can log in over TCP"},
		{"require_tls with one", "tls: {cert_file: c, key_file: k}\ntenants: [{require_tls: true}]", ""},
		{"require_tls without one, on a Unix socket only", socket + "tenants: [{require_tls: true}]", ""},
		{"require_tls of a tenant that has a Unix socket too", two + "tenants: [{name: other, require_tls: true}]",
			"tenants[0].require_tls: needs tls.cert_file and tls.key_file: without them nobody can log in over TCP"},
		{"tls_enforcement without a certificate", "tenants: [{tls_enforcement: enforce}, {name: b, tls_enforcement: warn}, {name: c, tls_enforcement: observe}]",
			"tenants[0].tls_enforcement: needs tls.cert_file and tls.key_file: without them nobody can log in over TCP\n" +
				"tenants[1].tls_enforcement: needs tls.cert_file and tls.key_file: without them clients would be told to use what is not offered"},
		{"tls_enforcement of a role and a database without a certificate",
			"tenants: [{roles: [{name: a}, {name: b, tls_enforcement: enforce}], databases: [{name: d, tls_enforcement: warn}]}]",
			"tenants[0].roles[1].tls_enforcement: needs tls.cert_file and tls.key_file: without them nobody can log in over TCP\n" +
				"tenants[0].databases[0].tls_enforcement: needs tls.cert_file and tls.key_file: without them clients would be told to use what is not offered"},
		{"tls_enforcement with one", "tls: {cert_file: c, key_file: k}\ntenants: [{tls_enforcement: warn, roles: [{name: a, tls_enforcement: enforce}]}]", ""},
		{"require_tls that is also said otherwise", "tls: {cert_file: c, key_file: k}\n" +
			"tenants: [{require_tls: true, tls_enforcement: observe}, {name: b, require_tls: true, tls_enforcement: warn}, {name: c, require_tls: true, tls_enforcement: enforce}]",
			"tenants[0].tls_enforcement: must be enforce or absent, since tenants[0].require_tls is true, got \"observe\"\n" +
				"tenants[1].tls_enforcement: must be enforce or absent, since tenants[1].require_tls is true, got \"warn\""},
		{"a stage that there is not", "tenants: [{require_tls: true, tls_enforcement: refuse, roles: [{name: a, tls_enforcement: off}]}]\ntls: {cert_file: c, key_file: k}",
			"tenants[0].tls_enforcement: must be one of observe, warn, enforce, got \"refuse\"\n" +
				"tenants[0].roles[0].tls_enforcement: must be one of observe, warn, enforce, got \"off\""},
		{"what follows from a broken certificate", "tls: {cert_file: env(SLUICE_TEST_UNSET), key_file: k}\ntenants: [{require_tls: true}]",
			"tls.cert_file: env(SLUICE_TEST_UNSET): the environment variable is not set"},
		{"cert without certificates of clients", "tls: {cert_file: c, key_file: k}\ntenants: [{auth: {method: cert}}]",
			"tenants[0].auth.method: cert needs tls.client_cert, optional or required"},
		{"cert", tlsBlock + "tenants: [{auth: {method: cert}}]", ""},
		{"cert without a secret", tlsBlock + "tenants: [{auth: {method: cert, users_file: ''}, backend: {host: db.example}}]",
			"tenants[0].auth.method: cert" + noSecret},
		{"cert with a role's password", tlsBlock +
			"tenants: [{auth: {method: cert, users_file: ''}, backend: {host: db.example}, roles: [{name: a, backend: {password: x}}]}]", ""},
		{"cert with a certificate towards Postgres", tlsBlock + "tenants: [{auth: {method: cert, users_file: ''}, backend: {" + remote + "}}]", ""},
		{"cert with a Postgres that may trust", tlsBlock + "tenants: [{auth: {method: cert, users_file: ''}}]", ""},
		{"peer without a Unix socket", "tenants: [{auth: {method: peer}}]",
			"tenants[0].auth.method: peer needs a listener on a Unix socket"},
		{"peer without a Unix socket of its own", two + "tenants: [{name: mine, auth: {method: peer}}, {name: other}]",
			"tenants[0].auth.method: peer needs a listener on a Unix socket"},
		{"peer", socket + "tenants: [{auth: {method: peer}}]", ""},
		{"peer without a secret", socket + "tenants: [{auth: {method: peer, users_file: ''}, backend: {host: db.example}}]",
			"tenants[0].auth.method: peer" + noSecret},
		{"direct TLS that may go without", "tenants: [{backend: {tls_negotiation: direct}}]",
			"tenants[0].backend.tls_negotiation: direct needs tenants[0].backend.tls_mode require, verify-ca or verify-full, not prefer"},
		{"direct TLS", "tenants: [{backend: {tls_negotiation: direct, tls_mode: require}}]", ""},
		{"direct TLS of a host elsewhere", "tenants: [{backend: {tls_negotiation: direct, host: db.example}}]", ""},
		{"jwt without anything", "tenants: [{auth: {method: jwt}}]", strings.Join([]string{
			"tenants[0].auth.method: jwt needs tenants[0].auth.jwt.jwks_file or tenants[0].auth.jwt.jwks_url",
			"tenants[0].auth.jwt.issuer: must not be empty with method jwt",
			"tenants[0].auth.jwt.audience: must not be empty with method jwt",
			"tenants[0].auth.jwt.roles: must not be empty with method jwt"}, "\n")},
		{"jwt", jwt("jwks_url: 'https://i.example/keys'"), ""},
		{"jwt with a file", jwt("jwks_file: users.txt"), ""},
		{"jwt with both", jwt("jwks_file: users.txt, jwks_url: 'https://i.example/keys'"),
			"tenants[0].auth.jwt.jwks_url: must be empty where there is tenants[0].auth.jwt.jwks_file"},
		{"jwt from this machine", jwt("jwks_url: 'http://127.0.0.1:8080/keys'"), ""},
		{"jwt in clear", jwt("jwks_url: 'http://i.example/keys'"), "tenants[0].auth.jwt.jwks_url: must be https: http is for this machine only"},
		{"jwt from elsewhere", jwt("jwks_url: 'file:///keys'"), "tenants[0].auth.jwt.jwks_url: must be a URL that begins with https://"},
		{"jwt with a password", jwt("jwks_url: 'https://a:hidden@i.example/keys'"), "tenants[0].auth.jwt.jwks_url: must not hold a user or password"},
		{"jwt with a fragment", jwt("jwks_url: 'https://i.example/keys#a'"), "tenants[0].auth.jwt.jwks_url: must not have a fragment"},
		{"jwt with HMAC", jwt("jwks_file: users.txt, algorithms: [HS256]"),
			`tenants[0].auth.jwt.algorithms[0]: must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, got "HS256"`},
		{"jwt with no algorithm", jwt("jwks_file: users.txt, algorithms: []"), "tenants[0].auth.jwt.algorithms: must not be empty with method jwt"},
		{"jwt with no claim", jwt("jwks_file: users.txt, role_claim: /"), "tenants[0].auth.jwt.role_claim: must name a claim"},
		{"jwt with too much leeway", jwt("jwks_file: users.txt, leeway: 1h"), "tenants[0].auth.jwt.leeway: must be at most 5m, got 1h0m0s"},
		{"keys for another method", "tenants: [{auth: {jwt: {jwks_url: 'https://i.example/keys'}}}]", "tenants[0].auth.jwt.jwks_url: needs tenants[0].auth.method jwt"},
		{"jwt without a secret", "tenants: [{auth: {method: jwt, users_file: '', jwt: {jwks_url: 'https://i', issuer: i, audience: a, roles: [r]}}, backend: {host: db.example}}]",
			"tenants[0].auth.method: jwt" + noSecret},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, loginProblems(t, tt.file)); diff != "" {
				t.Errorf("problems of\n%s\n(-want +got):\n%s", tt.file, diff)
			}
		})
	}
}
