package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// issued is a certificate with its key, and the files that hold them.
type issued struct {
	KeyPair
	certPEM, keyPEM []byte
}

// newAuthority makes an authority that is valid for lifetime, signed by parent or, if that is nil, by itself.
func newAuthority(t testing.TB, name string, parent *authority, lifetime time.Duration) *authority {
	t.Helper()
	key := newKey(t)
	template := template(name, lifetime)
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	certPEM, _, err := sign(template, signer, key, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: certPEM}
}

// file writes the authority's certificate to a file.
func (a *authority) file(t testing.TB) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem)
}

// issue signs a certificate for common name name, changed by edit, and writes it and its key to files.
func (a *authority) issue(t testing.TB, name string, edit func(*x509.Certificate)) issued {
	t.Helper()
	key := newKey(t)
	template := template(name, 24*time.Hour)
	template.DNSNames = []string{name}
	if edit != nil {
		edit(template)
	}
	certPEM, keyPEM, err := sign(template, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, t.TempDir(), certPEM, keyPEM)
}

func template(name string, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(lifetime),
		BasicConstraintsValid: true,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func save(t testing.TB, folder string, certPEM, keyPEM []byte) issued {
	t.Helper()
	return issued{
		KeyPair: KeyPair{
			CertFile: writeFile(t, filepath.Join(folder, "tls.crt"), certPEM),
			KeyFile:  writeFile(t, filepath.Join(folder, "tls.key"), keyPEM),
		},
		certPEM: certPEM, keyPEM: keyPEM,
	}
}

func writeFile(t testing.TB, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (i issued) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(i.certPEM, i.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func mustServer(t testing.TB, p ServerParams) *Server {
	t.Helper()
	s, err := NewServer(p)
	if err != nil {
		t.Fatalf("NewServer(%+v): %v", p, err)
	}
	return s
}
