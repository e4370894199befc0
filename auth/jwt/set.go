package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// ErrKeySet is a key set that cannot be used.
var ErrKeySet = errors.New("no usable key set")

const (
	maxKeys    = 64   // of a set: a token that names none is tried with each
	minRSABits = 2048 // as RFC 7518 has it
	maxRSABits = 8192 // some 1 ms for each signature
)

// key is a public key that verifies signatures.
type key struct {
	id        string
	algorithm string // the only one that it is for; empty: all of its type
	public    any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// fits reports whether the key is for signatures by the algorithm.
func (k key) fits(algorithm string) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// rawKey is what is looked at of a key of a set before it is read.
type rawKey struct {
	Type       string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	Symmetric  any      `json:"k"`
	Private    any      `json:"d"`
}

// parseSet reads a JWK set. Keys that are for something else, of a type that is not known, or not public, are passed over.
//
// Errors: ErrKeySet, wrapped, if that leaves none; it quotes none of the set.
func parseSet(data []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	switch err := json.Unmarshal(data, &set); {
	case err != nil:
		return nil, fmt.Errorf("%w: not a JSON object with a list of keys", ErrKeySet)
	case len(set.Keys) > maxKeys:
		return nil, fmt.Errorf("%w: %d keys, at most %d", ErrKeySet, len(set.Keys), maxKeys)
	}
	var keys []key
	var passed []string
	for i, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil {
			passed = append(passed, fmt.Sprintf("key %d: %v", i, err))
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrKeySet, strings.Join(append(passed, "none is left"), "; "))
	}
	return keys, nil
}

// parseKey reads one key. Its errors quote nothing.
func parseKey(data []byte) (key, error) {
	var raw rawKey
	if json.Unmarshal(data, &raw) != nil {
		return key{}, errors.New("malformed")
	}
	switch {
	case raw.Symmetric != nil, raw.Private != nil:
		return key{}, errors.New("not public") // whoever can read the set can sign with it
	case raw.Use != "" && raw.Use != "sig", raw.Operations != nil && !slices.Contains(raw.Operations, "verify"):
		return key{}, errors.New("not for signatures")
	}
	var j jose.JSONWebKey
	if j.UnmarshalJSON(data) != nil || !j.Valid() || !j.IsPublic() {
		return key{}, errors.New("malformed, or of an unknown type")
	}
	k := key{id: j.KeyID, algorithm: j.Algorithm, public: j.Key}
	if k.algorithm == "Ed25519" { // RFC 9864 calls it so
		k.algorithm = "EdDSA"
	}
	if public, ok := j.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits) {
		return key{}, fmt.Errorf("RSA with other than %d to %d bits", minRSABits, maxRSABits)
	}
	if !slices.ContainsFunc(Algorithms(), k.fits) {
		return key{}, errors.New("for no algorithm that can count")
	}
	return k, nil
}
