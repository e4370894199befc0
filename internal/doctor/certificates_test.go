package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/throwawaypg"
)

// issuer signs certificates for tests.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// newIssuer returns an authority, signed by itself if parent is nil.
func newIssuer(t *testing.T, name string, parent *issuer) *issuer {
	t.Helper()
	a := &issuer{t: t}
	signer := parent
	if signer == nil {
		signer = a
	}
	a.pem, a.key = signer.sign(name, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, a)
	block, _ := pem.Decode(a.pem)
	var err error
	a.cert, err = x509.ParseCertificate(block.Bytes)
	must(t, err)
	return a
}

// sign returns a certificate for localhost, changed by edit, and its key. a is who is made, if that is an authority.
func (a *issuer) sign(name string, edit func(*x509.Certificate), made *issuer) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
	}
	edit(template)
	parent, signer := a.cert, a.key
	if made == a {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// leaf returns a server's certificate and key in PEM.
func (a *issuer) leaf(name string, edit func(*x509.Certificate)) (certPEM, keyPEM []byte) {
	a.t.Helper()
	certPEM, key := a.sign(name, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		if edit != nil {
			edit(c)
		}
	}, nil)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// file writes a file that ends with the test.
func file(t *testing.T, name string, parts ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	must(t, os.WriteFile(path, all, 0o600))
	return path
}

// secure is TLS towards clients, who may show certificates.
func secure(t *testing.T) string {
	t.Helper()
	a := newIssuer(t, "authority", nil)
	cert, key := a.leaf("sluice", nil)
	return fmt.Sprintf("tls: {cert_file: %q, key_file: %q, client_cert: optional, client_ca_file: %q}\n", file(t, "tls.crt", cert), file(t, "tls.key", key), file(t, "ca.pem", a.pem))
}

// unixListener is a listener on a port and one on a Unix socket.
func unixListener(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("listeners: [{name: session, address: \"127.0.0.1:5432\", mode: session}, {name: local, address: %q, mode: session}]\n",
		filepath.Join("/nowhere", ".s.PGSQL.5432"))
}

func TestOwnCertificatesAreExplained(t *testing.T) {
	t.Parallel()
	pg := throwawaypg.MustStart(t, throwawaypg.Options{})
	root := newIssuer(t, "root", nil)
	between := newIssuer(t, "between", root)
	other := newIssuer(t, "other", nil)
	for _, c := range []struct {
		name  string
		edit  func(*x509.Certificate)
		chain [][]byte
		want  string
	}{
		{"complete", nil, [][]byte{between.pem, root.pem}, `^ok: .*the chain ends at CN=root, which has signed itself`},
		{"complete but for the root", nil, [][]byte{between.pem}, `^warning: .*the chain ends at what CN=root has signed, which this system does not know`},
		{"nothing behind the leaf, which says where it is", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://example.com/between.crt"} }, nil,
			`^problem: .*the chain is not complete: CN=between has signed it.* > append the certificate of CN=between: http://example.com/between.crt`},
		{"another's behind the leaf", nil, [][]byte{other.pem}, `^problem: .*certificate 2, CN=other, has not signed the one before it, CN=sluice`},
		{"the key and the names", nil, [][]byte{between.pem}, `^ok: .*: for localhost, 127.0.0.1, the key fits`},
		{"no names", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }, [][]byte{between.pem}, `^warning: .*names no host`},
		{"not for servers", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, [][]byte{between.pem}, `^problem: .*is not for servers`},
		{"days left", nil, [][]byte{between.pem}, `^ok: .*CN=sluice expires in 99 days, on `},
		{"soon", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10*24*time.Hour + time.Hour) }, [][]byte{between.pem}, `^warning: .*CN=sluice expires in 10 days, on .* > replace it`},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, [][]byte{between.pem}, `^problem: .*CN=sluice has expired on`},
		{"not yet", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, [][]byte{between.pem}, `^problem: .*CN=sluice is not valid before`},
	} {
		cert, key := between.leaf("sluice", c.edit)
		top := fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", file(t, "tls.crt", append([][]byte{cert}, c.chain...)...), file(t, "tls.key", key))
		r, _ := examined(t, configuration(t, pg, top, "auth: {method: trust}", ""))
		before := t.Failed()
		wantFinding(t, r, "TLS towards clients", c.want)
		if t.Failed() && !before {
			t.Log(c.name)
		}
	}
	r, _ := examined(t, configuration(t, pg, "", "auth: {method: trust}", ""))
	wantFinding(t, r, "TLS towards clients", `^warning: clients are offered no TLS`)
	r, _ = examined(t, configuration(t, pg, secure(t), "auth: {method: trust}", ""))
	wantFinding(t, r, "TLS towards clients", `^ok: .*ca.pem: CN=authority expires in`)
}

