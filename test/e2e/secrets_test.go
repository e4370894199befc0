package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/auth/scram"
)

// Marks by which a secret that has got out is found.
const (
	markPlain  = "plain-passw0rd-of-alice"
	markOld    = "old-passw0rd-of-alice"
	markWrong  = "wr0ng-guess"
	markBob    = "b0b-passw0rd"
	markAdmin  = "admin-t0ken"
	markHidden = "br0ken-line"
)

// secretWorld is everything in one process: a tenant for each way to log in.
func secretWorld(t *testing.T, port int, a *authority, i *issuer, dir, verifier, hash string) string {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "plain.txt"), fmt.Appendf(nil, "\"alice\" %q\n\"alice\" %q until 2999-01-01T00:00:00Z\n", markPlain, markOld), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "verifier.txt"), fmt.Appendf(nil, "\"alice\" %q\n", verifier), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "hash.txt"), fmt.Appendf(nil, "\"alice\" %q\n", hash), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "admin.txt"), []byte(markAdmin+"\n"), 0o600))
	server := a.issue("sluice.example")
	var tenants strings.Builder
	tenant := func(name, auth string) {
		fmt.Fprintf(&tenants, `
  - name: %s
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    service: {role: service, password: service-secret, database: postgres}
    auth: %s
    roles: [{name: bob, backend: {user: alice, password: %s}}]
`, name, port, auth, markPlain)
	}
	tenant("trust", "{method: trust, users_file: ''}")
	tenant("plain", "{users_file: plain.txt}")
	tenant("clear", "{method: password, users_file: verifier.txt}")
	tenant("md5", "{method: md5, users_file: plain.txt}")
	tenant("hash", "{users_file: hash.txt, method: password}")
	tenant("scram", "{users_file: verifier.txt}")
	tenant("query", fmt.Sprintf("{query: %q}", authQuery))
	tenant("cert", "{method: cert, users_file: plain.txt}")
	tenant("jwt", fmt.Sprintf("{method: jwt, users_file: plain.txt, jwt: {jwks_url: %q, issuer: 'https://issuer.example', audience: sluice, role_claim: /realm_access/roles, roles: [alice]}}", i.url))
	return fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: "", token: file(admin.txt)}
