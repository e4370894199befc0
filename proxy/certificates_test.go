package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// files writes a certificate and its key.
func (s *signer) files(cert *tls.Certificate) (certFile, keyFile string) {
	s.t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// showing has Sluice show one certificate to clients, and another one to Postgres.
func showing(cert, key, own, ownKey string) change {
	return func(c *config.Config, tenant *config.Tenant) {
		c.TLS.CertFile, c.TLS.KeyFile = cert, key
		tenant.Backend.TLSMode, tenant.Backend.CertFile, tenant.Backend.KeyFile = config.TLSPrefer, own, ownKey
	}
}

func TestCertificatesThatEndAreWarnedOf(t *testing.T) {
	authority := newSigner(t)
	ends := bubbleEpoch.Add(6*time.Hour + 30*time.Minute)
	short := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = bubbleEpoch, ends } // warned of 65 minutes before
	cert, key := authority.files(authority.issue("sluice", short))
	own, ownKey := authority.files(authority.issue("sluice", short))
	synctest.Test(t, func(t *testing.T) {
		secured := showing(cert, key, own, ownKey)
		h := newHarness(t, pgscript.Options{}, secured)
		said := func(want int, texts ...string) {
			t.Helper()
			for _, text := range texts {
				if n := strings.Count(h.log.String(), text); n != want {
					t.Errorf("at %s the log has %q %d times, want %d", time.Now(), text, n, want)
				}
			}
		}
		towards := []string{fmt.Sprintf("msg=certificate error=\"certificate %s ", cert), fmt.Sprintf("msg=\"certificate towards postgres\" tenant=default error=\"certificate %s ", own)}
		soon := []string{towards[0] + "ends soon", towards[1] + "ends soon"}
		ended := []string{towards[0] + "is valid only", towards[1] + "is valid only"}
		time.Sleep(5*time.Hour + time.Minute)
		said(0, soon...)
		time.Sleep(time.Hour)
		said(1, soon...)
		said(0, ended...)
		h.reload(secured)
		said(1, soon...) // it was said already
		time.Sleep(time.Hour)
		said(1, soon...)
		said(1, ended...)
		for _, metric := range []string{"sluice_certificate_expiry_timestamp_seconds", `sluice_backend_certificate_expiry_timestamp_seconds{tenant="default"}`} {
			wantMetric(t, h, fmt.Sprintf("%s %v", metric, float64(ends.Unix())))
		}
		time.Sleep(24 * time.Hour)
		said(1, soon...)
		said(2, ended...) // once a day
	})
}

func TestReloadThatFailsLeavesTheCertificates(t *testing.T) {
	authority := newSigner(t)
	cert, key := authority.files(authority.issue("old", nil))
	own, ownKey := authority.files(authority.issue("own", nil))
	put := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	newCert, newKey := authority.files(authority.issue("new", nil))
	synctest.Test(t, func(t *testing.T) {
		secured := showing(cert, key, own, ownKey)
		h := newHarness(t, pgscript.Options{}, secured)
		shows := func(want string) {
			t.Helper()
			tc, err := h.direct(sessionPort, clientTLS("postgresql"))
			if err != nil {
				t.Fatal(err)
			}
			if got := tc.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
				t.Errorf("clients are shown the certificate %q, want %q", got, want)
			}
			_ = tc.Close()
		}
		put(newCert, cert)
		put(newKey, key)
		keep := filepath.Join(filepath.Dir(ownKey), "keep.pem")
		put(ownKey, keep)
		put(newKey, ownKey) // which is not own's
		if err := h.srv.Reload(settings(secured)); err == nil || !strings.Contains(err.Error(), "tenants[0].backend: cert_file "+own) {
			t.Errorf("Reload = %v, want an error about the key of %s", err, own)
		}
		shows("old")
		put(keep, ownKey)
		audit := func(c *config.Config, tenant *config.Tenant) {
			secured(c, tenant)
			c.Log.Audit = filepath.Dir(cert) // a folder
		}
		if err := h.srv.Reload(settings(audit)); err == nil || !strings.Contains(err.Error(), "log.audit") {
			t.Errorf("Reload = %v, want an error about log.audit", err)
		}
		shows("old")
		h.reload(secured)
		shows("new")
	})
}