func TestConnectionToPostgresIsExplained(t *testing.T) {
	t.Parallel()
	root := newIssuer(t, "root", nil)
	ca, foreign := file(t, "ca.pem", root.pem), file(t, "ca.pem", newIssuer(t, "foreign", nil).pem)
	start := func(edit func(*x509.Certificate)) *throwawaypg.Cluster {
		cert, key := root.leaf("postgres", edit)
		return throwawaypg.MustStart(t, throwawaypg.Options{TLS: &throwawaypg.TLS{Cert: cert, Key: key}})
	}
	plain, fine := throwawaypg.MustStart(t, throwawaypg.Options{}), start(nil)
	expired := start(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	elsewhere := start(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"db.example"}, nil })
	for _, c := range []struct {
		name    string
		pg      *throwawaypg.Cluster
		backend string
		want    string
	}{
		{"no TLS", plain, "tls_mode: disable", `^ok: .*without TLS, on this machine`},
		{"none offered", plain, "tls_mode: prefer", `^ok: .*without TLS, on this machine`},
		{"none offered, but needed", plain, "tls_mode: require", `^problem: .*tls_mode require needs TLS, and the server does not offer it > have PostgreSQL offer TLS`},
		{"verified", fine, "tls_mode: verify-full, ca_file: CA", `^ok: .*TLS 1.3, TLS_.*; the certificate is verified, and its name`},
		{"days left", fine, "tls_mode: verify-full, ca_file: CA", `^ok: .*CN=postgres expires in 99 days`},
		{"verified but for the name", fine, "tls_mode: verify-ca, ca_file: CA", `^warning: .*but not its name`},
		{"not verified", fine, "tls_mode: prefer", `^ok: .*the certificate is not verified, on this machine`},
		{"another authority", fine, "tls_mode: verify-full, ca_file: FOREIGN", `^problem: .*signed by an authority that is not in backend.ca_file.* > put the authority's certificate, CN=root`},
		{"no authority", fine, "tls_mode: verify-full", `^problem: .*signed by an authority`},
		{"expired", expired, "tls_mode: verify-full, ca_file: CA", `^problem: .*PostgreSQL's certificate, or one that it hangs on, is not valid now`},
		{"expired, and nobody looks", expired, "tls_mode: require", `^problem: .*CN=postgres has expired on`},
		{"another name", elsewhere, "tls_mode: verify-full, ca_file: CA", `^problem: .*certificate is for another name: .* > set backend.server_name`},
		{"the name it is called by", elsewhere, "tls_mode: verify-full, ca_file: CA, server_name: db.example", `^ok: .*verified, and its name`},
	} {
		backend := strings.NewReplacer("FOREIGN", foreign, "CA", ca).Replace(c.backend)
		tenant := fmt.Sprintf("backend: {host: 127.0.0.1, port: %d, %s}\nauth: {method: trust}", c.pg.Port(), backend)
		r, _ := examined(t, configuration(t, c.pg, "", tenant, ""))
		before := t.Failed()
		wantFinding(t, r, ": connection to PostgreSQL", c.want)
		if t.Failed() && !before {
			t.Log(c.name)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that nobody else takes, and no Postgres
	must(t, err)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_ = nc.Close()
		}
	}()
	defer ln.Close()
	tenant := fmt.Sprintf("backend: {host: 127.0.0.1, port: %d, tls_mode: prefer}\nauth: {method: trust}", ln.Addr().(*net.TCPAddr).Port)
	r, _ := examined(t, configuration(t, plain, "", tenant, ""))
	wantFinding(t, r, ": connection to PostgreSQL", `^problem: .*cannot be reached: .* > see that PostgreSQL runs there`)
	if len(r.Blocks) != 2 {
		t.Errorf("%d blocks, want no more after a Postgres that is not there", len(r.Blocks))
	}
}
