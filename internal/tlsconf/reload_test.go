package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTicketsEndWithTheirConfiguration(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	cert := ca.issue(t, "server", nil)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "server", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		NextProtos: []string{ALPN}}
	step := func(name string, config *tls.Config, resumed bool) {
		t.Helper()
		server, _ := handshake(t, config, client)
		if server.err != nil || server.state.DidResume != resumed {
			t.Errorf("%s: got resumed %t, error %v, want resumed %t", name, server.state.DidResume, server.err, resumed)
		}
	}
	reload := func() {
		t.Helper()
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	step("first", s.Config(), false)
	step("again", s.Config(), true)
	step("ticket of another configuration", s.DirectConfig(), false)
	step("direct again", s.DirectConfig(), true)
	reload()
	step("after a reload of the same files", s.DirectConfig(), true)
	renewed := ca.issue(t, "server", nil)
	save(t, filepath.Dir(cert.CertFile), renewed.certPEM, renewed.keyPEM)
	reload()
	step("after a reload of new files", s.DirectConfig(), false)
}

// servedName returns the common name that clients of s see.
func servedName(t testing.TB, s *Server) string {
	t.Helper()
	_, client := handshake(t, s.Config(), &tls.Config{InsecureSkipVerify: true})
	if client.err != nil {
		t.Fatal(client.err)
	}
	return client.state.PeerCertificates[0].Subject.CommonName
}

func TestReloadSwapsAllOrNothing(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	old, renewed := ca.issue(t, "old", nil), ca.issue(t, "new", nil)
	caFile := ca.file(t)
	s := mustServer(t, ServerParams{CertFile: old.CertFile, KeyFile: old.KeyFile, ClientCert: ClientCertOptional, ClientCAFile: caFile})
	mustFail := func(what, file string) {
		t.Helper()
		before := s.Config()
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v, want an error that names %s", what, err, file)
		}
		if s.Config() != before {
			t.Errorf("%s: the configuration was replaced", what)
		}
	}
	writeFile(t, old.CertFile, renewed.certPEM)
	mustFail("new certificate, old key", old.KeyFile)
	writeFile(t, old.KeyFile, []byte("half a k"))
	mustFail("broken key", old.KeyFile)
	writeFile(t, old.KeyFile, renewed.keyPEM)
	writeFile(t, caFile, nil)
	mustFail("empty authorities", caFile)
	writeFile(t, caFile, ca.pem)
	if got := servedName(t, s); got != "old" {
		t.Errorf("before a good reload: got %q, want old", got)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := servedName(t, s); got != "new" {
		t.Errorf("after a good reload: got %q, want new", got)
	}
	if err := os.Remove(old.CertFile); err != nil {
		t.Fatal(err)
	}
	mustFail("removed certificate", old.CertFile)
	if got := servedName(t, s); got != "new" {
		t.Errorf("after a failed reload: got %q, want new", got)
	}
}

func TestWhatIsPreparedCountsOnceItIsSwapped(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	cert, second, third := ca.issue(t, "first", nil), ca.issue(t, "second", nil), ca.issue(t, "third", nil)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	prepare := func(next issued) func() {
		t.Helper()
		save(t, filepath.Dir(cert.CertFile), next.certPEM, next.keyPEM)
		swap, err := s.Prepare()
		if err != nil {
			t.Fatal(err)
		}
		return swap
	}
	want := func(name string) {
		t.Helper()
		if got := servedName(t, s); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	_ = prepare(second) // comes to nothing
	want("first")
	swap := prepare(second)
	want("first")
	swap()
	want("second")
	swap = prepare(cert)
	save(t, filepath.Dir(cert.CertFile), third.certPEM, third.keyPEM)
	if err := s.Reload(); err != nil { // has read newer files
		t.Fatal(err)
	}
	swap()
	want("third")
	writeFile(t, cert.KeyFile, second.keyPEM)
	if swap, err := s.Prepare(); err == nil || swap != nil {
		t.Error("a key that does not fit was prepared")
	}
	want("third")
}

func TestReloadThatBeganEarlierDoesNotWin(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	cert, other := ca.issue(t, "newest", nil), ca.issue(t, "stale", nil)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	newest := *s.current.Load()
	newest.order = 3 // as if of a reload that began after the next one and ended before it
	s.current.Store(&newest)
	save(t, filepath.Dir(cert.CertFile), other.certPEM, other.keyPEM)
	for _, want := range []string{"newest", "stale", "stale"} { // orders 2, 3 and 4
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := servedName(t, s); got != want {
			t.Errorf("after reload %d: got %q, want %q", s.reloads.Load(), got, want)
		}
	}
}

func TestReloadBesideHandshakes(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	certs := []issued{ca.issue(t, "zero", nil), ca.issue(t, "one", nil)}
	s := mustServer(t, ServerParams{CertFile: certs[0].CertFile, KeyFile: certs[0].KeyFile})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 20 {
				_ = s.Reload() // a pair that is half written is refused
			}
		})
	}
	for i := range 20 {
		next := certs[i%2]
		save(t, filepath.Dir(certs[0].CertFile), next.certPEM, next.keyPEM)
		servedName(t, s)
	}
	wg.Wait()
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := servedName(t, s); got != "one" {
		t.Errorf("got %q, want what was written last", got)
	}
}

func TestExpiryIsTheEarliestAndExpiredOnlyWarns(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	late := ca.issue(t, "late", nil)
	early := ca.issue(t, "early", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-30 * time.Second) })
	s := mustServer(t, ServerParams{CertFile: late.CertFile, KeyFile: late.KeyFile, Certificates: []KeyPair{early.KeyPair}})
	want := early.certificate(t).Leaf.NotAfter
	if got := s.Expiry(); !got.Equal(want) {
		t.Errorf("Expiry: got %v, want %v", got, want)
	}
	if got := s.Warnings(want); len(got) != 1 || !errors.As(got[0], new(*ExpiryError)) {
		t.Errorf("warnings in the last second: %v", got)
	}
	for name, now := range map[string]time.Time{"after": want.Add(time.Second), "before": want.Add(-365 * 24 * time.Hour)} {
		wantCount := map[string]int{"after": 1, "before": 2}[name]
		warnings := s.Warnings(now)
		if len(warnings) != wantCount {
			t.Fatalf("%s: got %d warnings (%v), want %d", name, len(warnings), warnings, wantCount)
		}
		var last *ValidityError
		if !errors.As(warnings[wantCount-1], &last) || last.File != early.CertFile || !strings.Contains(last.Error(), early.CertFile) {
			t.Errorf("%s: got %v, want it to name %s", name, warnings[wantCount-1], early.CertFile)
		}
	}
}
