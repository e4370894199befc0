package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	issuer   = "https://issuer.example"
	audience = "sluice"
	role     = "app"
)

// signers is a private key for each algorithm.
type signers map[string]crypto.Signer

// keyring makes them once for all tests: RSA takes its time.
var keyring = sync.OnceValue(func() signers {
	all := make(signers)
	rsaKey, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		all[name] = rsaKey
	}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if all[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			panic(err)
		}
	}
	if _, all["EdDSA"], err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return all
})

// setOf returns a JWK set as an issuer publishes it.
func setOf(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// public returns the public half of the key for an algorithm, with a name.
func public(id, algorithm string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: keyring()[algorithm].Public(), KeyID: id, Use: "sig"}
}

// claims are those of a token that is taken, with changes; nil takes one away.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": issuer, "aud": audience, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "role": role, "sub": "alice",
	}
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// sign returns a token by the key for the algorithm.
func sign(t testing.TB, algorithm, id string, payload any, header map[jose.HeaderKey]any) []byte {
	t.Helper()
	return signWith(t, algorithm, keyring()[algorithm], id, payload, header)
}

func signWith(t testing.TB, algorithm string, key any, id string, payload any, header map[jose.HeaderKey]any) []byte {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: header}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: jose.JSONWebKey{Key: key, KeyID: id}}, options)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := payload.([]byte)
	if !ok {
		if body, err = json.Marshal(payload); err != nil {
			t.Fatal(err)
		}
	}
	jws, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

// params is what most tests want of a Verifier.
func params(k *Keys) Params {
	return Params{
		Keys: k, Issuer: issuer, Audience: []string{"other", audience}, RoleClaim: "role", Roles: []string{role, "web"},
		Algorithms: Algorithms(), Leeway: 30 * time.Second,
	}
}

func mustNew(t testing.TB, p Params) *Verifier {
	t.Helper()
	v, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fromFile returns the keys of a set that is read from a file.
func fromFile(t testing.TB, set []byte) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// admits opens and verifies a token for a role.
func admits(t testing.TB, v *Verifier, token []byte, as string) error {
	t.Helper()
	opened, err := v.Open(t.Context(), token)
	if err != nil {
		return err
	}
	return opened.Admits(as)
}

// changed returns the set of one key, with changes to its JSON.
func changed(t testing.TB, k jose.JSONWebKey, change func(map[string]any)) []byte {
	t.Helper()
	data, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	change(all)
	set, err := json.Marshal(map[string]any{"keys": []any{all}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
