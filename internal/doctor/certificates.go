package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sluice/internal/config"
)

// soon is how long before its end a certificate is warned of.
const soon = 30 * 24 * time.Hour

// What to do about certificates that end.
const (
	replaceOwn    = "replace it; Sluice reads it again by itself"
	replaceServer = "replace the server's certificate"
)

// ownCertificates looks at what Sluice shows to clients and to operators, and whom it believes.
func (e *examination) ownCertificates() {
	b := &Block{Subject: "TLS towards clients"}
	c := e.cfg.TLS
	if !c.Enabled() {
		b.warn("set tls.cert_file and tls.key_file", "clients are offered no TLS: what they send can be read on its way")
	} else {
		for _, pair := range append([]config.Certificate{{CertFile: c.CertFile, KeyFile: c.KeyFile}}, c.Certificates...) {
			e.certificate(b, pair.CertFile, pair.KeyFile)
		}
	}
	if c.ClientCAFile != "" {
		e.authorities(b, "tls.client_ca_file", c.ClientCAFile)
	}
	e.block(b)
	if a := e.cfg.Admin; a.CertFile != "" {
		b := &Block{Subject: "TLS of the admin address"}
		e.certificate(b, a.CertFile, a.KeyFile)
		e.block(b)
	}
}

// certificate looks at a certificate with its chain and key, which clients are shown.
func (e *examination) certificate(b *Block, certFile, keyFile string) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		b.problem("cert_file needs the certificate, then those that have signed it; key_file its key", "%s with %s: %v", certFile, keyFile, err)
		return
	}
	chain, err := parse(pair.Certificate)
	if err != nil {
		b.problem("replace it", "%s: %v", certFile, err)
		return
	}
	b.ok("%s: for %s, the key fits", certFile, names(chain[0]))
	if len(chain[0].DNSNames)+len(chain[0].IPAddresses) == 0 {
		b.warn("have it issued with subjectAltName", "%s names no host: clients with sslmode=verify-full refuse it, or hold it to its common name", certFile)
	}
	if !serves(chain[0]) {
		b.problem("have it issued with extendedKeyUsage serverAuth", "%s is not for servers: clients that verify refuse it", certFile)
	}
	e.links(b, certFile, chain)
	e.validity(b, certFile, chain, replaceOwn)
}

// links looks at whether each certificate of a file is signed by the next one, and what the last one hangs on.
func (e *examination) links(b *Block, file string, chain []*x509.Certificate) {
	for i, cert := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(cert); err != nil {
			b.problem("put behind each certificate the one that has signed it", "%s: certificate %d, %s, has not signed the one before it, %s", file, i+2, subjectOf(cert), subjectOf(chain[i]))
			return
		}
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	last := chain[len(chain)-1]
	selfSigned := last.CheckSignatureFrom(last) == nil
	_, err := chain[0].Verify(x509.VerifyOptions{Intermediates: intermediates, CurrentTime: chain[0].NotBefore.Add(time.Second)})
	switch {
	case err == nil:
		b.ok("%s: the chain leads to an authority that this system knows", file)
	case selfSigned || len(chain) == 1 && string(last.RawSubject) == string(last.RawIssuer):
		b.ok("%s: the chain ends at %s, which has signed itself: clients verify it with that as sslrootcert", file, subjectOf(last))
	case len(last.IssuingCertificateURL) > 0 && !last.IsCA:
		b.problem("append the certificate of "+last.Issuer.String()+": "+last.IssuingCertificateURL[0],
			"%s: the chain is not complete: %s has signed it, and is not in the file", file, last.Issuer)
	default:
		b.warn("if that is not a root that clients have as sslrootcert, append its certificate",
			"%s: the chain ends at what %s has signed, which this system does not know", file, last.Issuer)
	}
}

// validity looks at when the certificates of a chain begin and end.
func (e *examination) validity(b *Block, file string, chain []*x509.Certificate, replace string) {
	for _, cert := range chain {
		what := fmt.Sprintf("%s: %s", file, subjectOf(cert))
		left := cert.NotAfter.Sub(e.now)
		switch {
		case e.now.Before(cert.NotBefore):
			b.problem("look at the clock, or "+replace, "%s is not valid before %s", what, day(cert.NotBefore))
		case left < 0:
			b.problem(replace, "%s has expired on %s", what, day(cert.NotAfter))
		case left < soon:
			b.warn(replace, "%s expires in %s, on %s", what, plural(int(left/(24*time.Hour)), "day"), day(cert.NotAfter))
		default:
			b.ok("%s expires in %s, on %s", what, plural(int(left/(24*time.Hour)), "day"), day(cert.NotAfter))
		}
	}
}

// authorities looks at a file of authorities: those that have expired let nobody in.
func (e *examination) authorities(b *Block, key, file string) {
	data, err := os.ReadFile(file)
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil && err == nil; block, rest = pem.Decode(rest) {
		var cert *x509.Certificate
		if block.Type == "CERTIFICATE" {
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				chain = append(chain, cert)
			}
		}
	}
	switch {
	case err != nil:
		b.problem("replace it", "%s: %s: %v", key, file, err)
	case len(chain) == 0:
		b.problem("replace it", "%s: %s: has no certificate", key, file)
	}
	e.validity(b, file, chain, replaceOwn)
}

func parse(raw [][]byte) (chain []*x509.Certificate, err error) {
	for _, der := range raw {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}

// serves reports whether a certificate may be a server's.
func serves(cert *x509.Certificate) bool {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, usage := range cert.ExtKeyUsage {
		if usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

// names returns whom a certificate is for.
func names(cert *x509.Certificate) string {
	all := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return subjectOf(cert)
	}
	return strings.Join(all, ", ")
}

func subjectOf(cert *x509.Certificate) string {
	if name := cert.Subject.String(); name != "" {
		return name
	}
	return "a certificate without a subject"
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
