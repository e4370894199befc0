package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"sluice/internal/config"
)

// keySet writes a JWK set with one key.
func keySet(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &private.PublicKey, KeyID: "k", Algorithm: "ES256"}}})
	must(t, err)
	return file(t, "jwks.json", set)
}

// What a method asks beside the password: tokens, certificates, maps.
func TestWhatIsAskedOfClientsIsExplained(t *testing.T) {
	t.Parallel()
	pg := sick(t, nil)
	token := fmt.Sprintf("service: {role: service, password: service-secret}\nauth: {users_file: users.txt, method: jwt, jwt: {jwks_file: %q, issuer: i, audience: a, roles: [weak]}}", keySet(t))
	method := func(with string) string { return strings.Replace(withFile, "auth: {", "auth: {"+with+", ", 1) }
	const (
		open  = "listeners: [{name: session, address: \":5432\", mode: session}]\n"
		users = "\"weak\" \"weak-secret\"\n\"good\" \"good-secret\"\n"
		maps  = "ident_maps: [{map: people, identity: alice, role: weak}, {map: hosts, identity: '/(.*)[.]example', role: '\\1'}]\n"
	)
	for _, c := range []struct {
		name, top, tenant, role, want string
		problems                      bool
	}{
		{"jwt", "", token, "weak", `^ok: listener session .*asks for the token`, false},
		{"jwt without TLS", open, token, "weak", `^problem: listener session .*asks for the token in clear, which needs TLS, and there is none`, true},
		{"jwt for another role", "", token, "good", `^problem: it is not in auth.jwt.roles`, true},
		{"client_cert", secure(t), method("client_cert: verify-full"), "weak", `^ok: listener session .*by SCRAM-SHA-256, and for a client certificate that stands for the role >`, false},
		{"client_cert by a map", secure(t) + maps, method("client_cert: verify-full, map: people"), "weak", `^ok: listener session .*stands for the role by the map "people"`, false},
		{"client_cert, anybody's", secure(t), method("client_cert: verify-ca"), "weak", `^ok: listener session .*and for any valid client certificate`, false},
		{"client_cert on a Unix socket", secure(t) + unixListener(t), method("client_cert: verify-ca"), "weak", `^warning: listener local .*nobody can log in, as certificates \(auth.client_cert\) need TLS`, false},
		{"trust with client_cert", secure(t), method("method: trust, client_cert: verify-full"), "weak", `^ok: listener session .*asks for nothing, and for a client certificate`, false},
		{"peer by a map", unixListener(t) + maps, method("method: peer, map: people"), "weak", `^ok: listener local .*a user who stands for the role by the map "people"`, false},
		{"peer by a map without the role", unixListener(t) + maps, method("method: peer, map: people"), "good", `^problem: the map "people" has no line for it`, true},
		{"peer by a map with a group", unixListener(t) + maps, method("method: peer, map: hosts"), "good", `^ok: listener local .*by the map "hosts"`, false},
	} {
		r, text := examined(t, configuration(t, pg, c.top, c.tenant, users), c.role)
		wantFinding(t, r, ": role "+c.role, c.want)
		problems := 0
		for _, b := range r.Blocks {
			for _, f := range b.Findings {
				if strings.HasSuffix(b.Subject, ": role "+c.role) && f.Level == Problem {
					problems++
				}
			}
		}
		if got := problems > 0; got != c.problems {
			t.Errorf("%s: problems: got %v, want %v\n%s", c.name, got, c.problems, text)
		}
	}
}

// Roles that only tokens or maps name are looked at too.
func TestRolesOfTokensAndMapsAreLookedAt(t *testing.T) {
	t.Parallel()
	cfg := configuration(t, nil, unixListener(t)+"ident_maps: [{map: people, identity: alice, role: good}, {map: people, identity: '/(.*)', role: 'x\\1'}, {map: others, identity: bob, role: bob}]\n",
		fmt.Sprintf("backend: {host: 127.0.0.1, tls_mode: disable}\nauth: {users_file: users.txt, method: jwt, jwt: {jwks_file: %q, issuer: i, audience: a, roles: [trusted]}}", keySet(t)), "\"weak\" \"weak-secret\"\n")
	s := &subject{examination: &examination{cfg: cfg}, t: &cfg.Tenants[0]}
	if got := s.roles(nil); !slices.Equal(got, []string{"weak", "trusted"}) {
		t.Errorf("roles of tokens: %q", got)
	}
	s.t.Auth.Method, s.t.Auth.Map = config.AuthPeer, "people"
	if got := s.roles([]string{"more"}); !slices.Equal(got, []string{"weak", "good", "more"}) {
		t.Errorf("roles of a map: %q", got)
	}
}

// While a password changes one secret that fits is enough.
func TestTwoSecretsAreExplained(t *testing.T) {
	t.Parallel()
	pg := sick(t, nil)
	weak, good := verifierOf(t, pg, "weak"), verifierOf(t, pg, "good")
	digest := verifierOf(t, pg, "digest")
	const ends = " until 2100-01-01T00:00:00Z\n"
	must(t, pg.Exec(t.Context(), `CREATE TABLE sluice.logins AS SELECT rolname, rolpassword, now() + '1 day' AS until FROM pg_authid WHERE rolname = 'weak'`,
		`INSERT INTO sluice.logins VALUES ('weak', '`+good+`', NULL)`, `GRANT SELECT ON sluice.logins TO service`))
	for _, c := range []struct {
		name, tenant, users string
		want                []string
	}{
		{"the new one is in Postgres", withFile, `"weak" "` + weak + "\"\n\"weak\" \"" + good + `"` + ends, []string{`^ok: auth.users_file has two secrets`, `^ok: database .*verifier of "weak" is that of`}},
		{"the old one is", withFile, `"weak" "` + good + "\"\n\"weak\" \"" + weak + `"` + ends, []string{`^ok: database .*verifier of "weak" is that of`}},
		{"one is an md5 hash, method scram-sha-256", strings.Replace(withFile, "auth: {", "auth: {method: scram-sha-256, ", 1),
			`"weak" "` + digest + "\"\n\"weak\" \"" + weak + `"` + ends, []string{`^ok: auth.users_file has a SCRAM verifier`, `^ok: listener session .*SCRAM-SHA-256`}},
		{"trust, of two only the other is a password", strings.Replace(withFile, "auth: {", "auth: {method: trust, ", 1),
			`"weak" "` + good + "\"\n\"weak\" \"weak-secret\"" + ends, []string{`^ok: database .*lets Sluice in as "weak"`}},
		{"two rows", withQueryOf("SELECT * FROM sluice.logins WHERE rolname = $1"), "", []string{`^ok: auth.query has two secrets`, `^ok: database .*verifier of "weak" is that of`}},
	} {
		r, text := examined(t, configuration(t, pg, "", c.tenant, c.users), "weak")
		for _, want := range c.want {
			wantFinding(t, r, ": role weak", want)
		}
		if n := r.Count(Problem); n != 0 {
			t.Errorf("%s: %d problems\n%s", c.name, n, text)
		}
	}
}
