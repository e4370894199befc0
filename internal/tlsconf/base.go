package tlsconf

import (
	"crypto/tls"
	"fmt"
)

// Base returns what every configuration begins with, towards clients, Postgres and operators: TLS 1.2 or newer, and in 1.2
// only suites with forward secrecy (ECDHE) and authenticated encryption; 1.3 has no others. It belongs to the caller.
func Base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// Version is a TLS version as configuration files write it.
type Version string

// The versions; the empty Version is Version12.
const (
	Version12 Version = "1.2"
	Version13 Version = "1.3"
)

func (v Version) number() (uint16, error) {
	switch v {
	case "", Version12:
		return tls.VersionTLS12, nil
	case Version13:
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unknown tls version %q: want 1.2 or 1.3", string(v))
}

// Curve is a way to exchange keys, as configuration files write it.
type Curve string

// The curves, and those that are combined with a method that withstands quantum computers, for TLS 1.3 only.
const (
	CurveX25519             Curve = "X25519"
	CurveP256               Curve = "P-256"
	CurveP384               Curve = "P-384"
	CurveP521               Curve = "P-521"
	CurveX25519MLKEM768     Curve = "X25519MLKEM768"
	CurveSecP256r1MLKEM768  Curve = "SecP256r1MLKEM768"
	CurveSecP384r1MLKEM1024 Curve = "SecP384r1MLKEM1024"
)

func (c Curve) number() (tls.CurveID, error) {
	switch c {
	case CurveX25519:
		return tls.X25519, nil
	case CurveP256:
		return tls.CurveP256, nil
	case CurveP384:
		return tls.CurveP384, nil
	case CurveP521:
		return tls.CurveP521, nil
	case CurveX25519MLKEM768:
		return tls.X25519MLKEM768, nil
	case CurveSecP256r1MLKEM768:
		return tls.SecP256r1MLKEM768, nil
	case CurveSecP384r1MLKEM1024:
		return tls.SecP384r1MLKEM1024, nil
	}
	return 0, fmt.Errorf("unknown curve %q", string(c))
}

// curveIDs returns the curves for a tls.Config; none are those of crypto/tls.
func curveIDs(curves []Curve) ([]tls.CurveID, error) {
	var ids []tls.CurveID
	for _, c := range curves {
		id, err := c.number()
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
