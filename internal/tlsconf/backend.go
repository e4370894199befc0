package tlsconf

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// sessionCacheSize is how many sessions a backend configuration remembers. Sessions are kept per server name and a
// configuration has one; the rest is for servers that hand out several.
const sessionCacheSize = 32

// ErrNoServerCertificate says that a server whose certificate is to be verified has shown none.
var ErrNoServerCertificate = errors.New("server sent no certificate")

// Mode is how the connection to Postgres is protected: the values of libpq's sslmode, without allow.
type Mode string

// The modes, from the weakest to the strongest.
const (
	ModeDisable    Mode = "disable"     // never TLS
	ModePrefer     Mode = "prefer"      // TLS if the server has it, unverified
	ModeRequire    Mode = "require"     // TLS, unverified; with a CAFile the same as verify-ca
	ModeVerifyCA   Mode = "verify-ca"   // TLS, and the certificate is signed by a known authority
	ModeVerifyFull Mode = "verify-full" // and is for the server we meant
)

// BackendParams say how Postgres is met. All files are PEM.
type BackendParams struct {
	Mode       Mode
	CAFile     string // authorities that may sign the server's certificate; empty: those of the system
	CertFile   string // with KeyFile the client certificate shown to Postgres; both or neither
	KeyFile    string
	ServerName string // name to ask for and to verify; empty: the host
}

// Verifies reports whether the connection is to a server whose certificate was verified.
func (p BackendParams) Verifies() bool {
	return p.Mode == ModeVerifyCA || p.Mode == ModeVerifyFull || p.Mode == ModeRequire && p.CAFile != ""
}

// Backends holds the TLS configurations facing one Postgres, which may have several hosts. It is safe for concurrent use.
type Backends struct{ reloader }

// NewBackends reads and validates the files that p names. Errors name the file or the parameter.
func NewBackends(p BackendParams, hosts []string) (*Backends, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	b := &Backends{}
	b.files, b.load = p.files(hosts), func() (*material, error) { return p.load(hosts) }
	if _, err := b.reload(); err != nil {
		return nil, err
	}
	return b, nil
}

// Config returns the configuration for connections to Postgres at host. It is nil where TLS is not to be used: mode
// disable, and any mode if host is a Unix socket (a path, or @ for an abstract one), as in libpq.
// Mode prefer differs from require only in what the caller does when the server answers 'N'.
//
// Take it anew for every connection: Reload replaces it, and with it the sessions that it remembers.
func (b *Backends) Config(host string) *tls.Config { return b.current.Load().hosts[host] }

// files returns the names of all files that load reads.
func (p BackendParams) files(hosts []string) []string {
	if !slices.ContainsFunc(hosts, p.encrypts) {
		return nil
	}
	var files []string
	if p.Verifies() && p.CAFile != "" {
		files = append(files, p.CAFile)
	}
	if p.CertFile != "" {
		files = append(files, p.CertFile, p.KeyFile)
	}
	return files
}

// encrypts reports whether TLS is used to host.
func (p BackendParams) encrypts(host string) bool {
	return p.Mode != ModeDisable && !isUnixSocket(host)
}

// load reads the files of p and builds the configurations.
func (p BackendParams) load(hosts []string) (*material, error) {
	m := &material{hosts: make(map[string]*tls.Config, len(hosts))}
	if !slices.ContainsFunc(hosts, p.encrypts) {
		return m, nil
	}
	var files reader
	var authorities *x509.CertPool // nil: those of the system
	var own *tls.Certificate
	var problems []error
	if p.Verifies() && p.CAFile != "" {
		var err error
		authorities, _, err = files.authorities(p.CAFile)
		problems = append(problems, under("ca_file", err))
	}
	if p.CertFile != "" {
		cert, err := files.keyPair(KeyPair{CertFile: p.CertFile, KeyFile: p.KeyFile})
		own, problems = &cert, append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, host := range hosts {
		if !p.encrypts(host) {
			continue
		}
		config, err := p.config(host, authorities, own)
		if err != nil {
			return nil, err
		}
		m.hosts[host] = config
	}
	m.digest, m.shown, m.trusted, m.others = files.sum, files.shown, files.trusted, files.others
	return m, nil
}

// config builds the configuration for one host.
func (p BackendParams) config(host string, authorities *x509.CertPool, own *tls.Certificate) (*tls.Config, error) {
	name := cmp.Or(p.ServerName, host)
	if name == "" {
		return nil, fmt.Errorf("tls_mode %s: neither host nor server_name", p.Mode)
	}
	config := Base()
	config.NextProtos = []string{ALPN}
	config.ServerName = name
	config.ClientSessionCache = tls.NewLRUClientSessionCache(sessionCacheSize)
	config.InsecureSkipVerify = true // what has to be verified is, in VerifyConnection, which runs for resumed sessions too
	if p.Verifies() {
		config.VerifyConnection = p.verifier(authorities, name)
	}
	if own != nil {
		// As libpq, show it whatever authorities the server lists: its refusal says more than our silence.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return config, nil
}

// verifier returns what verifies the server of each connection.
func (p BackendParams) verifier(authorities *x509.CertPool, name string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return ErrNoServerCertificate
		}
		if err := verifyChain(state.PeerCertificates, authorities, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		if p.Mode != ModeVerifyFull {
			return nil
		}
		return verifyName(state.PeerCertificates[0], name)
	}
}

// verifyName verifies that cert is for name, a host name or an IP address. A certificate that names no host and no
// address among its alternative names is held to its common name, as libpq does: Postgres's own manual makes such
// certificates.
func verifyName(cert *x509.Certificate, name string) error {
	err := cert.VerifyHostname(name)
	if err == nil || len(cert.DNSNames) > 0 || len(cert.IPAddresses) > 0 {
		return err
	}
	commonName := &x509.Certificate{Raw: cert.Raw, Subject: cert.Subject, DNSNames: []string{cert.Subject.CommonName}}
	if ip := net.ParseIP(cert.Subject.CommonName); ip != nil {
		commonName.IPAddresses = []net.IP{ip}
	}
	return commonName.VerifyHostname(name)
}

func (p BackendParams) validate() error {
	switch p.Mode {
	case ModeDisable, ModePrefer, ModeRequire, ModeVerifyCA, ModeVerifyFull:
	default:
		return fmt.Errorf("tls_mode %q: want disable, prefer, require, verify-ca or verify-full", string(p.Mode))
	}
	if p.CertFile == "" && p.KeyFile == "" {
		return nil
	}
	return KeyPair{CertFile: p.CertFile, KeyFile: p.KeyFile}.validate()
}

func isUnixSocket(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@")
}
