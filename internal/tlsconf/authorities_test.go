package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withChain writes cert with the authorities behind it.
func (i issued) withChain(t *testing.T, authorities ...*authority) issued {
	t.Helper()
	chain := i.certPEM
	for _, a := range authorities {
		chain = append(bytes.Clone(chain), a.pem...)
	}
	return save(t, t.TempDir(), chain, i.keyPEM)
}

func TestAuthoritiesAreWhatClientsNeed(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil, time.Hour)
	other := newAuthority(t, "other", nil, time.Hour)
	between := newAuthority(t, "between", root, time.Hour)
	selfPEM, selfKey, err := SelfSigned([]string{"self.example"}, time.Now())
	mustDo(t, err)
	self := save(t, t.TempDir(), selfPEM, selfKey)
	leaf := between.issue(t, "a.example", nil)
	whole := leaf.withChain(t, between, root)
	key := writeFile(t, filepath.Join(t.TempDir(), "both.pem"), append(bytes.Clone(whole.keyPEM), root.pem...)) // somebody's mistake
	for _, tc := range []struct {
		name string
		p    ServerParams
		want []byte // nil: not known
	}{
		{"no TLS", ServerParams{}, nil},
		{"no TLS, but a file", ServerParams{CAFile: root.file(t)}, nil},
		{"signed by itself", ServerParams{CertFile: self.CertFile, KeyFile: self.KeyFile}, selfPEM},
		{"a chain up to its root", ServerParams{CertFile: whole.CertFile, KeyFile: whole.KeyFile}, root.pem},
		{"a chain without its root", ServerParams{CertFile: leaf.withChain(t, between).CertFile, KeyFile: leaf.KeyFile}, nil},
		{"a leaf alone", ServerParams{CertFile: leaf.CertFile, KeyFile: leaf.KeyFile}, nil},
		{"a file", ServerParams{CertFile: leaf.CertFile, KeyFile: leaf.KeyFile, CAFile: root.file(t)}, root.pem},
		{"a file before the chain", ServerParams{CertFile: whole.CertFile, KeyFile: whole.KeyFile, CAFile: other.file(t)}, other.pem},
		{"a file that holds a key too", ServerParams{CertFile: leaf.CertFile, KeyFile: leaf.KeyFile, CAFile: key}, root.pem},
		{"two chains of one root, and one that knows none", ServerParams{CertFile: whole.CertFile, KeyFile: whole.KeyFile,
			Certificates: []KeyPair{root.issue(t, "b", nil).withChain(t, root).KeyPair, leaf.KeyPair, self.KeyPair}}, append(bytes.Clone(root.pem), selfPEM...)},
	} {
		got := mustServer(t, tc.p).Authorities()
		if !bytes.Equal(got, tc.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
		if bytes.Contains(got, []byte("PRIVATE")) {
			t.Errorf("%s: a private key is in it", tc.name)
		}
	}
}

func TestAuthoritiesVerifyWhatIsServed(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil, time.Hour)
	cert := root.issue(t, "a.example", nil).withChain(t, root)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	pool, err := Pool(writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), s.Authorities()))
	mustDo(t, err)
	if _, client := handshake(t, s.Config(), &tls.Config{RootCAs: pool, ServerName: "a.example"}); client.err != nil {
		t.Error(client.err)
	}
	if _, err := Pool(cert.KeyFile); err == nil || !strings.Contains(err.Error(), cert.KeyFile) {
		t.Errorf("a file without certificates: %v", err)
	}
}

func TestAuthoritiesAreReadAgain(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t, "first", nil, time.Hour), newAuthority(t, "second", nil, time.Hour)
	cert, file := first.issue(t, "a", nil), first.file(t)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, CAFile: file})
	writeFile(t, file, []byte("nothing"))
	if err := s.Reload(); err == nil || !bytes.Equal(s.Authorities(), first.pem) {
		t.Errorf("a file that holds none: %v", err)
	}
	if got := s.Warnings(time.Now()); len(got) > 0 {
		t.Errorf("warnings: %v", got)
	}
	writeFile(t, file, second.pem)
	mustDo(t, s.Reload())
	if !bytes.Equal(s.Authorities(), second.pem) {
		t.Error("the file was not read again")
	}
	if got := s.Warnings(time.Now()); len(got) != 1 || !strings.Contains(got[0].Error(), cert.CertFile) || !strings.Contains(got[0].Error(), file) {
		t.Errorf("an authority that has not signed the certificate: %v", got)
	}
}

