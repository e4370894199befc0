package auth

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of the methods that ask the client for nothing: who it is has been proved by TLS, or is known to the system.
var (
	// ErrIdentity is a client that is proved to be somebody else than its role; see IdentityError.
	ErrIdentity = errors.New("the client is not who its role says")
	// ErrNeedsCertificate is method Cert on a connection whose client has shown no certificate.
	ErrNeedsCertificate = errors.New("connection requires a valid client certificate")
	// ErrNeedsSocket is method SocketUser on a connection that is not a Unix socket.
	ErrNeedsSocket = errors.New("peer authentication is only supported on Unix sockets")
)

// CertRule says what a client must show beside what its method asks for, as clientcert in PostgreSQL's pg_hba.conf does.
type CertRule string

// The rules; the empty CertRule is CertNone. Cert does what CertVerifyFull says by itself.
const (
	CertNone       CertRule = "none"
	CertVerifyCA   CertRule = "verify-ca"   // a certificate, whosever it is
	CertVerifyFull CertRule = "verify-full" // one that is for its role
)

// CertName is where in a certificate a name stands that can be a client's identity.
type CertName string

// The places. All alternative names of a kind count, each by itself.
const (
	CommonName CertName = "cn"
	DNSName    CertName = "dns"
	EmailName  CertName = "email"
	URIName    CertName = "uri"
)

// checkNames reports a rule or a name that there is not.
func (p *Params) checkNames() error {
	switch p.ClientCert {
	case "", CertNone, CertVerifyCA, CertVerifyFull:
	default:
		return fmt.Errorf("unknown rule for client certificates %q", p.ClientCert)
	}
	for _, name := range p.CertNames {
		switch name {
		case CommonName, DNSName, EmailName, URIName:
		default:
			return fmt.Errorf("unknown name in certificates %q", name)
		}
	}
	return nil
}

// IdentityError is a client whose certificate, or whose user of the operating system, is not that of its role. It unwraps
// to ErrIdentity.
type IdentityError struct {
	Method   Method // Cert or SocketUser
	Role     string
	Identity string // who the client is, all its names; empty if that cannot be told
	Err      error  // why not; nil if it can
}

func (e *IdentityError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s authentication for role %.64q: %v", e.Method, e.Role, e.Err)
	}
	return fmt.Sprintf("%s authentication for role %.64q: the client is %.200q", e.Method, e.Role, e.Identity)
}

// Unwrap returns ErrIdentity and the cause.
func (e *IdentityError) Unwrap() []error { return []error{ErrIdentity, e.Err} }

// identified admits a client that is proved to be its role otherwise than by a secret, with what is stored of the role.
func (a *Authenticator) identified(ctx context.Context, p Peer) (Credential, error) {
	if err := a.checkIdentity(p); err != nil {
		return Credential{}, err
	}
	return a.trusted(ctx, p.Role)
}

// checkIdentity holds who the client is, by the method, against its role.
func (a *Authenticator) checkIdentity(p Peer) error {
	if a.method == Cert {
		return a.checkCertificate(p, CertVerifyFull)
	}
	if p.User == nil {
		return ErrNeedsSocket
	}
	user, err := p.User()
	if err != nil || !a.identMap.Allows(user, p.Role) {
		return &IdentityError{Method: SocketUser, Role: p.Role, Identity: user, Err: err}
	}
	return nil
}

// checkCertificate holds the client's certificate against the rule.
func (a *Authenticator) checkCertificate(p Peer, rule CertRule) error {
	switch {
	case rule == CertNone:
		return nil
	case !p.TLS:
		return ErrNeedsTLS
	case p.Certificate == nil:
		return ErrNeedsCertificate
	case rule == CertVerifyCA:
		return nil
	}
	names, err := a.names(p.Certificate)
	allows := func(name string) bool { return a.identMap.Allows(name, p.Role) }
	if err != nil || !slices.ContainsFunc(names, allows) {
		return &IdentityError{Method: Cert, Role: p.Role, Identity: strings.Join(names, ", "), Err: err}
	}
	return nil
}

// names returns the names in cert that count: at least one. A zero byte makes a name another one to some programs than to
// the authority that has signed it.
func (a *Authenticator) names(cert *x509.Certificate) ([]string, error) {
	var names []string
	for _, kind := range a.certNames {
		switch kind {
		case DNSName:
			names = append(names, cert.DNSNames...)
		case EmailName:
			names = append(names, cert.EmailAddresses...)
		case URIName:
			for _, uri := range cert.URIs {
				names = append(names, uri.String())
			}
		default:
			name, err := commonName(cert)
			if err != nil {
				return nil, err
			}
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	if slices.ContainsFunc(names, func(name string) bool { return strings.IndexByte(name, 0) >= 0 }) {
		return nil, errors.New("a name of the client certificate contains a zero byte")
	}
	if len(names) == 0 {
		return nil, errors.New("client certificate contains no user name")
	}
	return names, nil
}

// commonName returns the certificate's only one, empty if it has none. Of several some programs take the first, others the
// last.
func commonName(cert *x509.Certificate) (string, error) {
	names := 0
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) { // RFC 4519, "cn"
			names++
		}
	}
	if names > 1 {
		return "", errors.New("client certificate contains several common names")
	}
	return cert.Subject.CommonName, nil
}
