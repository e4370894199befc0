package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestServerWithoutCertificateIsDisabled(t *testing.T) {
	t.Parallel()
	s := mustServer(t, ServerParams{})
	if s.Enabled() || s.Config() != nil || s.DirectConfig() != nil {
		t.Errorf("got enabled %t, config %v, direct %v, want none", s.Enabled(), s.Config(), s.DirectConfig())
	}
	if err := s.Reload(); err != nil {
		t.Errorf("Reload: %v", err)
	}
	if got := s.Expiry(); !got.IsZero() {
		t.Errorf("Expiry: got %v, want the zero time", got)
	}
}

func TestNewServerNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	good, other := ca.issue(t, "a", nil), ca.issue(t, "b", nil)
	folder := t.TempDir()
	garbage := writeFile(t, filepath.Join(folder, "garbage.pem"), []byte("no pem in here"))
	broken := writeFile(t, filepath.Join(folder, "broken.pem"), append(ca.pem, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
	missing := filepath.Join(folder, "missing.pem")
	tests := []struct {
		name   string
		params ServerParams
		want   []string
	}{
		{"missing certificate", ServerParams{CertFile: missing, KeyFile: good.KeyFile}, []string{"cert_file: open", missing}},
		{"missing key", ServerParams{CertFile: good.CertFile, KeyFile: missing}, []string{"key_file: open", missing}},
		{"folder", ServerParams{CertFile: folder, KeyFile: good.KeyFile}, []string{folder}},
		{"garbage", ServerParams{CertFile: garbage, KeyFile: good.KeyFile}, []string{garbage}},
		{"key of another", ServerParams{CertFile: good.CertFile, KeyFile: other.KeyFile}, []string{good.CertFile, other.KeyFile, "does not match"}},
		{"certificate without key", ServerParams{CertFile: good.CertFile}, []string{good.CertFile, "without key_file"}},
		{"key without certificate", ServerParams{KeyFile: good.KeyFile}, []string{good.KeyFile, "without cert_file"}},
		{"two bad pairs", ServerParams{CertFile: missing, KeyFile: good.KeyFile, Certificates: []KeyPair{{garbage, good.KeyFile}}},
			[]string{missing, garbage}},
		{"empty pair", ServerParams{Certificates: []KeyPair{{}}}, []string{"certificate 1: neither"}},
		{"version", ServerParams{MinVersion: "1.1"}, []string{"min_version", `"1.1"`}},
		{"curve", ServerParams{Curves: []Curve{CurveP256, "P-224"}}, []string{"curves", `"P-224"`}},
		{"missing authorities of ours", ServerParams{CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: missing}, []string{"ca_file: ", missing}},
		{"a key for authorities of ours", ServerParams{CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: good.KeyFile}, []string{good.KeyFile, "no certificate"}},
		{"client certificate rule", ServerParams{ClientCert: "maybe"}, []string{"client_cert", `"maybe"`}},
		{"no authorities", ServerParams{CertFile: good.CertFile, KeyFile: good.KeyFile, ClientCert: ClientCertOptional},
			[]string{"client_ca_file"}},
		{"client certificates without tls", ServerParams{ClientCert: ClientCertRequired, ClientCAFile: ca.file(t)}, []string{"cert_file"}},
		{"garbage authorities", ServerParams{CertFile: good.CertFile, KeyFile: good.KeyFile, ClientCert: ClientCertRequired, ClientCAFile: garbage},
			[]string{"client_ca_file: ", garbage, "no certificate"}},
		{"one broken authority", ServerParams{CertFile: good.CertFile, KeyFile: good.KeyFile, ClientCert: ClientCertRequired, ClientCAFile: broken},
			[]string{broken, "certificate 2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := NewServer(test.params)
			if err == nil || s != nil {
				t.Fatalf("NewServer(%+v): got (%v, %v), want an error", test.params, s, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if bytes.Contains([]byte(err.Error()), []byte("PRIVATE")) {
				t.Errorf("error shows the key: %q", err)
			}
		})
	}
}

func TestCertificateIsChosenByServerName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca", nil, time.Hour)
	first := ca.issue(t, "first.example", nil)
	second := ca.issue(t, "second.example", nil)
	wild := ca.issue(t, "*.wild.example", nil)
	s := mustServer(t, ServerParams{CertFile: first.CertFile, KeyFile: first.KeyFile, Certificates: []KeyPair{second.KeyPair, wild.KeyPair}})
	for name, want := range map[string]string{
		"first.example":      "first.example",
		"second.example":     "second.example",
		"SECOND.example":     "second.example",
		"x.wild.example":     "*.wild.example",
		"elsewhere.example":  "first.example",
		"":                   "first.example",
		"127.0.0.1":          "first.example", // an address is not sent as server name
		"a.b.wild.example":   "first.example",
		"second.example.org": "first.example",
	} {
		for which, config := range map[string]*tls.Config{"ssl request": s.Config(), "direct": s.DirectConfig()} {
			server, client := handshake(t, config, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{ALPN}})
			if client.err != nil {
				t.Fatalf("%s, server name %q: %v", which, name, client.err)
			}
			if got := client.state.PeerCertificates[0].Subject.CommonName; got != want {
				t.Errorf("%s, server name %q: got certificate %q, want %q", which, name, got, want)
			}
			if server.noted != want {
				t.Errorf("%s, server name %q: the connection was told of certificate %q, want %q", which, name, server.noted, want)
			}
		}
	}
}

func TestDirectTLSNeedsALPN(t *testing.T) {
	t.Parallel()
	cert := newAuthority(t, "ca", nil, time.Hour).issue(t, "a", nil)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	tests := []struct {
		name   string
		config *tls.Config
		protos []string
		want   string // the protocol; "refused": none
	}{
		{"direct, postgresql", s.DirectConfig(), []string{ALPN}, ALPN},
		{"direct, postgresql among others", s.DirectConfig(), []string{"h2", ALPN}, ALPN},
		{"direct, none", s.DirectConfig(), nil, "refused"},
		{"direct, another", s.DirectConfig(), []string{"http/1.1"}, "refused"},
		{"ssl request, none", s.Config(), nil, ""},
		{"ssl request, postgresql", s.Config(), []string{ALPN}, ALPN},
		{"ssl request, another", s.Config(), []string{"h2"}, "refused"},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range tests {
			t.Run(test.name+", "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				client := &tls.Config{InsecureSkipVerify: true, NextProtos: test.protos, MaxVersion: version}
				server, _ := handshake(t, test.config, client)
				if refused := server.err != nil; refused != (test.want == "refused") {
					t.Fatalf("got %v, want %q", server.err, test.want)
				}
				if test.protos == nil && server.err != nil && !errors.Is(server.err, ErrNoALPN) {
					t.Errorf("got %v, want ErrNoALPN", server.err)
				}
				if server.err == nil && server.state.NegotiatedProtocol != test.want {
					t.Errorf("protocol: got %q, want %q", server.state.NegotiatedProtocol, test.want)
				}
			})
		}
	}
}

