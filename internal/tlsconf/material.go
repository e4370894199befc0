package tlsconf

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// material is what was read from the files at one time and the configurations made of it. It is immutable.
type material struct {
	order  uint64
	digest [sha256.Size]byte // of all that was read
	config *tls.Config       // nil: disabled
	direct *tls.Config
	hosts  map[string]*tls.Config // of Backends; nil: without TLS
	own    *tls.Certificate       // of a Certificate

	shown       []origin // certificates that we show
	trusted     []origin // of each file of authorities the certificate that is valid for longest
	others      []origin // the others in files of authorities
	authorities []byte   // see Server.Authorities
	doubts      []error  // warnings that have nothing to do with the time
}

// origin is a certificate and the file that it came from.
type origin struct {
	file string
	cert *x509.Certificate
}

// load reads the files of p and builds the configurations.
func load(p ServerParams) (*material, error) {
	pairs := p.pairs()
	if len(pairs) == 0 {
		return &material{}, nil
	}
	var files reader
	m := &material{}
	certificates, err := files.keyPairs(pairs)
	problems := []error{err}
	var clientCAs, ownCAs *x509.CertPool
	if p.ClientCert.asks() {
		clientCAs, _, err = files.authorities(p.ClientCAFile)
		problems = append(problems, under("client_ca_file", err))
	}
	if p.CAFile != "" {
		ownCAs, m.authorities, err = files.authorities(p.CAFile)
		problems = append(problems, under("ca_file", err))
	}
	base := Base()
	base.MinVersion, err = p.MinVersion.number()
	problems = append(problems, err)
	base.CurvePreferences, err = curveIDs(p.Curves)
	problems = append(problems, err)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	m.digest, m.shown, m.trusted, m.others = files.sum, files.shown, files.trusted, files.others
	if p.CAFile == "" {
		m.authorities = roots(certificates)
	} else {
		m.doubts = unsigned(certificates, pairs, ownCAs, p.CAFile)
	}
	// Two configurations, not one and its clone: a clone shares the keys of the session tickets.
	m.config = serverConfig(base, certificates, clientCAs, p.ClientCert)
	m.direct = directConfig(serverConfig(base, certificates, clientCAs, p.ClientCert))
	return m, nil
}

func serverConfig(base *tls.Config, certificates []tls.Certificate, clientCAs *x509.CertPool, rule ClientCert) *tls.Config {
	config := &tls.Config{
		MinVersion:       base.MinVersion,
		CipherSuites:     base.CipherSuites,
		CurvePreferences: base.CurvePreferences,
		NextProtos:       []string{ALPN}, // who asks for other protocols only is refused, who asks for none is not
		ClientCAs:        clientCAs,
		// In place of Certificates, so that the choice of a certificate and its note are the same.
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return choose(certificates, hello), nil },
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			note(hello, choose(certificates, hello))
			return nil, nil
		},
	}
	switch rule {
	case ClientCertOptional:
		config.ClientAuth = tls.VerifyClientCertIfGiven
	case ClientCertRequired:
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if rule.asks() {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyClient(state, clientCAs, rule == ClientCertRequired)
		}
	}
	return config
}

// noteKey is where a context has the place for the note, a **x509.Certificate.
type noteKey struct{}

// Noting returns a context for HandshakeContext, with which the handshake notes in *leaf which of the server's certificates
// belongs to it; crypto/tls has no field for that. A resumed session shows none. Then it is the one that a client of the
// same server name is shown, and that is the one of the first handshake: its ticket has come from the same configuration.
// (A client that resumes under another server name binds to a certificate that we do not expect.)
func Noting(ctx context.Context, leaf **x509.Certificate) context.Context {
	return context.WithValue(ctx, noteKey{}, leaf)
}

func note(hello *tls.ClientHelloInfo, cert *tls.Certificate) {
	if leaf, ok := hello.Context().Value(noteKey{}).(**x509.Certificate); ok {
		*leaf = cert.Leaf
	}
}

// choose returns the first certificate that suits the client, else the first of all, as crypto/tls does.
func choose(certificates []tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	for i := range certificates {
		if len(certificates) == 1 || hello.SupportsCertificate(&certificates[i]) == nil {
			return &certificates[i]
		}
	}
	return &certificates[0]
}

// directConfig makes config refuse clients that did not agree on the protocol. crypto/tls itself refuses only those
// that ask for other protocols, not those that ask for none.
func directConfig(config *tls.Config) *tls.Config {
	clientRule := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol != ALPN {
			return ErrNoALPN
		}
		if clientRule == nil {
			return nil
		}
		return clientRule(state)
	}
	return config
}

// verifyClient holds a client's certificate against the rules. It repeats for resumed sessions what crypto/tls does
// in a full handshake: the certificate of a ticket may have expired since the ticket was issued.
func verifyClient(state tls.ConnectionState, authorities *x509.CertPool, required bool) error {
	if len(state.PeerCertificates) == 0 {
		if required {
			return ErrNoClientCertificate
		}
		return nil
	}
	if !state.DidResume {
		return nil
	}
	return verifyChain(state.PeerCertificates, authorities, x509.ExtKeyUsageClientAuth)
}

// asks reports whether clients are asked for a certificate.
func (c ClientCert) asks() bool { return c == ClientCertOptional || c == ClientCertRequired }
