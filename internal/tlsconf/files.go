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

// reader reads PEM files and remembers what it read as a digest. The zero reader is ready.
type reader struct {
	sum [sha256.Size]byte
}

// digest identifies the contents of everything read so far, in order.
func (r *reader) digest() [sha256.Size]byte { return r.sum }

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
func (r *reader) keyPairs(pairs []KeyPair) ([]tls.Certificate, []leaf, error) {
	certificates := make([]tls.Certificate, 0, len(pairs))
	leaves := make([]leaf, 0, len(pairs))
	var problems []error
	for _, pair := range pairs {
		cert, err := r.keyPair(pair)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		certificates = append(certificates, cert)
		leaves = append(leaves, leaf{file: pair.CertFile, cert: cert.Leaf})
	}
	return certificates, leaves, errors.Join(problems...)
}

// keyPair reads a certificate with its chain and its key. The key may not be encrypted.
func (r *reader) keyPair(pair KeyPair) (tls.Certificate, error) {
	certPEM, err := r.read(pair.CertFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read certificate: %w", err)
	}
	keyPEM, err := r.read(pair.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read private key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s with private key %s: %w", pair.CertFile, pair.KeyFile, err)
	}
	return cert, nil
}

// authorities reads the certificates of a file of authorities.
func (r *reader) authorities(file string) (*x509.CertPool, error) {
	data, err := r.read(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	pool, err := parseAuthorities(data)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities %s: %w", file, err)
	}
	return pool, nil
}

// parseAuthorities makes a pool of the certificates in data. Unlike x509.CertPool.AppendCertsFromPEM it skips none
// that is broken: an authority that is silently missing shows up as a login that fails for no reason.
func parseAuthorities(data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	count := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		count++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", count, err)
		}
		pool.AddCert(cert)
	}
	if count == 0 {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
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