func TestMinVersionRefusesOlderClients(t *testing.T) {
	t.Parallel()
	cert := newAuthority(t, "ca", nil, time.Hour).issue(t, "a", nil)
	for _, test := range []struct {
		min     Version
		client  uint16
		refused bool
	}{
		{"", tls.VersionTLS11, true},
		{"", tls.VersionTLS12, false},
		{Version12, tls.VersionTLS12, false},
		{Version12, tls.VersionTLS13, false},
		{Version13, tls.VersionTLS12, true},
		{Version13, tls.VersionTLS13, false},
	} {
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, MinVersion: test.min})
		client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: test.client}
		if server, _ := handshake(t, s.Config(), client); (server.err != nil) != test.refused {
			t.Errorf("min %q, client %s: got %v, want refused %t", test.min, tls.VersionName(test.client), server.err, test.refused)
		}
	}
}

func TestClientCertificateRules(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "stranger", nil, time.Hour)
	cert := ca.issue(t, "server", nil)
	shown := map[string][]tls.Certificate{
		"none":     nil,
		"good":     {ca.issue(t, "alice", nil).certificate(t)},
		"stranger": {stranger.issue(t, "alice", nil).certificate(t)},
		"expired": {ca.issue(t, "alice", func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Second)
		}).certificate(t)},
		"server's": {ca.issue(t, "alice", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}).certificate(t)},
	}
	admitted := map[ClientCert]map[string]bool{
		"":                 {"none": true, "good": true, "stranger": true, "expired": true, "server's": true},
		ClientCertNone:     {"none": true, "good": true, "stranger": true, "expired": true, "server's": true},
		ClientCertOptional: {"none": true, "good": true},
		ClientCertRequired: {"good": true},
	}
	for rule, want := range admitted {
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCert: rule, ClientCAFile: ca.file(t)})
		for name, certificates := range shown {
			for which, config := range map[string]*tls.Config{"ssl request": s.Config(), "direct": s.DirectConfig()} {
				client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ALPN},
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if len(certificates) == 0 {
							return &tls.Certificate{}, nil
						}
						return &certificates[0], nil
					}}
				server, _ := handshake(t, config, client)
				if (server.err == nil) != want[name] {
					t.Errorf("%s, client_cert %q, certificate %s: got %v, want admitted %t", which, rule, name, server.err, want[name])
				}
				if asks := rule == ClientCertOptional || rule == ClientCertRequired; server.err == nil && name == "good" &&
					(len(server.state.VerifiedChains) > 0) != asks {
					t.Errorf("%s, client_cert %q: got %d verified chains", which, rule, len(server.state.VerifiedChains))
				}
			}
		}
	}
}

