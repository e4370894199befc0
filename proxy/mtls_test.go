package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// signer is an authority of clients' certificates.
type signer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{t: t, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: bubbleEpoch.Add(-time.Hour), NotAfter: bubbleEpoch.AddDate(1, 0, 0),
	}}
	der, err := x509.CreateCertificate(rand.Reader, s.cert, s.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return s
}

// bubbleEpoch is when the clock of a bubble begins.
var bubbleEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// issue signs a client's certificate with that common name, as edit changes it.
func (s *signer) issue(name string, edit func(*x509.Certificate)) *tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: bubbleEpoch.Add(-time.Hour),
		NotAfter: bubbleEpoch.AddDate(0, 1, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, key.Public(), s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// asksClients offers TLS and asks clients for certificates of the authority.
func (s *signer) asksClients(rule string) change {
	path := filepath.Join(s.t.TempDir(), "clients.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	offer := withTLS(s.t)
	return func(c *config.Config, tenant *config.Tenant) {
		offer(c, tenant)
		c.TLS.ClientCert, c.TLS.ClientCAFile = rule, path
	}
}

// mtls is a setting of everything that certificates of clients depend on.
type mtls struct {
	method config.AuthMethod
	rule   string // auth.client_cert
	asks   string // tls.client_cert
	mapped bool
}

func (m mtls) String() string {
	return fmt.Sprintf("%s, client_cert %s, tls %s, mapped %t", m.method, m.rule, m.asks, m.mapped)
}

// admits reports whether alice is let in who shows that certificate, empty for none, "plain" for no TLS.
func (m mtls) admits(shown string) bool {
	identity := m.method == config.AuthCert || m.rule == "verify-full"
	switch shown {
	case "plain":
		return m.rule == "none" && m.method != config.AuthCert
	case "":
		return m.asks == "optional" && m.rule == "none" && m.method != config.AuthCert
	case "stranger's", "expired":
		return false // in the handshake
	case "own":
		return !identity || !m.mapped
	case "mail", "uri":
		return !identity || m.mapped
	}
	return !identity // another's
}

func TestEveryCombinationOfClientCertificates(t *testing.T) {
	clients, stranger := newSigner(t), newSigner(t)
	spiffe, _ := url.Parse("spiffe://example.com/role/alice")
	shown := map[string]*tls.Certificate{
		"own":        clients.issue("alice", nil),
		"another's":  clients.issue("bob", nil),
		"mail":       clients.issue("bob", func(c *x509.Certificate) { c.EmailAddresses = []string{"bob@example.org", "alice@example.com"} }),
		"uri":        clients.issue("bob", func(c *x509.Certificate) { c.URIs = append(c.URIs, spiffe) }),
		"dns":        clients.issue("bob", func(c *x509.Certificate) { c.DNSNames = []string{"alice"} }), // a name that does not count
		"prefix":     clients.issue("bob", func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@example.com.evil.org"} }),
		"stranger's": stranger.issue("alice", nil),
		"expired":    clients.issue("alice", func(c *x509.Certificate) { c.NotAfter = bubbleEpoch.Add(-time.Minute) }),
		"":           {},
	}
	users := usersFile(t, `"alice" "secret"`)
	for _, method := range []config.AuthMethod{config.AuthTrust, config.AuthPassword, config.AuthMD5, config.AuthSCRAM, config.AuthCert} {
		for _, rule := range []string{"none", "verify-ca", "verify-full"} {
			for _, asks := range []string{"optional", "required"} {
				for _, mapped := range []bool{false, true} {
					m := mtls{method, rule, asks, mapped}
					t.Run(m.String(), func(t *testing.T) {
						asking := clients.asksClients(asks)
						synctest.Test(t, func(t *testing.T) { m.try(t, asking, users, shown) })
					})
				}
			}
		}
	}
}

// try has alice log in on every port with each certificate, those first who are to be refused.
func (m mtls) try(t *testing.T, asking change, users string, shown map[string]*tls.Certificate) {
	h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, func(c *config.Config, tenant *config.Tenant) {
		asking(c, tenant)
		tenant.Auth.Method, tenant.Auth.UsersFile, tenant.Auth.ClientCert = m.method, users, m.rule
		if m.mapped {
			c.IdentMaps = []config.IdentLine{
				{Map: "people", Identity: `/(.*)@example\.com`, Role: `\1`}, {Map: "people", Identity: `/spiffe://example\.com/role/(\w+)`, Role: `\1`},
				{Map: "strangers", Identity: "bob", Role: "alice"},
			}
			tenant.Auth.Map, tenant.Auth.CertNames = "people", []string{"cn", "email", "uri"}
		}
	})
	for _, admitted := range []bool{false, true} {
		for name, cert := range shown {
			for _, port := range []string{sessionPort, transactionPort} {
				if m.admits(name) != admitted {
					continue
				}
				if err := loginShowing(h, port, cert, "secret"); (err == nil) != admitted {
					t.Errorf("%s, %q at %s: %v, want admitted %t", m, name, port, err, admitted)
				}
				if err := loginShowing(h, port, cert, "wrong"); err == nil && m.method != config.AuthTrust && m.method != config.AuthCert {
					t.Errorf("%s, %q at %s: let in with a wrong password", m, name, port)
				}
			}
		}
		if m.admits("plain") == admitted && m.method != config.AuthPassword {
			if err := h.connect(sessionPort).Login("alice", "app", "secret"); (err == nil) != admitted {
				t.Errorf("%s, without TLS: %v, want admitted %t", m, err, admitted)
			}
		}
		if synctest.Wait(); !admitted && len(h.postgres.Conns()) > 0 {
			t.Fatalf("%s: Postgres saw a connection of somebody who was refused", m)
		}
	}
}

// loginShowing logs in as alice over TLS with a certificate.
func loginShowing(h *harness, port string, cert *tls.Certificate, password string) error {
	c := h.connect(port)
	defer func() { _ = c.Close() }()
	config := clientTLS()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	if err := c.StartTLS(config); err != nil {
		return err
	}
	return c.Login("alice", "app", password)
}

func TestRefusalsOfCertificatesSayWhy(t *testing.T) {
	clients := newSigner(t)
	asking := clients.asksClients("optional")
	users := usersFile(t, `"alice" "secret"`)
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, func(c *config.Config, tenant *config.Tenant) {
			asking(c, tenant)
			c.Log.Audit = filepath.Join(dir, "audit.jsonl")
			tenant.Auth.Method, tenant.Auth.UsersFile, tenant.Auth.ClientCert = config.AuthSCRAM, users, "verify-full"
		})
		for cert, want := range map[*tls.Certificate]string{
			clients.issue("bob", nil): `FATAL 28000 "certificate authentication failed for user \"alice\""`,
			{}:                        `FATAL 28000 "connection requires a valid client certificate" "Connect with sslcert and sslkey."`,
		} {
			if err := loginShowing(h, sessionPort, cert, "secret"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		if got := refusal(t, h.connect(sessionPort), "alice", "app", "secret"); got != `B: ErrorResponse FATAL 28000 "connection requires TLS" "Connect with sslmode=require."` {
			t.Errorf("without TLS: %s", got)
		}
		noBackends(t, h)
		if log := h.log.String(); !strings.Contains(log, `the client is \"bob\"`) {
			t.Errorf("the log does not say who it was:\n%s", log)
		}
		if err := loginShowing(h, sessionPort, clients.issue("alice", nil), "secret"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		logins := events(t, dir, "event", "role", "auth_method", "certificate", "tls_version")
		if got, want := logins[len(logins)-1], "login alice scram-sha-256 CN=alice TLS 1.3"; got != want {
			t.Errorf("the audit log says %q, want %q", got, want)
		}
	})
}

func TestANewIdentMapCountsFromTheReloadOn(t *testing.T) {
	clients := newSigner(t)
	asking := clients.asksClients("required")
	synctest.Test(t, func(t *testing.T) {
		mapped := func(identity string) change {
			return func(c *config.Config, tenant *config.Tenant) {
				asking(c, tenant)
				tenant.Auth.Method, tenant.Auth.Map = config.AuthCert, "people"
				c.IdentMaps = []config.IdentLine{{Map: "people", Identity: identity, Role: "alice"}}
			}
		}
		h := newHarness(t, pgscript.Options{}, mapped("first"))
		first, second := clients.issue("first", nil), clients.issue("second", nil)
		for _, step := range []struct{ in, out *tls.Certificate }{{first, second}, {second, first}} {
			if err := loginShowing(h, transactionPort, step.in, ""); err != nil {
				t.Error(err)
			}
			if err := loginShowing(h, transactionPort, step.out, ""); err == nil {
				t.Error("let in by a map that does not count")
			}
			h.reload(mapped("second"))
		}
	})
}

func TestResumedSessionsKeepTheirIdentity(t *testing.T) {
	clients := newSigner(t)
	asking := clients.asksClients("required")
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
					asking(c, tenant)
					tenant.Auth.Method = config.AuthCert
				})
				var resumed []bool
				config := clientTLS()
				config.MaxVersion, config.ServerName, config.ClientSessionCache = version, "sluice.example", tls.NewLRUClientSessionCache(1)
				config.Certificates = []tls.Certificate{*clients.issue("alice", nil)}
				config.VerifyConnection = func(cs tls.ConnectionState) error {
					resumed = append(resumed, cs.DidResume)
					return nil
				}
				for i, user := range []string{"alice", "alice", "bob", "alice"} {
					c := h.connect(transactionPort)
					if err := c.StartTLS(config); err != nil {
						t.Fatal(err)
					}
					if err := c.Login(user, "app", ""); (err == nil) != (user == "alice") {
						t.Errorf("login %d as %s: %v", i, user, err)
					}
					_ = c.Close()
				}
				if fmt.Sprint(resumed) != "[false true true true]" {
					t.Errorf("resumed: %t, want all but the first", resumed)
				}
			})
		})
	}
}