tls: {cert_file: %q, key_file: %q, client_cert: optional, client_ca_file: %q}
log: {audit: audit.log, level: debug, sessions: all}
tenants:%s`, server.cert, server.key, a.file, tenants.String())
}

// secretRig is a Sluice whose every secret is known.
type secretRig struct {
	*rig
	a                     *authority
	verifier, hash        string       // of alice's password
	good, forged, expired string       // tokens
	said                  bytes.Buffer // to clients
}

func startSecretWorld(t *testing.T) *secretRig {
	t.Helper()
	pg := ownCluster(t)
	v, err := scram.NewVerifier(markPlain, []byte("0123456789abcdef"), scram.DefaultIterations)
	must(t, err)
	must(t, pg.Exec(t.Context(), fmt.Sprintf("ALTER ROLE alice PASSWORD '%s'", v.String()), fmt.Sprintf("ALTER ROLE bob PASSWORD '%s'", markBob)))
	i := newIssuer(t)
	s := &secretRig{
		a: newAuthority(t), verifier: v.String(), hash: "md5" + md5Hash(markPlain+"alice"),
		good: i.token(nil), forged: newIssuer(t).token(nil), expired: i.token(map[string]any{"exp": 1}),
	}
	dir := t.TempDir()
	s.rig = &rig{t: t, dir: dir}
	s.rig = startConfig(t, pg, s.load(secretWorld(t, pg.Port(), s.a, i, dir, s.verifier, s.hash)))
	s.dir = dir
	s.eventually("the keys are there", func() bool { return strings.Contains(s.logs.String(), "keys of tokens fetched") })
	return s
}

// enter logs in to a tenant, and reports whether it was let in.
func (s *secretRig) enter(mode, tenant, user, password, more string) bool {
	s.t.Helper()
	c, err := pgx.Connect(s.ctx(), fmt.Sprintf("postgres://%s:%s@%s/app?sslmode=verify-full&sslrootcert=%s&options=--sluice.tenant%%3D%s%s",
		user, url.QueryEscape(password), s.addr[mode], s.a.file, tenant, more))
	if err != nil {
		fmt.Fprintln(&s.said, sqlstate(err), err)
		return false
	}
	s.value(c, "SELECT current_user::text")
	must(s.t, c.Close(s.ctx()))
	return true
}

// logInEverywhere logs in to every tenant, and tries to with what is wrong.
func (s *secretRig) logInEverywhere(mode string) {
	s.t.Helper()
	mine := s.a.issue("alice")
	for _, tenant := range []string{"trust", "plain", "clear", "md5", "hash", "scram", "query", "jwt", "cert"} {
		user, password, more := "alice", markPlain, ""
		guesses := []string{markWrong, s.verifier}
		switch tenant {
		case "trust":
			user, guesses = "bob", nil // whom Sluice logs in by the password of its configuration
		case "cert":
			more = "&sslcert=" + mine.cert + "&sslkey=" + mine.key
		case "jwt":
			password, guesses = s.good, []string{s.forged, s.expired}
		}
		if !s.enter(mode, tenant, user, password, more) {
			s.t.Errorf("%s: refused: %s", tenant, s.said.String())
		}
		if mode == "transaction" { // each guess delays the next
			continue
		}
		for _, guess := range guesses {
			if s.enter(mode, tenant, "alice", guess, "") {
				s.t.Errorf("%s: let in with %q", tenant, guess)
			}
		}
	}
	for _, tenant := range []string{"plain", "md5"} {
		if !s.enter(mode, tenant, "alice", markOld, "") {
			s.t.Errorf("%s: the old password is refused", tenant)
		}
	}
}

// breakThings has Postgres refuse what Sluice knows, and a reload fail.
func (s *secretRig) breakThings() error {
	s.t.Helper()
	must(s.t, s.pg.Exec(s.ctx(), "ALTER ROLE alice PASSWORD 'another'", "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'alice'"))
	if s.enter("session", "scram", "alice", markPlain, "") {
		s.t.Error("let in by a password that Postgres does not know")
	}
	must(s.t, os.WriteFile(filepath.Join(s.dir, "plain.txt"), fmt.Appendf(nil, "\"alice\" %q %q\n", markHidden, markPlain), 0o600))
	err := s.srv.Reload(s.load(s.read("sluice.yaml")))
	if err == nil {
		s.t.Error("a broken users file is taken")
	}
	return err
}

func (s *secretRig) read(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	must(s.t, err)
	return string(data)
}

// secrets returns all of them by name.
func (s *secretRig) secrets() map[string]string {
	all := map[string]string{
		"password": markPlain, "old password": markOld, "guess": markWrong, "Postgres's password": markBob, "admin token": markAdmin,
		"broken line": markHidden, "service's password": "service-secret", "hash": s.hash[3:], "salt": "MDEyMzQ1Njc4OWFiY2RlZg==",
	}
	_, keys, _ := strings.Cut(s.verifier[len("SCRAM-SHA-256$"):], "$")
	all["stored key"], all["server key"], _ = strings.Cut(keys, ":")
	for name, token := range map[string]string{"token": s.good, "forged token": s.forged, "expired token": s.expired} {
		for part, text := range strings.Split(token, ".") {
			all[fmt.Sprintf("%s, part %d", name, part)] = text
		}
	}
	return all
}

func TestSecretsAreNowhereToBeSeen(t *testing.T) {
	t.Parallel()
	s := startSecretWorld(t)
	for _, mode := range modes {
		s.logInEverywhere(mode)
	}
	reload := s.breakThings()
	status, err := json.Marshal(s.srv.Status())
	must(t, err)
	metrics := httptest.NewRecorder()
	s.srv.Metrics().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	all := map[string]string{
		"log": s.logs.String(), "status": string(status), "metrics": metrics.Body.String(), "audit log": s.read("audit.log"), "clients": s.said.String(),
		"reload": fmt.Sprint(reload), "configuration": fmt.Sprintf("%+v", *s.load(s.read("sluice.yaml"))), "arguments": strings.Join(os.Args, " "),
	}
	for name, secret := range s.secrets() {
		for where, text := range all {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the %s", where, name)
			}
		}
	}
	for where, want := range map[string]string{
		"log": "wrong password", "audit log": "token expired", "metrics": "sluice_login_failures_total", "status": `"name":"plain"`, "clients": "28P01",
	} {
		if !strings.Contains(all[where], want) {
			t.Errorf("%s does not have %q: nothing was looked for", where, want)
		}
	}
}
