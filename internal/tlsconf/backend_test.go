package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const backendHost = "db.example"

// Backend returns the configuration for one host.
func Backend(p BackendParams, host string) (*tls.Config, error) {
	b, err := NewBackends(p, []string{host})
	if err != nil {
		return nil, err
	}
	return b.Config(host), nil
}

func TestBackendModesAgainstServers(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "stranger", nil, time.Hour)
	between := newAuthority(t, "between", ca, time.Hour)
	chained := between.issue(t, backendHost, nil)
	withChain := chained.certificate(t)
	withChain.Certificate = append(withChain.Certificate, between.cert.Raw)
	issue := func(edit func(*x509.Certificate)) tls.Certificate {
		return ca.issue(t, backendHost, edit).certificate(t)
	}
	tests := []struct {
		name     string
		cert     tls.Certificate
		ca, full bool // admitted by verify-ca, by verify-full
	}{
		{"good", issue(nil), true, true},
		{"chain with its intermediate", withChain, true, true},
		{"chain without its intermediate", chained.certificate(t), false, false},
		{"other name", issue(func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} }), true, false},
		{"wildcard", issue(func(c *x509.Certificate) { c.DNSNames = []string{"*.example"} }), true, true},
		{"other authority", stranger.issue(t, backendHost, nil).certificate(t), false, false},
		{"expired", issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), false, false},
		{"not valid yet", issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), false, false},
		{"for clients only", issue(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), false, false},
		{"common name only", issue(func(c *x509.Certificate) { c.DNSNames = nil }), true, true},
		{"other common name only", issue(func(c *x509.Certificate) {
			c.DNSNames, c.Subject = nil, pkix.Name{CommonName: "other.example"}
		}), true, false},
	}
	caFile := ca.file(t)
	for _, test := range tests {
		for _, mode := range []struct {
			params BackendParams
			want   bool
		}{
			{BackendParams{Mode: ModePrefer}, true},
			{BackendParams{Mode: ModePrefer, CAFile: caFile}, true},
			{BackendParams{Mode: ModeRequire}, true},
			{BackendParams{Mode: ModeRequire, CAFile: caFile}, test.ca},
			{BackendParams{Mode: ModeVerifyCA, CAFile: caFile}, test.ca},
			{BackendParams{Mode: ModeVerifyFull, CAFile: caFile}, test.full},
			{BackendParams{Mode: ModeVerifyCA}, false}, // the system knows none of these authorities
			{BackendParams{Mode: ModeVerifyFull}, false},
		} {
			config, err := Backend(mode.params, backendHost)
			if err != nil {
				t.Fatalf("Backend(%+v): %v", mode.params, err)
			}
			server, client := handshake(t, &tls.Config{Certificates: []tls.Certificate{test.cert}, NextProtos: []string{ALPN}}, config)
			if (client.err == nil) != mode.want {
				t.Errorf("%s, mode %s, authorities %q: got %v, want connected %t", test.name, mode.params.Mode, mode.params.CAFile, client.err, mode.want)
			}
			if client.err == nil && (server.state.NegotiatedProtocol != ALPN || server.state.ServerName != backendHost) {
				t.Errorf("%s: server saw protocol %q and name %q", test.name, server.state.NegotiatedProtocol, server.state.ServerName)
			}
		}
	}
}

func TestVerifyFullHoldsTheCertificateToTheName(t *testing.T) {
	t.Parallel()
	ip := func(texts ...string) []net.IP {
		var ips []net.IP
		for _, text := range texts {
			ips = append(ips, net.ParseIP(text))
		}
		return ips
	}
	tests := []struct {
		commonName string
		names      []string
		ips        []net.IP
		host       string
		want       bool
	}{
		{"", []string{"db.example"}, nil, "db.example", true},
		{"", []string{"db.example"}, nil, "DB.example", true},
		{"", []string{"db.example"}, nil, "x.db.example", false},
		{"", nil, ip("192.0.2.1"), "192.0.2.1", true},
		{"", nil, ip("192.0.2.1"), "192.0.2.2", false},
		{"", nil, ip("2001:db8::1"), "2001:db8:0::1", true},
		{"db.example", nil, nil, "db.example", true},
		{"*.example", nil, nil, "db.example", true},
		{"*.example", nil, nil, "a.db.example", false},
		{"db.example", []string{"other.example"}, nil, "db.example", false}, // alternative names replace the common name
		{"db.example", nil, ip("192.0.2.1"), "db.example", false},
		{"192.0.2.1", nil, nil, "192.0.2.1", true},
		{"192.0.2.1", nil, nil, "192.0.2.2", false},
		{"192.0.2.*", nil, nil, "192.0.2.1", false},
		{"", nil, nil, "db.example", false},
		{"db.example\x00.evil.example", nil, nil, "db.example", false},
	}
	for _, test := range tests {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: test.commonName}, DNSNames: test.names, IPAddresses: test.ips}
		err := verifyName(cert, test.host)
		if (err == nil) != test.want {
			t.Errorf("host %q against common name %q, names %q, addresses %v: got %v, want accepted %t",
				test.host, test.commonName, test.names, test.ips, err, test.want)
		}
		if err != nil && err.Error() == "" {
			t.Errorf("host %q: empty error", test.host)
		}
	}
}

