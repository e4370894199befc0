package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// named returns a certificate with one name of each kind, empty for none.
func named(t *testing.T, cn, dns, email, uri string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: cn}}
	if dns != "" {
		template.DNSNames = []string{"first.example", dns}
	}
	if email != "" {
		template.EmailAddresses = []string{"first@example.com", email}
	}
	if uri != "" {
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/first"}, parsed}
	}
	return selfSigned(t, template)
}

// selfSigned returns the certificate of a template, valid for an hour.
func selfSigned(t *testing.T, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestNamesOfCertificatesThatCount(t *testing.T) {
	t.Parallel()
	all := named(t, "cn-alice", "alice.example", "alice@example.com", "spiffe://example.com/alice")
	onlyCN := named(t, role, "", "", "")
	lines := []IdentLine{{"cn-alice", role}, {"alice.example", role}, {"alice@example.com", role}, {"/spiffe://example\\.com/(.*)", `\1`}}
	for _, tc := range []struct {
		about string
		names []CertName
		lines []IdentLine // nil: no map
		cert  *x509.Certificate
		err   error
	}{
		{"the common name by default", nil, nil, onlyCN, nil},
		{"the common name", []CertName{CommonName}, lines[:1], all, nil},
		{"a dns name behind another", []CertName{DNSName}, lines[1:2], all, nil},
		{"an email address", []CertName{EmailName}, lines[2:3], all, nil},
		{"a uri by a regular expression", []CertName{URIName}, lines[3:], all, nil},
		{"one of several kinds", []CertName{DNSName, URIName}, lines[3:], all, nil},
		{"a name of a kind that does not count", []CertName{DNSName, EmailName, URIName}, lines[:1], all, ErrIdentity},
		{"the common name does not count", []CertName{EmailName}, lines[1:2], all, ErrIdentity},
		{"a map lets nobody in as himself", []CertName{CommonName}, []IdentLine{{"other", role}}, onlyCN, ErrIdentity},
		{"without a map names are roles", []CertName{DNSName}, nil, all, ErrIdentity},
		{"a dns name that is the role", []CertName{DNSName}, nil, named(t, "x", role, "", ""), nil},
		{"no name of the kind", []CertName{URIName}, nil, onlyCN, ErrIdentity},
		{"several common names beside a good one", []CertName{CommonName, DNSName}, nil, clientCertificate(t, "a", "b"), ErrIdentity}, // its DNS name is the role
		{"a zero byte beside a good name", []CertName{DNSName, CommonName}, nil, clientCertificate(t, "a\x00b"), ErrIdentity},
	} {
		p := Params{Method: Cert, CertNames: tc.names}
		if tc.lines != nil {
			p.IdentMap = mustMap(t, tc.lines...)
		}
		a, err := New(p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Authenticate(t.Context(), nil, Peer{Role: role, TLS: true, Certificate: tc.cert})
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", tc.about, err, tc.err)
		}
		if _, err := a.Authenticate(t.Context(), nil, Peer{Role: "bob", TLS: true, Certificate: tc.cert}); err == nil {
			t.Errorf("%s: let in as another", tc.about)
		}
	}
}

func TestIdentMapHoldsForUsersOfSockets(t *testing.T) {
	t.Parallel()
	a, err := New(Params{Method: SocketUser, IdentMap: mustMap(t, IdentLine{"www-data", role})})
	wantErr(t, err, nil)
	for user, want := range map[string]error{"www-data": nil, role: ErrIdentity, "": ErrIdentity} {
		_, err := a.Authenticate(t.Context(), nil, Peer{Role: role, User: func() (string, error) { return user, nil }})
		wantErr(t, err, want)
	}
}

// countedStore is a Store that counts how often it is.
type countedStore struct {
	Store
	count int
}

func (s *countedStore) Lookup(ctx context.Context, name string) (Entry, error) {
	s.count++
	return s.Store.Lookup(ctx, name)
}

// Each rule beside each method: who has no certificate, or another's, is refused before the store is asked.
func TestCertificatesAreAskedForBesideTheMethod(t *testing.T) {
	t.Parallel()
	plain, hash, _ := stored(t)
	own, others := named(t, role, "", "", ""), named(t, "bob", "", "", "")
	for _, method := range []Method{Auto, Trust, Password, MD5, SCRAMSHA256} {
		for _, rule := range []CertRule{"", CertNone, CertVerifyCA, CertVerifyFull} {
			for name, peer := range map[string]Peer{
				"no TLS": {Role: role, Secure: true}, "no certificate": {Role: role, TLS: true},
				"another's": {Role: role, TLS: true, Certificate: others}, "its own": {Role: role, TLS: true, Certificate: own},
			} {
				text := plain
				if method == MD5 {
					text = hash
				}
				store := &countedStore{Store: fixed{entry: Entry{Secret: mustSecret(t, text)}}}
				a, err := New(Params{Method: method, Store: store, ClientCert: rule})
				wantErr(t, err, nil)
				want := error(nil)
				switch {
				case rule == "" || rule == CertNone:
				case name == "no TLS":
					want = ErrNeedsTLS
				case name == "no certificate":
					want = ErrNeedsCertificate
				case name == "another's" && rule == CertVerifyFull:
					want = ErrIdentity
				}
				about := fmt.Sprintf("%s, %q, %s", method, rule, name)
				store.count = 0
				o, _ := loginPeer(t, a, peer, password)
				if !errors.Is(o.err, want) || (want == nil) != (o.err == nil) {
					t.Errorf("%s: %v, want %v", about, o.err, want)
				}
				if asked := store.count > 0; asked != (want == nil) {
					t.Errorf("%s: the store was asked: %t", about, asked)
				}
				if want != nil || method == Trust {
					continue
				}
				if o, _ := loginPeer(t, a, peer, "wrong"); !errors.Is(o.err, ErrAuthFailed) {
					t.Errorf("%s, wrong password: %v", about, o.err) // the certificate is not instead of it
				}
			}
		}
	}
}

func TestUnknownRulesAndNamesAreRefused(t *testing.T) {
	t.Parallel()
	for _, p := range []Params{{Method: Cert, ClientCert: "maybe"}, {Method: Cert, CertNames: []CertName{CommonName, "dn"}}} {
		if _, err := New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}
