package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Pool reads a file of authorities, for whoever has to trust them and nobody else. Errors name the file.
func Pool(file string) (*x509.CertPool, error) {
	var files reader
	pool, _, err := files.authorities(file)
	return pool, err
}

// encode returns certificates as PEM.
func encode(certificates []*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, c := range certificates {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Buffer takes everything
	}
	return text.Bytes()
}

// chainOf returns the certificates that are shown, the leaf first.
func chainOf(cert tls.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil { // one that cannot be read helps no client either
			chain = append(chain, c)
		}
	}
	return chain
}

// roots returns, as PEM, the last certificates of the chains that have signed themselves, each once: what clients can
// be told to trust. One that another has signed is not enough for libpq, which wants a chain up to its root.
func roots(certificates []tls.Certificate) []byte {
	var found []*x509.Certificate
	seen := make(map[string]bool)
	for _, cert := range certificates {
		chain := chainOf(cert)
		if last := chain[len(chain)-1]; signsItself(last) && !seen[string(last.Raw)] {
			seen[string(last.Raw)] = true
			found = append(found, last)
		}
	}
	return encode(found)
}

func signsItself(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// unsigned returns a warning for each certificate that the authorities of a file do not vouch for. That it is not valid now
// is another matter.
func unsigned(certificates []tls.Certificate, pairs []KeyPair, authorities *x509.CertPool, file string) (warnings []error) {
	for i, cert := range certificates {
		err := verifyChain(chainOf(cert), authorities, x509.ExtKeyUsageServerAuth)
		var invalid x509.CertificateInvalidError
		if err != nil && (!errors.As(err, &invalid) || invalid.Reason != x509.Expired) {
			warnings = append(warnings, fmt.Errorf("certificate %s is not signed by an authority of %s: %w", pairs[i].CertFile, file, err))
		}
	}
	return warnings
}

// verifyChain verifies the chain whose leaf comes first; nil authorities are those of the system.
func verifyChain(chain []*x509.Certificate, authorities *x509.CertPool, usage x509.ExtKeyUsage) error {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         authorities,
		Intermediates: intermediates,
		CurrentTime:   time.Now(),
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	return err
}
