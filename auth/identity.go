package auth

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
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

// IdentityError is a client whose certificate, or whose user of the operating system, is not that of its role. It unwraps
// to ErrIdentity.
type IdentityError struct {
	Method   Method // Cert or SocketUser
	Role     string
	Identity string // who the client is; empty if that cannot be told
	Err      error  // why not; nil if it can
}

func (e *IdentityError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s authentication for role %q: %v", e.Method, e.Role, e.Err)
	}
	return fmt.Sprintf("%s authentication for role %q: the client is %q", e.Method, e.Role, e.Identity)
}

// Unwrap returns ErrIdentity and the cause.
func (e *IdentityError) Unwrap() []error { return []error{ErrIdentity, e.Err} }

// identified admits a client that is proved to be its role otherwise than by a secret, with what is stored of the role.
func (a *Authenticator) identified(ctx context.Context, p Peer) (Credential, error) {
	identity, err := a.identity(p)
	switch {
	case errors.Is(err, ErrNeedsTLS), errors.Is(err, ErrNeedsCertificate), errors.Is(err, ErrNeedsSocket):
		return Credential{}, err
	case err != nil || identity != p.Role:
		return Credential{}, &IdentityError{Method: a.method, Role: p.Role, Identity: identity, Err: err}
	}
	return a.trusted(ctx, p.Role)
}

// identity returns who the client is, by the method.
func (a *Authenticator) identity(p Peer) (string, error) {
	if a.method == SocketUser {
		if p.User == nil {
			return "", ErrNeedsSocket
		}
		return p.User()
	}
	switch {
	case !p.TLS:
		return "", ErrNeedsTLS
	case p.Certificate == nil:
		return "", ErrNeedsCertificate
	}
	return commonName(p.Certificate)
}

// commonName returns the certificate's only one. With a zero byte in it, it is one name to some programs and another to
// the authority that has signed it; the same goes for the first and the last of several.
func commonName(cert *x509.Certificate) (string, error) {
	names := 0
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) { // RFC 4519, "cn"
			names++
		}
	}
	name := cert.Subject.CommonName
	switch {
	case name == "":
		return "", errors.New("client certificate contains no user name")
	case names > 1:
		return "", errors.New("client certificate contains several common names")
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("client certificate's common name contains a zero byte")
	}
	return name, nil
}
