package tlsconf

import "crypto/tls"

// Certificate is a certificate with its key for servers of other protocols, which is read again when its files change. It
// is safe for concurrent use.
type Certificate struct{ reloader }

// NewCertificate reads the files of pair. Errors name the file.
func NewCertificate(pair KeyPair) (*Certificate, error) {
	if err := pair.validate(); err != nil {
		return nil, err
	}
	c := &Certificate{}
	c.files, c.load = []string{pair.CertFile, pair.KeyFile}, func() (*material, error) {
		var files reader
		own, err := files.keyPair(pair)
		if err != nil {
			return nil, err
		}
		return &material{digest: files.sum, own: &own, shown: files.shown}, nil
	}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns a configuration for a server, which shows at each handshake the certificate of then. It belongs to the
// caller.
func (c *Certificate) Config() *tls.Config {
	config := Base()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load().own, nil }
	return config
}