func TestClientRulesHoldForResumedSessions(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca", nil, time.Hour), newAuthority(t, "stranger", nil, time.Hour)
	cert := ca.issue(t, "server", nil)
	s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCert: ClientCertRequired, ClientCAFile: ca.file(t)})
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "server", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		Certificates: []tls.Certificate{ca.issue(t, "alice", nil).certificate(t)}}
	for _, resumed := range []bool{false, true} {
		server, _ := handshake(t, s.Config(), client)
		if server.err != nil || server.state.DidResume != resumed {
			t.Fatalf("got resumed %t, error %v, want resumed %t", server.state.DidResume, server.err, resumed)
		}
	}
	leafOf := func(i issued) []*x509.Certificate { return []*x509.Certificate{i.certificate(t).Leaf} }
	for name, state := range map[string]tls.ConnectionState{
		"no certificate": {DidResume: true},
		"stranger":       {DidResume: true, PeerCertificates: leafOf(stranger.issue(t, "alice", nil))},
		"expired": {DidResume: true, PeerCertificates: leafOf(ca.issue(t, "alice", func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Second)
		}))},
	} {
		if err := s.Config().VerifyConnection(state); err == nil {
			t.Errorf("resumed with %s: admitted", name)
		}
		state.NegotiatedProtocol = ALPN
		if err := s.DirectConfig().VerifyConnection(state); err == nil {
			t.Errorf("direct, resumed with %s: admitted", name)
		}
	}
}

func TestResumptionEndsWithTheClientsAuthority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "ca", nil, time.Hour)
		cert := ca.issue(t, "server", nil)
		s := mustServer(t, ServerParams{CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCert: ClientCertOptional, ClientCAFile: ca.file(t)})
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "server", ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{ca.issue(t, "alice", nil).certificate(t)}}
		if server, _ := handshake(t, s.Config(), client); server.err != nil {
			t.Fatal(server.err)
		}
		time.Sleep(2 * time.Hour)
		if server, _ := handshake(t, s.Config(), client); server.err == nil {
			t.Errorf("admitted with an authority that has expired (resumed %t)", server.state.DidResume)
		}
	})
}
