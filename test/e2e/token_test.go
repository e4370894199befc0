package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
)

// issuer signs tokens, and publishes its keys over HTTP on this machine.
type issuer struct {
	t   *testing.T
	key crypto.Signer
	url string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	must(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	t.Cleanup(server.Close)
	return &issuer{t, key, server.URL}
}

// token returns one that is good for an hour, with changes to its claims.
func (i *issuer) token(changes map[string]any) string {
	i.t.Helper()
	claims := map[string]any{
		"iss": "https://issuer.example", "aud": []string{"web", "sluice"}, "exp": time.Now().Add(time.Hour).Unix(),
		"realm_access": map[string]any{"roles": []string{"alice", "other"}}, "groups": strings.Repeat("a group, ", 500),
	}
	for name, value := range changes {
		claims[name] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	must(i.t, err)
	payload, err := json.Marshal(claims)
	must(i.t, err)
	jws, err := signer.Sign(payload)
	must(i.t, err)
	token, err := jws.CompactSerialize()
	must(i.t, err)
	return token
}

// byToken is a configuration whose clients log in by tokens of i, over TLS by a certificate of a. Sluice logs in to Postgres
// with the password of the role's block.
func byToken(port int, a *authority, i *issuer) string {
	server := a.issue("sluice.example")
	return fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tls: {cert_file: %q, key_file: %q}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    require_tls: true
    auth:
      method: jwt
      jwt:
        jwks_url: %q
        issuer: https://issuer.example
        audience: sluice
        role_claim: /realm_access/roles
        roles: [alice]
    roles:
      - {name: alice, backend: {password: alice-secret}}
      - {name: bob, backend: {password: bob-secret}}
`, server.cert, server.key, port, i.url)
}

func TestTokensLogIn(t *testing.T) {
	t.Parallel()
	a, i, stranger := newAuthority(t), newIssuer(t), newIssuer(t)
	r := start(t, cluster, byToken(cluster.Port(), a, i))
	r.eventually("the keys are there", func() bool { return strings.Contains(r.logs.String(), "keys of tokens fetched") })
	connect := func(mode, user, token string) (*pgx.Conn, error) {
		c, err := pgx.Connect(r.ctx(), fmt.Sprintf("postgres://%s:%s@%s/app?sslmode=verify-full&sslrootcert=%s", user, token, r.addr[mode], a.file))
		if err == nil {
			t.Cleanup(func() { _ = c.Close(context.Background()) })
		}
		return c, err
	}
	good := i.token(nil)
	for _, mode := range modes {
		c, err := connect(mode, "alice", good)
		must(t, err)
		if got := r.value(c, "SELECT current_user::text"); got != "alice" {
			t.Errorf("logged in as %q", got)
		}
		if got, err := psql(t, strings.Replace(conninfo(r.addr[mode], "alice", "sslmode=verify-full sslrootcert="+a.file), "alice-secret", good, 1), "SELECT current_user"); err != nil || got != "alice" {
			t.Errorf("psql: %q, %v", got, err)
		}
		for why, try := range map[string]struct{ user, token string }{
			"the role may not log in by token": {"bob", i.token(map[string]any{"realm_access": map[string]any{"roles": "bob"}})},
			"the role is not in the token":     {"alice", i.token(map[string]any{"realm_access": nil})},
			"token expired":                    {"alice", i.token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})},
			"token for another audience":       {"alice", i.token(map[string]any{"aud": "web"})},
			"token of another issuer":          {"alice", i.token(map[string]any{"iss": "https://other.example"})},
			"wrong signature of the token":     {"alice", stranger.token(nil)},
			"malformed token":                  {"alice", "alice-secret"},
		} {
			_, err := connect(mode, try.user, try.token)
			if sqlstate(err) != "28P01" || !strings.Contains(err.Error(), fmt.Sprintf("password authentication failed for user %q", try.user)) {
				t.Errorf("%s: %v, want 28P01", why, err)
			}
			if !strings.Contains(r.logs.String(), why) {
				t.Errorf("the log does not say: %s", why)
			}
		}
		if _, err := connect(mode, "alice", i.token(map[string]any{"more": strings.Repeat("x", 64<<10)})); err == nil || !strings.Contains(r.logs.String(), "reason=message_too_large") {
			t.Errorf("a token of more than 64 KiB: %v", err)
		}
		_, err = pgx.Connect(r.ctx(), strings.Replace(r.url(mode, "alice", ""), "alice-secret", good, 1))
		if sqlstate(err) != "28000" {
			t.Errorf("without TLS: %v, want 28000", err)
		}
	}
}
