// Package tlsconf builds the TLS configurations facing clients and facing Postgres, and reloads certificates.
package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// ALPN is the name of the protocol in TLS handshakes. Protocol: "SSL Session Encryption".
const ALPN = "postgresql"

// ErrNoALPN ends a direct TLS connection whose client did not name the protocol: it may be meant for another one.
var ErrNoALPN = errors.New("direct tls without alpn")

// ErrNoClientCertificate ends a connection whose client must show a certificate and did not.
var ErrNoClientCertificate = errors.New("client sent no certificate")

// ClientCert says whether clients show a certificate.
type ClientCert string

// The choices; the empty ClientCert is ClientCertNone. A certificate that is shown is always verified.
const (
	ClientCertNone     ClientCert = "none"     // not asked for
	ClientCertOptional ClientCert = "optional" // asked for
	ClientCertRequired ClientCert = "required" // no connection without one
)

// KeyPair names the PEM files of a certificate, its chain behind it, and its private key.
type KeyPair struct {
	CertFile string
	KeyFile  string
}

// ServerParams say how clients are met. All files are PEM.
type ServerParams struct {
	CertFile     string // with KeyFile the first certificate, which clients get that name no server or an unknown one
	KeyFile      string
	Certificates []KeyPair // further ones, chosen by the server name the client sent
	ClientCert   ClientCert
	ClientCAFile string // who may sign client certificates; needed unless ClientCert is none
	MinVersion   Version
	Curves       []Curve // none: those of crypto/tls
	CAFile       string  // who has signed the certificates, for Authorities; empty: as their files say
}

// Server holds the TLS configuration facing clients. It is safe for concurrent use.
type Server struct{ reloader }

// NewServer reads and validates the files that p names. Without any certificate the Server is disabled, which is not
// an error: Config and DirectConfig return nil then. Errors name the file or the parameter; all problems are listed.
func NewServer(p ServerParams) (*Server, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	p.Certificates, p.CertFile, p.KeyFile = p.pairs(), "", ""
	s := &Server{}
	s.files, s.load = p.files(), func() (*material, error) { return load(p) }
	if _, err := s.reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Enabled reports whether there is a certificate, so that SSLRequest may be answered with 'S'.
func (s *Server) Enabled() bool { return s.Config() != nil }

// Config returns the configuration for a connection that asked with SSLRequest, or nil if s is disabled.
// Take it anew for every connection: Reload replaces it, and session tickets end with it. It must not be changed.
// A client that offers protocols by ALPN must offer ours; one that offers none need not.
// Protocol: "SSL Session Encryption".
func (s *Server) Config() *tls.Config { return s.current.Load().config }

// DirectConfig is Config for a connection that starts with TLS at once. The handshake fails unless the client asks
// for the protocol "postgresql" by ALPN.
func (s *Server) DirectConfig() *tls.Config { return s.current.Load().direct }

// Authorities returns, as PEM, the certificates that a client needs to verify ours: those of CAFile, or the roots at the
// ends of our chains. It is nil if that is not known, or s is disabled.
func (s *Server) Authorities() []byte { return s.current.Load().authorities }

func (p ServerParams) validate() error {
	var problems []error
	switch p.ClientCert {
	case "", ClientCertNone:
	case ClientCertOptional, ClientCertRequired:
		if p.ClientCAFile == "" {
			problems = append(problems, fmt.Errorf("client_cert %s needs client_ca_file", p.ClientCert))
		}
		if len(p.pairs()) == 0 {
			problems = append(problems, fmt.Errorf("client_cert %s needs cert_file and key_file", p.ClientCert))
		}
	default:
		problems = append(problems, fmt.Errorf("client_cert %q: want none, optional or required", p.ClientCert))
	}
	if _, err := p.MinVersion.number(); err != nil {
		problems = append(problems, fmt.Errorf("min_version: %w", err))
	}
	if _, err := curveIDs(p.Curves); err != nil {
		problems = append(problems, fmt.Errorf("curves: %w", err))
	}
	for i, pair := range p.pairs() {
		if err := pair.validate(); err != nil {
			problems = append(problems, fmt.Errorf("certificate %d: %w", i+1, err))
		}
	}
	return errors.Join(problems...)
}

// pairs returns all certificates, the default one first.
func (p ServerParams) pairs() []KeyPair {
	var pairs []KeyPair
	if p.CertFile != "" || p.KeyFile != "" {
		pairs = append(pairs, KeyPair{CertFile: p.CertFile, KeyFile: p.KeyFile})
	}
	return append(pairs, p.Certificates...)
}

// files returns the names of all files that load reads.
func (p ServerParams) files() []string {
	var files []string
	for _, pair := range p.pairs() {
		files = append(files, pair.CertFile, pair.KeyFile)
	}
	if p.ClientCert.asks() {
		files = append(files, p.ClientCAFile)
	}
	if p.CAFile != "" && len(files) > 0 {
		files = append(files, p.CAFile)
	}
	return files
}
