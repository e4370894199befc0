package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSelfSignedIsValidForAMonth(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	certPEM, keyPEM, err := SelfSigned([]string{"localhost", "127.0.0.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	for _, test := range []struct {
		at   time.Time
		want bool
	}{
		{now.Add(-61 * time.Minute), false},
		{now.Add(-59 * time.Minute), true},
		{now.Add(29 * 24 * time.Hour), true},
		{now.Add(31 * 24 * time.Hour), false},
	} {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: test.at})
			if (err == nil) != test.want {
				t.Errorf("%s at %v: got %v, want valid %t", host, test.at, err, test.want)
			}
		}
	}
	if _, _, err := SelfSigned(nil, now); err == nil {
		t.Error("no host: got no error")
	}
}

func TestFilesHaveABound(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "large.pem")
	writeFile(t, file, nil)
	if err := os.Truncate(file, maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	var r reader
	if _, err := r.read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
}

func TestDigestTellsFilesApart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	digest := func(contents ...string) [32]byte {
		var r reader
		for _, content := range contents {
			if _, err := r.read(writeFile(t, filepath.Join(folder, "f"), []byte(content))); err != nil {
				t.Fatal(err)
			}
		}
		return r.sum
	}
	if digest("ab", "c") != digest("ab", "c") {
		t.Error("the same files have different digests")
	}
	for _, other := range [][]string{{"a", "bc"}, {"abc"}, {"c", "ab"}, {"ab", "c", ""}, {"ab"}} {
		if digest("ab", "c") == digest(other...) {
			t.Errorf("%q has the digest of [ab c]", other)
		}
	}
}

func FuzzParseAuthorities(f *testing.F) {
	ca := newAuthority(f, "ca", nil, time.Hour)
	f.Add(ca.pem)
	f.Add(append(append([]byte("comment\n"), ca.pem...), ca.pem...))
	f.Add(ca.pem[:len(ca.pem)/2])
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no certificate")}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ca.cert.Raw}))
	f.Fuzz(func(t *testing.T, data []byte) {
		certificates, err := parseAuthorities(data)
		if (len(certificates) == 0) == (err == nil) {
			t.Fatalf("got (%v, %v), want either certificates or an error", certificates, err)
		}
		again, err := parseAuthorities(encode(certificates))
		if len(again) != len(certificates) || (err == nil) != (len(certificates) > 0) {
			t.Errorf("%d certificates are written as %d, %v", len(certificates), len(again), err)
		}
		err = nil
		if len(certificates) == 0 {
			err = os.ErrInvalid
		}
		if lax := x509.NewCertPool(); err == nil && !lax.AppendCertsFromPEM(data) {
			t.Error("accepted what crypto/x509 finds no certificate in")
		}
	})
}
