package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"sluice/internal/backend"
	"sluice/internal/config"
)

// connection looks at how each host of Postgres is reached, and how that is protected. It reports whether one is.
func (s *subject) connection(ctx context.Context) (reached bool) {
	b := &Block{Subject: s.title("connection to PostgreSQL")}
	for i, e := range s.site.Encryption(ctx) {
		local := s.t.Backend.Hosts[i].Local()
		switch {
		case e.Err != nil && !e.Plain:
			s.unreached(b, e)
			s.peer(b, e)
			continue
		case e.Plain && s.t.Backend.Hosts[i].Unix():
			b.ok("%s: a Unix socket, which stays on this machine", e.Host)
		case e.Plain && local:
			b.ok("%s: without TLS, on this machine", e.Host)
		case e.Plain && s.t.Backend.TLSMode == config.TLSDisable:
			b.warn("set backend.tls_mode to verify-full", "%s: without TLS (tls_mode disable): anybody on the way can read and change everything", e.Host)
		case e.Plain:
			why := "the server does not offer it"
			if e.Err != nil {
				why = e.Err.Error()
			}
			b.warn("have PostgreSQL offer TLS (ssl = on), and set backend.tls_mode to verify-full",
				"%s: without TLS, since tls_mode %s lets that be (%s): anybody on the way can read and change everything", e.Host, s.t.Backend.TLSMode, why)
		default:
			s.encrypted(b, e, local)
		}
		reached = true
	}
	s.block(b)
	return reached
}

// unreached explains a host that Sluice cannot use.
func (s *subject) unreached(b *Block, e backend.Encryption) {
	unknown, isUnknown := errors.AsType[x509.UnknownAuthorityError](e.Err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](e.Err)
	_, isName := errors.AsType[x509.HostnameError](e.Err)
	switch {
	case errors.Is(e.Err, backend.ErrTLSRefused):
		b.problem("have PostgreSQL offer TLS (ssl = on, ssl_cert_file, ssl_key_file), or choose another backend.tls_mode",
			"%s: tls_mode %s needs TLS, and the server does not offer it", e.Host, s.t.Backend.TLSMode)
	case errors.Is(e.Err, backend.ErrNoALPN):
		b.problem("set backend.tls_negotiation to postgres", "%s: %v", e.Host, e.Err)
	case isName:
		b.problem("set backend.server_name to one of the names, or have a certificate issued for this host",
			"%s: PostgreSQL's certificate is for another name: %s", e.Host, reasonOf(e.Err))
	case isInvalid && invalid.Reason == x509.Expired:
		b.problem(replaceServer, "%s: PostgreSQL's certificate, or one that it hangs on, is not valid now: %s", e.Host, reasonOf(e.Err))
	case isUnknown && unknown.Cert != nil:
		b.problem("put the authority's certificate, "+unknown.Cert.Issuer.String()+", into backend.ca_file; if it is there, PostgreSQL does not send what is in between: append that to its ssl_cert_file",
			"%s: PostgreSQL's certificate is signed by an authority that is not in backend.ca_file, or not known to this system", e.Host)
	default:
		b.problem("see that PostgreSQL runs there (listen_addresses, port), and that no firewall is in between", "%s: cannot be reached: %s", e.Host, reasonOf(e.Err))
	}
}

// encrypted says what TLS gives.
func (s *subject) encrypted(b *Block, e backend.Encryption, local bool) {
	how := tls.VersionName(e.State.Version) + ", " + tls.CipherSuiteName(e.State.CipherSuite)
	switch mode := s.t.Backend.TLSMode; {
	case mode == config.TLSVerifyFull:
		b.ok("%s: %s; the certificate is verified, and its name", e.Host, how)
	case mode == config.TLSVerifyCA || s.t.Backend.CAFile != "" && mode == config.TLSRequire:
		b.warn("set backend.tls_mode to verify-full", "%s: %s; the certificate is verified, but not its name: any server with one of that authority can sit in between", e.Host, how)
	case local:
		b.ok("%s: %s; the certificate is not verified, on this machine", e.Host, how)
	default:
		b.warn("set backend.tls_mode to verify-full, and backend.ca_file", "%s: %s; the certificate is not verified (tls_mode %s): anybody on the way can sit in between", e.Host, how, mode)
	}
	s.peer(b, e)
}

// peer looks at the certificates that the server has shown, as far as the handshake came.
func (s *subject) peer(b *Block, e backend.Encryption) {
	if e.State == nil || len(e.State.PeerCertificates) == 0 {
		return
	}
	leaf := e.State.PeerCertificates[0]
	b.ok("%s: PostgreSQL shows a certificate for %s, signed by %s", e.Host, names(leaf), leaf.Issuer)
	s.validity(b, e.Host.String(), e.State.PeerCertificates, replaceServer)
}

// reasonOf returns the text of an error without the address, which stands in front of it already.
func reasonOf(err error) string {
	if dial, ok := errors.AsType[*backend.DialError](err); ok {
		return dial.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "dial backend ")
}
