package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFileBytes bounds a PEM file: the bundle of all public authorities is about 250 KiB.
const maxFileBytes = 8 << 20 // 8 MiB

// reader reads PEM files, and remembers what it has read. The zero reader is ready.
type reader struct {
	sum     [sha256.Size]byte // identifies the contents of everything, in order
	shown   []origin          // see material
	trusted []origin
	others  []origin
}

func (r *reader) read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err // an *fs.PathError: it names the file
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxFileBytes)
	}
	h := sha256.New()
	h.Write(r.sum[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
	h.Write(data)
	h.Sum(r.sum[:0])
	return data, nil
}

// keyPairs reads all pairs. The error lists every one that is wrong.
func (r *reader) keyPairs(pairs []KeyPair) ([]tls.Certificate, error) {
	certificates := make([]tls.Certificate, 0, len(pairs))
	var problems []error
	for _, pair := range pairs {
		cert, err := r.keyPair(pair)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		certificates = append(certificates, cert)
	}
	return certificates, errors.Join(problems...)
}

// keyPair reads a certificate with its chain and its key. The key may not be encrypted.
func (r *reader) keyPair(pair KeyPair) (tls.Certificate, error) {
	certPEM, err := r.read(pair.CertFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert_file: %w", err)
	}
	keyPEM, err := r.read(pair.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key_file: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert_file %s with key_file %s: %w", pair.CertFile, pair.KeyFile, err)
	}
	first := cert.Leaf // a chain ends with the first of its certificates
	for _, c := range chainOf(cert) {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	r.shown = append(r.shown, origin{pair.CertFile, first})
	return cert, nil
}

// authorities reads the certificates of a file of authorities: as a pool, and as PEM that holds nothing else.
func (r *reader) authorities(file string) (*x509.CertPool, []byte, error) {
	data, err := r.read(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	certificates, err := parseAuthorities(data)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate authorities %s: %w", file, err)
	}
	pool, last := x509.NewCertPool(), certificates[0]
	for _, c := range certificates {
		pool.AddCert(c)
		if c.NotAfter.After(last.NotAfter) {
			last = c
		}
	}
	r.trusted = append(r.trusted, origin{file, last})
	for _, c := range certificates {
		if c != last {
			r.others = append(r.others, origin{file, c})
		}
	}
	return pool, encode(certificates), nil
}

// parseAuthorities returns the certificates in data, at least one. Unlike x509.CertPool.AppendCertsFromPEM it skips none
// that is broken: an authority that is silently missing shows up as a login that fails for no reason.
func parseAuthorities(data []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, cert)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certificates, nil
}

// under names the key of the file that err is about; nil stays nil.
func under(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

func (p KeyPair) validate() error {
	switch {
	case p.CertFile == "" && p.KeyFile == "":
		return errors.New("neither cert_file nor key_file")
	case p.CertFile == "":
		return fmt.Errorf("key_file %s without cert_file", p.KeyFile)
	case p.KeyFile == "":
		return fmt.Errorf("cert_file %s without key_file", p.CertFile)
	}
	return nil
}
