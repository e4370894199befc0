package tlsconf

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"
)

// rsaPair returns a self-signed certificate with a key of another kind than issue's.
func rsaPair(t *testing.T) issued {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	mustDo(t, err)
	template := template("rsa", time.Hour)
	template.DNSNames = []string{"a"}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	mustDo(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	mustDo(t, err)
	return save(t, t.TempDir(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// strong reports whether a suite of TLS 1.2 has forward secrecy and authenticated encryption.
func strong(suite uint16) bool {
	name := tls.CipherSuiteName(suite)
	return strings.HasPrefix(name, "TLS_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_POLY1305"))
}

// allSuites returns every suite of TLS 1.2 that crypto/tls knows.
func allSuites() (all []uint16) {
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			all = append(all, suite.ID)
		}
	}
	return all
}

// Each suite by itself against what we serve, and against what we connect with.
func TestOnlyStrongSuitesAreAgreedOn(t *testing.T) {
	t.Parallel()
	elliptic, other := newAuthority(t, "ca", nil, time.Hour).issue(t, "a", nil), rsaPair(t)
	s := mustServer(t, ServerParams{CertFile: elliptic.CertFile, KeyFile: elliptic.KeyFile, Certificates: []KeyPair{other.KeyPair}})
	backend, err := Backend(BackendParams{Mode: ModeRequire}, "a")
	mustDo(t, err)
	certificates := []tls.Certificate{elliptic.certificate(t), other.certificate(t)}
	agreed := 0
	for _, suite := range allSuites() {
		only := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}, Certificates: certificates, NextProtos: []string{ALPN}}
		for which, side := range map[string]func() side{
			"ssl request":      func() side { server, _ := handshake(t, s.Config(), only); return server },
			"direct":           func() side { server, _ := handshake(t, s.DirectConfig(), only); return server },
			"towards Postgres": func() side { _, client := handshake(t, only, backend); return client },
		} {
			got := side()
			if (got.err == nil) != strong(suite) {
				t.Errorf("%s, %s: %v", which, tls.CipherSuiteName(suite), got.err)
			}
			if got.err == nil {
				agreed++
			}
		}
	}
	if agreed != 3*6 {
		t.Errorf("%d handshakes succeeded, want 18", agreed)
	}
}

func TestOldVersionsAreRefusedTowardsPostgres(t *testing.T) {
	t.Parallel()
	cert := newAuthority(t, "ca", nil, time.Hour).issue(t, "a", nil)
	backend, err := Backend(BackendParams{Mode: ModePrefer}, "a")
	mustDo(t, err)
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		server := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version, Certificates: []tls.Certificate{cert.certificate(t)}}
		if _, client := handshake(t, server, backend); (client.err == nil) != want {
			t.Errorf("%s: %v, want connected %t", tls.VersionName(version), client.err, want)
		}
	}
}

func TestCurvesAreThoseThatAreConfigured(t *testing.T) {
	t.Parallel()
	cert := newAuthority(t, "ca", nil, time.Hour).issue(t, "a", nil)
	all := map[Curve]tls.CurveID{
		CurveX25519: tls.X25519, CurveP256: tls.CurveP256, CurveP384: tls.CurveP384, CurveP521: tls.CurveP521,
		CurveX25519MLKEM768: tls.X25519MLKEM768, CurveSecP256r1MLKEM768: tls.SecP256r1MLKEM768, CurveSecP384r1MLKEM1024: tls.SecP384r1MLKEM1024,
	}
	for _, configured := range [][]Curve{nil, {CurveP384}, {CurveX25519, CurveP521}, {CurveX25519MLKEM768, CurveX25519}, {CurveSecP256r1MLKEM768}, {CurveSecP384r1MLKEM1024, CurveP256}} {
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, Curves: configured})
		for name, id := range all {
			for which, config := range map[string]*tls.Config{"ssl request": s.Config(), "direct": s.DirectConfig()} {
				client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ALPN}, CurvePreferences: []tls.CurveID{id}}
				server, _ := handshake(t, config, client)
				want := configured == nil || slices.Contains(configured, name)
				if (server.err == nil) != want || want && server.state.CurveID != id {
					t.Errorf("%s, curves %v, client %s: %v with %v, want agreed %t", which, configured, name, server.err, server.state.CurveID, want)
				}
			}
		}
	}
}
