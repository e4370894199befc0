package proxy_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

// signingKey is the issuer's.
func signingKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", ed25519.SeedSize)))
}

// keySet is what the issuer publishes, with the key by some name.
func keySet(t *testing.T, name string) []byte {
	t.Helper()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signingKey().Public(), KeyID: name}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// tokenFor returns one of the issuer's for an hour.
func tokenFor(t *testing.T, key, role string) string {
	t.Helper()
	return tokenAbout(t, key, role, "somebody")
}

func tokenAbout(t *testing.T, key, role, subject string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: signingKey(), KeyID: key}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{"iss": "issuer", "aud": "sluice", "sub": subject, "role": role, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// byToken has clients log in by token. The issuer's keys are in a file, or at a URL.
func byToken(keys config.JWT) change {
	return func(_ *config.Config, c *config.Tenant) {
		c.Auth.Method, c.Auth.JWT = config.AuthJWT, keys
		c.Auth.JWT.Issuer, c.Auth.JWT.Audience, c.Auth.JWT.RoleClaim = "issuer", []string{"sluice"}, "role"
		c.Auth.JWT.Algorithms = []string{"EdDSA"}
		if keys.Roles == nil {
			c.Auth.JWT.Roles = []string{"app"}
		}
	}
}

// present logs in with a token, and returns the SQLSTATE of the refusal, empty if there is none.
func (h *harness) present(port, role, token string) string {
	h.t.Helper()
	err := h.connect(port).Login(role, "app", token)
	refused, is := errors.AsType[*pgscript.RefusedError](err)
	switch {
	case err == nil:
		return ""
	case !is:
		h.t.Fatal(err)
	}
	return refused.Response.Code
}

// wantPresented fails unless the login by a token ends with this SQLSTATE.
func (h *harness) wantPresented(port, role, token, want string) {
	h.t.Helper()
	if got := h.present(port, role, token); got != want {
		h.t.Errorf("login of %s: %q, want %q\n%s", role, got, want, h.log)
	}
}

func TestKeysOfTokensThatComeLate(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, byToken(config.JWT{JWKSURL: "http://127.0.0.1:8080/jwks.json"}))
		h.wantPresented(port, "app", tokenFor(t, "k", "app"), "57P03")
		if log := h.log.String(); !strings.Contains(log, "nobody can log in by token") || !strings.Contains(log, "reason=auth_unavailable") {
			t.Errorf("log:\n%s", log)
		}
		if n := len(h.postgres.Conns()); n != 0 {
			t.Errorf("%d backends were opened", n)
		}
		publish(t, h.network, keySet(t, "k"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		h.wantPresented(port, "app", tokenFor(t, "k", "app"), "")
		if !strings.Contains(h.log.String(), "keys of tokens fetched") {
			t.Errorf("log:\n%s", h.log)
		}
		before := strings.Count(h.log.String(), "keys of tokens fetched")
		if err := h.srv.Reload(settings(byToken(config.JWT{JWKSURL: "http://127.0.0.1:8080/jwks.json", Leeway: time.Second}))); err != nil {
			t.Fatal(err)
		}
		h.wantPresented(port, "app", tokenFor(t, "k", "app"), "") // at once: the keys stay
		if got := strings.Count(h.log.String(), "keys of tokens fetched"); got != before {
			t.Error("a reload fetches keys that are there")
		}
		token := tokenFor(t, "k", "postgres")
		h.wantPresented(port, "postgres", token, "28P01")
		h.wantPresented(port, "app", token, "28P01")
		h.wantPresented(port, "app", tokenFor(t, "unknown", "app"), "28P01")
		log := h.log.String()
		for _, why := range []string{"the role may not log in by token", "the role is not in the token", "token signed by an unknown key"} {
			if !strings.Contains(log, why) {
				t.Errorf("the log does not say %q:\n%s", why, log)
			}
		}
		if strings.Contains(log, token[:20]) {
			t.Error("the log has a token")
		}
	})
}

// publish serves a key set on the network until the test ends.
func publish(t *testing.T, n *memnet.Network, set []byte) {
	t.Helper()
	ln := n.Listen("127.0.0.1:8080")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })}
	served := background(t, func() { _ = server.Serve(ln) })
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

func TestTheAuditLogNamesTheSubjectOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "jwks.json")
		if err := os.WriteFile(path, keySet(t, "k"), 0o600); err != nil {
			t.Fatal(err)
		}
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			byToken(config.JWT{JWKSFile: path})(c, tenant)
			c.Log.Audit = filepath.Join(dir, "audit.jsonl")
		})
		for subject, want := range map[string]string{
			"auth0|4711":                       "auth0|4711",
			"":                                 "",
			"a\n\u009b31mb":                    `"a\n\u009b31mb"`,
			strings.Repeat("x", 300):           strings.Repeat("x", 255) + "…",
			`","event":"policy changed","a":"`: `","event":"policy changed","a":"`,
		} {
			h.wantPresented(sessionPort, "app", tokenAbout(t, "k", "app", subject), "")
			synctest.Wait()
			logins := events(t, dir, "event", "role", "auth_method", "subject")
			if got, want := logins[len(logins)-1], strings.TrimSuffix("login app jwt "+want, " "); got != want {
				t.Errorf("%q: the audit log says %q, want %q", subject, got, want)
			}
		}
		h.wantPresented(sessionPort, "app", tokenAbout(t, "unknown", "app", "mallory"), "28P01")
		if recorded, err := os.ReadFile(filepath.Join(dir, "audit.jsonl")); err != nil || strings.Contains(string(recorded), "mallory") {
			t.Errorf("%v: a subject that nobody has signed for:\n%s", err, recorded)
		}
	})
}

func TestKeysOfTokensInAFileAreReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "jwks.json")
		write := func(set []byte) {
			t.Helper()
			if err := os.WriteFile(path, set, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(keySet(t, "old"))
		h := newHarness(t, pgscript.Options{}, byToken(config.JWT{JWKSFile: path}))
		h.wantPresented(sessionPort, "app", tokenFor(t, "old", "app"), "")
		write([]byte("{"))
		err := h.srv.Reload(settings(byToken(config.JWT{JWKSFile: path})))
		if err == nil || !strings.HasPrefix(err.Error(), "tenants[0].auth.jwt.jwks_file: "+path) {
			t.Errorf("a broken file: %v", err)
		}
		h.wantPresented(sessionPort, "app", tokenFor(t, "old", "app"), "")
		write(keySet(t, "new"))
		if err := h.srv.Reload(settings(byToken(config.JWT{JWKSFile: path}))); err != nil {
			t.Fatal(err)
		}
		h.wantPresented(sessionPort, "app", tokenFor(t, "old", "app"), "28P01")
		h.wantPresented(sessionPort, "app", tokenFor(t, "new", "app"), "")
		if problems := proxy.Check(settings(byToken(config.JWT{JWKSFile: path + "x"}))); len(problems) != 1 {
			t.Errorf("a missing file: %v", problems)
		}
	})
}