func TestCertificatesThatEndSoonAreWarnedOf(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Now()
	valid := func(before, after time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-before), now.Add(after) }
	}
	ca := newAuthority(t, "ca", nil, 3000*day)
	for _, tc := range []struct {
		name          string
		before, after time.Duration
		warned        bool
	}{
		{"a year, a month left", 365*day - 31*day, 31 * day, false},
		{"a year, less left", 365*day - 29*day, 29 * day, true},
		{"90 days, 16 left", 74 * day, 16 * day, false},
		{"90 days, 14 left", 76 * day, 14 * day, true},
		{"a day, 5 hours left", 19 * time.Hour, 5 * time.Hour, false},
		{"a day, 3 hours left", 21 * time.Hour, 3 * time.Hour, true},
		{"new", time.Minute, 365 * day, false},
	} {
		cert := ca.issue(t, "a", valid(tc.before, tc.after))
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
		got := s.Warnings(now)
		var soon *ExpiryError
		if (len(got) == 1) != tc.warned || tc.warned && (!errors.As(got[0], &soon) || soon.File != cert.CertFile || !strings.Contains(got[0].Error(), "ends soon")) {
			t.Errorf("%s: %v, want a warning: %t", tc.name, got, tc.warned)
		}
	}
}

func TestChainsAndAuthoritiesAreWarnedOfToo(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	root := newAuthority(t, "root", nil, 3000*day)
	between := newAuthority(t, "between", root, 2*day)
	old, fresh := newAuthority(t, "old", nil, day), newAuthority(t, "fresh", nil, 1000*day)
	cert := between.issue(t, "a", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(500 * day) }).withChain(t, between)
	both := writeFile(t, filepath.Join(t.TempDir(), "both.pem"), append(bytes.Clone(old.pem), fresh.pem...))
	for clientCA, wantAfter := range map[string][]string{old.file(t): {cert.CertFile, "ca.pem"}, both: {cert.CertFile}} {
		wantOutdated := map[bool]int{false: 0, true: 1}[clientCA == both]
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCert: ClientCertOptional, ClientCAFile: clientCA})
		if got := s.Expiry(); !got.Equal(between.cert.NotAfter) {
			t.Errorf("Expiry: %v, want that of the chain, %v", got, between.cert.NotAfter)
		}
		got := s.Warnings(time.Now().Add(3 * day))
		if len(got) != len(wantAfter) {
			t.Fatalf("warnings %v, want %d", got, len(wantAfter))
		}
		for i, file := range wantAfter {
			if !strings.Contains(got[i].Error(), file) || !errors.As(got[i], new(*ValidityError)) {
				t.Errorf("warning %v, want it to name %s", got[i], file)
			}
		}
		if got := s.Outdated(time.Now()); len(got) != 0 {
			t.Errorf("outdated now: %v, want none", got)
		}
		got = s.Outdated(time.Now().Add(3 * day))
		if len(got) != wantOutdated {
			t.Fatalf("outdated: %v, want %d", got, wantOutdated)
		}
		for _, err := range got {
			until := old.cert.NotAfter.UTC().Format(time.RFC3339)
			if text := err.Error(); !strings.Contains(text, `"CN=old" in `+both) || !strings.HasSuffix(text, " to "+until) {
				t.Errorf("outdated: %s, want it to name the old authority, its file and its end %s", text, until)
			}
		}
	}
}

func TestBackendsReadTheirFilesAgain(t *testing.T) {
	t.Parallel()
	ca, next := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "next", nil, time.Hour)
	own, renewed := ca.issue(t, "first", nil), ca.issue(t, "second", nil)
	caFile := ca.file(t)
	b, err := NewBackends(BackendParams{Mode: ModeVerifyFull, CAFile: caFile, CertFile: own.CertFile, KeyFile: own.KeyFile},
		[]string{"a.example", "b.example", "/run/postgresql"})
	mustDo(t, err)
	if b.Config("/run/postgresql") != nil || b.Config("a.example") == nil || b.Config("c.example") != nil {
		t.Error("not every host has what is its own")
	}
	connect := func(by *authority, host string) (string, error) {
		server := &tls.Config{Certificates: []tls.Certificate{by.issue(t, host, nil).certificate(t)}, ClientAuth: tls.RequireAnyClientCert}
		got, client := handshake(t, server, b.Config(host))
		if client.err != nil {
			return "", client.err
		}
		return got.state.PeerCertificates[0].Subject.CommonName, nil
	}
	want := func(by *authority, name string) {
		t.Helper()
		for _, host := range []string{"a.example", "b.example"} {
			if got, err := connect(by, host); got != name || (err == nil) != (name != "") {
				t.Errorf("%s: shown as %q, %v, want %q", host, got, err, name)
			}
		}
	}
	want(ca, "first")
	want(next, "")
	before := b.Config("a.example")
	mustDo(t, b.Reload())
	if b.Config("a.example") != before {
		t.Error("a reload of the same files replaced the configuration, and with it the sessions that it remembers")
	}
	writeFile(t, own.CertFile, renewed.certPEM) // half of a pair
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), own.CertFile) {
		t.Errorf("half a pair: %v", err)
	}
	want(ca, "first")
	writeFile(t, own.KeyFile, renewed.keyPEM)
	writeFile(t, caFile, next.pem)
	mustDo(t, b.Reload())
	want(next, "second")
	want(ca, "")
	if got := b.Expiry(); !got.Equal(renewed.certificate(t).Leaf.NotAfter) {
		t.Errorf("Expiry: %v", got)
	}
}