func TestServerNameStandsForTheHost(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	cert := ca.issue(t, backendHost, nil).certificate(t)
	params := BackendParams{Mode: ModeVerifyFull, CAFile: ca.file(t)}
	for name, want := range map[string]bool{"": false, backendHost: true, "other.example": false} {
		params.ServerName = name
		config, err := Backend(params, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		if _, client := handshake(t, &tls.Config{Certificates: []tls.Certificate{cert}}, config); (client.err == nil) != want {
			t.Errorf("server name %q: got %v, want connected %t", name, client.err, want)
		}
	}
}

func TestBackendVerifiesTrustedSelfSignedCertificate(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM, err := SelfSigned([]string{backendHost, "127.0.0.1", "::1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert := save(t, t.TempDir(), certPEM, keyPEM)
	for host, want := range map[string]bool{backendHost: true, "127.0.0.1": true, "::1": true, "127.0.0.2": false, "db": false} {
		config, err := Backend(BackendParams{Mode: ModeVerifyFull, CAFile: cert.CertFile}, host)
		if err != nil {
			t.Fatal(err)
		}
		server := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
		if _, client := handshake(t, server.DirectConfig(), config); (client.err == nil) != want {
			t.Errorf("host %s: got %v, want connected %t", host, client.err, want)
		}
	}
}

func TestBackendWithoutTLS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode Mode
		host string
	}{
		{ModeDisable, backendHost},
		{ModePrefer, "/run/postgresql"},
		{ModeRequire, "/run/postgresql"},
		{ModeVerifyFull, "/run/postgresql"},
		{ModeVerifyFull, "@abstract"},
	} {
		if config, err := Backend(BackendParams{Mode: test.mode}, test.host); config != nil || err != nil {
			t.Errorf("mode %s, host %s: got (%v, %v), want none", test.mode, test.host, config, err)
		}
	}
}

func TestBackendShowsItsCertificate(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "stranger", nil, time.Hour)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, backendHost, nil).certificate(t)},
		ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	for name, test := range map[string]struct {
		cert issued
		want bool
	}{
		"known":    {ca.issue(t, "sluice", nil), true},
		"stranger": {stranger.issue(t, "sluice", nil), false},
	} {
		config, err := Backend(BackendParams{Mode: ModeRequire, CertFile: test.cert.CertFile, KeyFile: test.cert.KeyFile}, backendHost)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := handshake(t, server, config)
		if (got.err == nil) != test.want {
			t.Errorf("%s: got %v, want connected %t", name, got.err, test.want)
		}
		if !test.want && !errors.As(got.err, new(*tls.CertificateVerificationError)) {
			t.Errorf("%s: got %v, want the certificate to have been shown and refused", name, got.err)
		}
	}
}

func TestBackendNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	cert, other := ca.issue(t, "a", nil), ca.issue(t, "b", nil)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	garbage := writeFile(t, filepath.Join(t.TempDir(), "garbage.pem"), []byte("garbage"))
	tests := []struct {
		name   string
		params BackendParams
		host   string
		want   string
	}{
		{"no mode", BackendParams{}, backendHost, `tls_mode ""`},
		{"libpq's allow", BackendParams{Mode: "allow"}, backendHost, `tls_mode "allow"`},
		{"missing authorities", BackendParams{Mode: ModeVerifyCA, CAFile: missing}, backendHost, missing},
		{"missing authorities of require", BackendParams{Mode: ModeRequire, CAFile: missing}, backendHost, missing},
		{"garbage authorities", BackendParams{Mode: ModeVerifyFull, CAFile: garbage}, backendHost, garbage},
		{"certificate without key", BackendParams{Mode: ModePrefer, CertFile: cert.CertFile}, backendHost, "without key_file"},
		{"key without certificate", BackendParams{Mode: ModeDisable, KeyFile: cert.KeyFile}, backendHost, "without cert_file"},
		{"key of another", BackendParams{Mode: ModePrefer, CertFile: cert.CertFile, KeyFile: other.KeyFile}, backendHost, other.KeyFile},
		{"no host", BackendParams{Mode: ModePrefer}, "", "neither host nor server_name"},
	}
	for _, test := range tests {
		if config, err := Backend(test.params, test.host); config != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got (%v, %v), want an error that says %q", test.name, config, err, test.want)
		}
	}
}

func TestVerifiesSaysWhatIsVerified(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		params BackendParams
		want   bool
	}{
		{BackendParams{Mode: ModeDisable, CAFile: "f"}, false},
		{BackendParams{Mode: ModePrefer, CAFile: "f"}, false},
		{BackendParams{Mode: ModeRequire}, false},
		{BackendParams{Mode: ModeRequire, CAFile: "f"}, true},
		{BackendParams{Mode: ModeVerifyCA}, true},
		{BackendParams{Mode: ModeVerifyFull}, true},
	} {
		if got := test.params.Verifies(); got != test.want {
			t.Errorf("%+v: got %t, want %t", test.params, got, test.want)
		}
	}
}

// The client resumes a session of a server whose own certificate is still valid: only VerifyConnection can see that
// the authority behind it is not.
func TestBackendVerifiesResumedSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "ca", nil, time.Hour)
		server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, backendHost, nil).certificate(t)}}
		config, err := Backend(BackendParams{Mode: ModeVerifyFull, CAFile: ca.file(t)}, backendHost)
		if err != nil {
			t.Fatal(err)
		}
		for _, resumed := range []bool{false, true} {
			if _, client := handshake(t, server, config); client.err != nil || client.state.DidResume != resumed {
				t.Fatalf("got resumed %t, error %v, want resumed %t", client.state.DidResume, client.err, resumed)
			}
		}
		time.Sleep(2 * time.Hour)
		_, client := handshake(t, server, config)
		var invalid x509.CertificateInvalidError
		if !errors.As(client.err, &invalid) || invalid.Reason != x509.Expired {
			t.Errorf("got %v, want the expired authority refused", client.err)
		}
	})
}
