package tlsconf

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"
)

func TestResumedSessionIsToldOfTheCertificateThatTheFirstWasShown(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	first, second := ca.issue(t, "first.example", nil), ca.issue(t, "second.example", nil)
	s := mustServer(t, ServerParams{CertFile: first.CertFile, KeyFile: first.KeyFile, Certificates: []KeyPair{second.KeyPair}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"first.example", "second.example"} {
			client := &tls.Config{InsecureSkipVerify: true, ServerName: name, MaxVersion: version, NextProtos: []string{ALPN},
				ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			for _, resumed := range []bool{false, true} {
				server, peer := handshake(t, s.DirectConfig(), client)
				if server.err != nil || server.state.DidResume != resumed {
					t.Fatalf("%s: resumed %t, %v, want resumed %t", name, server.state.DidResume, server.err, resumed)
				}
				if got := peer.state.PeerCertificates[0].Subject.CommonName; got != name || server.noted != name {
					t.Errorf("%s, resumed %t: the client has certificate %q, the server was told of %q", name, resumed, got, server.noted)
				}
			}
		}
	}
}

func TestCertificateSuitsTheClientsAlgorithms(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	mustDo(t, err)
	elliptic := newAuthority(t, "ca", nil, time.Hour).issue(t, "server.example", func(c *x509.Certificate) { c.Subject.CommonName = "ecdsa" })
	old := template("rsa", time.Hour)
	old.DNSNames = []string{"server.example"}
	der, err := x509.CreateCertificate(rand.Reader, old, old, key.Public(), key)
	mustDo(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	mustDo(t, err)
	other := save(t, t.TempDir(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	s := mustServer(t, ServerParams{CertFile: elliptic.CertFile, KeyFile: elliptic.KeyFile, Certificates: []KeyPair{other.KeyPair}})
	for suite, want := range map[uint16]string{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ecdsa", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "rsa",
	} {
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "server.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
		server, peer := handshake(t, s.Config(), client)
		if server.err != nil {
			t.Fatalf("%s: %v", want, server.err)
		}
		_, isECDSA := peer.state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
		if isECDSA != (want == "ecdsa") || server.noted != want {
			t.Errorf("a client of %s was shown an ECDSA key: %t, told of %q", want, isECDSA, server.noted)
		}
	}
}

func TestTicketsEndWithTheConfigurationThatIssuedThem(t *testing.T) {
	t.Parallel()
	ca, next := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "next", nil, time.Hour)
	cert, renewed := ca.issue(t, "server", nil), ca.issue(t, "server", nil)
	for name, change := range map[string]func(clientCA string){
		"authority of clients": func(clientCA string) { mustDo(t, os.WriteFile(clientCA, append(ca.pem, next.pem...), 0o600)) },
		"certificate": func(string) {
			mustDo(t, os.WriteFile(cert.CertFile, renewed.certPEM, 0o600))
			mustDo(t, os.WriteFile(cert.KeyFile, renewed.keyPEM, 0o600))
		},
	} {
		clientCA := ca.file(t)
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCert: ClientCertRequired, ClientCAFile: clientCA})
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "server", ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{ca.issue(t, "alice", nil).certificate(t)}}
		resumes := func() bool {
			server, _ := handshake(t, s.Config(), client)
			if server.err != nil {
				t.Fatalf("%s: %v", name, server.err)
			}
			return server.state.DidResume
		}
		if resumes() || !resumes() {
			t.Fatalf("%s: tickets do not work", name)
		}
		mustDo(t, s.Reload())
		if !resumes() {
			t.Errorf("%s: tickets ended with a reload that changed nothing", name)
		}
		change(clientCA)
		mustDo(t, s.Reload())
		if resumes() {
			t.Errorf("%s: its change left an old ticket valid", name)
		}
	}
}
