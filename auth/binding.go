package auth

import (
	"crypto"
	_ "crypto/sha256" // for tls-server-end-point
	_ "crypto/sha512" // for tls-server-end-point
	"crypto/x509"
)

// EndPointBinding returns the channel binding data tls-server-end-point of a connection whose server has shown cert: the
// certificate's hash by the hash function of its signature, SHA-256 in place of MD5 and SHA-1. It is nil for no
// certificate, and where the signature has no single hash function (Ed25519): the binding is not defined then, and neither
// Postgres nor libpq can make one. Specification: RFC 5929, "The 'tls-server-end-point' Channel Binding Type".
func EndPointBinding(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}
