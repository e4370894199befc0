// Package tlsconf builds the TLS configurations facing clients and facing Postgres, and reloads certificates.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
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

// Version is a TLS version as configuration files write it.
type Version string

// The versions; the empty Version is Version12.
const (
	Version12 Version = "1.2"
	Version13 Version = "1.3"
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
}

// Server holds the TLS configuration facing clients. It is safe for concurrent use.
type Server struct {
	params  ServerParams  // with all pairs in Certificates
	reloads atomic.Uint64 // loads begun; orders those that overlap
	current atomic.Pointer[material]
}

// NewServer reads and validates the files that p names. Without any certificate the Server is disabled, which is not
// an error: Config and DirectConfig return nil then. Errors name the file or the parameter; all problems are listed.
func NewServer(p ServerParams) (*Server, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	p.Certificates, p.CertFile, p.KeyFile = p.pairs(), "", ""
	s := &Server{params: p}
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

// Reload reads all files again and swaps the configurations at once. If anything is wrong the old ones stay and the
// error names the file. Files that have not changed keep their configuration and its session tickets.
// A certificate that has expired is no error, see Warnings.
func (s *Server) Reload() error {
	_, err := s.reload()
	return err
}

// Expiry returns when the first of the certificates expires, the zero time if s is disabled.
func (s *Server) Expiry() time.Time {
	var first time.Time
	for _, l := range s.current.Load().leaves {
		if first.IsZero() || l.cert.NotAfter.Before(first) {
			first = l.cert.NotAfter
		}
	}
	return first
}

// Warnings returns a *ValidityError for each certificate in use that is not valid at now. Clients that verify will
// refuse it.
func (s *Server) Warnings(now time.Time) []error {
	var warnings []error
	for _, l := range s.current.Load().leaves {
		if now.Before(l.cert.NotBefore) || now.After(l.cert.NotAfter) {
			warnings = append(warnings, &ValidityError{File: l.file, NotBefore: l.cert.NotBefore, NotAfter: l.cert.NotAfter})
		}
	}
	return warnings
}

// ValidityError says that a certificate is not valid yet or not valid any more.
type ValidityError struct {
	File      string
	NotBefore time.Time
	NotAfter  time.Time
}

// Error names the file and the time in which its certificate is valid.
func (e *ValidityError) Error() string {
	return fmt.Sprintf("certificate %s is valid only from %s to %s", e.File,
		e.NotBefore.UTC().Format(time.RFC3339), e.NotAfter.UTC().Format(time.RFC3339))
}

// reload is Reload; it also reports whether the configurations were replaced.
func (s *Server) reload() (changed bool, err error) {
	order := s.reloads.Add(1)
	next, err := load(s.params)
	if err != nil {
		return false, err
	}
	next.order = order
	for {
		old := s.current.Load()
		switch {
		case old == nil:
		case old.order > order: // a load that began later has read newer files
			return false, nil
		case old.digest == next.digest:
			kept := *old
			kept.order = order
			if s.current.CompareAndSwap(old, &kept) {
				return false, nil
			}
			continue
		}
		if s.current.CompareAndSwap(old, next) {
			return true, nil
		}
	}
}

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
	return files
}

func (v Version) number() (uint16, error) {
	switch v {
	case "", Version12:
		return tls.VersionTLS12, nil
	case Version13:
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unknown tls version %q: want 1.2 or 1.3", string(v))
}

// leaf is a server certificate and the file it came from.
type leaf struct {
	file string
	cert *x509.Certificate
}
