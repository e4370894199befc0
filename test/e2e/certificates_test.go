package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/internal/throwawaypg"
	"sluice/internal/wire"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	file string // of its certificate
}

// pair is a certificate with its key, in files.
type pair struct{ cert, key string }

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return authorityWith(t, key)
}

func authorityWith(t *testing.T, key crypto.Signer) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), key: key}
	template := a.template("authority")
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

// issue signs a certificate whose common name is name; it is for localhost as well.
func (a *authority) issue(name string) pair {
	a.t.Helper()
	return a.issueWith(name, func(*x509.Certificate) {})
}

// issueWith is issue of a certificate that is changed by edit.
func (a *authority) issueWith(name string, edit func(*x509.Certificate)) pair {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := a.template(name)
	edit(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	return pair{a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", private)}
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	must(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (p pair) load(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	must(t, err)
	return cert
}

// tlsCluster starts a Postgres that offers TLS with a certificate of a, and takes certificates of clients that a has signed.
func tlsCluster(t *testing.T, a *authority, hba ...string) *throwawaypg.Cluster {
	t.Helper()
	server := a.issue("postgres.example")
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		must(t, err)
		return data
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := throwawaypg.Start(ctx, throwawaypg.Options{
		HBA: hba, TLS: &throwawaypg.TLS{Cert: read(server.cert), Key: read(server.key), ClientCA: read(a.file)},
	})
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	must(t, pg.Exec(ctx, `CREATE ROLE alice LOGIN PASSWORD 'alice-secret'`, `CREATE ROLE bob LOGIN PASSWORD 'bob-secret'`,
		`CREATE ROLE service LOGIN SUPERUSER PASSWORD 'service-secret'`, `CREATE DATABASE app OWNER alice`))
	return pg
}

// middle is somebody in the middle: it takes TLS with a certificate of its own, makes TLS of its own to target, and passes on
// what is said. Either side may be direct.
type middle struct {
	t      *testing.T
	target string
	config *tls.Config
	direct bool // takes TLS at once; and goes on without
}

// listen returns the port that the middle listens on until the end of the test.
func (m *middle) listen() int {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(m.t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			wg.Go(func() { m.serve(nc) })
		}
	})
	m.t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, nc := range open {
			_ = nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().(*net.TCPAddr).Port
}

func (m *middle) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", m.target)
	if err != nil {
		return
	}
	defer server.Close()
	front, back := net.Conn(nil), server
	if m.direct {
		front = tls.Server(client, m.config)
	} else {
		if r, err := wire.ReadRequest(client); err != nil || r.Kind != wire.SSLRequest {
			return
		}
		_, _ = client.Write([]byte("S"))
		_, _ = server.Write(wire.AppendSSLRequest(nil))
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			return
		}
		front, back = tls.Server(client, m.config), tls.Client(server, &tls.Config{InsecureSkipVerify: true})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(back, front)
		_ = server.Close()
	}()
	_, _ = io.Copy(front, back)
	_ = client.Close()
	<-done
}
