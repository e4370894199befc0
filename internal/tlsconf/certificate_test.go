package tlsconf

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

func TestCertificateIsShownAsItIsAtTheHandshake(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	first, second := ca.issue(t, "first", nil), ca.issue(t, "second", nil)
	c, err := NewCertificate(first.KeyPair)
	mustDo(t, err)
	config := c.Config()
	shown := func() string {
		t.Helper()
		_, client := handshake(t, config, &tls.Config{InsecureSkipVerify: true})
		mustDo(t, client.err)
		return client.state.PeerCertificates[0].Subject.CommonName
	}
	writeFile(t, first.CertFile, second.certPEM)
	if err := c.Reload(); err == nil || !strings.Contains(err.Error(), first.CertFile) || shown() != "first" {
		t.Errorf("half a pair: %v, and %s is shown", err, shown())
	}
	writeFile(t, first.KeyFile, second.keyPEM)
	mustDo(t, c.Reload())
	if got := shown(); got != "second" {
		t.Errorf("%s is shown, want second", got)
	}
	for _, suite := range allSuites() {
		only := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
		if server, _ := handshake(t, config, only); server.err == nil && !strong(suite) {
			t.Errorf("%s is agreed on", tls.CipherSuiteName(suite))
		}
	}
	for _, pair := range []KeyPair{{}, {CertFile: first.CertFile}, {CertFile: first.CertFile, KeyFile: "missing"}} {
		if _, err := NewCertificate(pair); err == nil {
			t.Errorf("%+v is taken", pair)
		}
	}
}
