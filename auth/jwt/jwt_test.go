package jwt

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// all returns a set with every key, each named by its algorithm.
func all(t testing.TB) []byte {
	t.Helper()
	var keys []jose.JSONWebKey
	for _, name := range Algorithms() {
		keys = append(keys, public(name, name))
	}
	return setOf(t, keys...)
}

func TestTokensOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	v := mustNew(t, params(fromFile(t, all(t))))
	for _, name := range Algorithms() {
		if err := admits(t, v, sign(t, name, name, claims(nil), nil), role); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := admits(t, v, sign(t, name, "", claims(nil), nil), role); err != nil {
			t.Errorf("%s, without the key's name: %v", name, err)
		}
		p := params(fromFile(t, all(t)))
		p.Algorithms = nil
		for _, other := range Algorithms() {
			if other != name {
				p.Algorithms = append(p.Algorithms, other)
			}
		}
		if err := admits(t, mustNew(t, p), sign(t, name, name, claims(nil), nil), role); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%s, which does not count: %v", name, err)
		}
	}
}

func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for _, tc := range []struct {
			name    string
			changes map[string]any
			role    string
			want    error
		}{
			{"as they should be", nil, role, nil},
			{"a list of roles", map[string]any{"role": []string{"other", role}}, role, nil},
			{"the other role of the list", map[string]any{"role": []string{"web", role}}, "web", nil},
			{"a list of audiences", map[string]any{"aud": []string{"x", audience}}, role, nil},
			{"another role", nil, "web", ErrRole},
			{"a role that is not listed", map[string]any{"role": []string{"postgres", role}}, "postgres", ErrNotListed},
			{"no role", map[string]any{"role": nil}, role, ErrRole},
			{"a role in a longer one", map[string]any{"role": role + ",web"}, role, ErrRole},
			{"a role of another type", map[string]any{"role": map[string]any{role: true}}, role, ErrRole},
			{"a list of other types", map[string]any{"role": []any{role, 1}}, role, ErrRole},
			{"the claim in capitals", map[string]any{"role": nil, "ROLE": role}, role, ErrRole},
			{"another issuer", map[string]any{"iss": issuer + "/"}, role, ErrIssuer},
			{"no issuer", map[string]any{"iss": nil}, role, ErrIssuer},
			{"another audience", map[string]any{"aud": "somebody"}, role, ErrAudience},
			{"no audience", map[string]any{"aud": nil}, role, ErrAudience},
			{"an audience of another type", map[string]any{"aud": 1}, role, ErrMalformed},
			{"no expiry", map[string]any{"exp": nil}, role, ErrNoExpiry},
			{"an expiry of another type", map[string]any{"exp": "tomorrow"}, role, ErrMalformed},
			{"expired within the leeway", map[string]any{"exp": now - 30}, role, nil},
			{"expired", map[string]any{"exp": now - 31}, role, ErrExpired},
			{"not yet, within the leeway", map[string]any{"nbf": now + 30}, role, nil},
			{"not yet", map[string]any{"nbf": now + 31}, role, ErrEarly},
			{"from the future", map[string]any{"iat": now + 31}, role, ErrEarly},
		} {
			v := mustNew(t, params(fromFile(t, setOf(t, public("k", "ES256")))))
			if err := admits(t, v, sign(t, "ES256", "k", claims(tc.changes), nil), tc.role); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
			}
		}
	})
}

func TestRoleClaimCanBeDeep(t *testing.T) {
	t.Parallel()
	deep := map[string]any{"role": nil, "realm_access": map[string]any{"a/b": []string{role}}, "https://x.example/role": role}
	for claim, want := range map[string]error{
		"/realm_access/a~1b":     nil,
		"https://x.example/role": nil,
		"/realm_access":          ErrRole,
		"/realm_access/a":        ErrRole,
		"/realm_access/a~1b/0":   ErrRole,
		"/iss/x":                 ErrRole,
		"realm_access/a~1b":      ErrRole,
	} {
		p := params(fromFile(t, setOf(t, public("k", "ES256"))))
		p.RoleClaim = claim
		if err := admits(t, mustNew(t, p), sign(t, "ES256", "k", claims(deep), nil), role); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", claim, err, want)
		}
	}
}

// forge returns a token of these parts, each as it is.
func forge(header, payload string, signature []byte) []byte {
	b64 := base64.RawURLEncoding.EncodeToString
	return []byte(b64([]byte(header)) + "." + b64([]byte(payload)) + "." + b64(signature))
}

func TestForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	v := mustNew(t, params(fromFile(t, all(t))))
	good := string(sign(t, "RS256", "RS256", claims(nil), nil))
	parts := strings.Split(good, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(keyring()["ES256"].Public().(*ecdsa.PublicKey).Curve, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(keyring()["RS256"].Public())
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	modulus := keyring()["RS256"].Public().(*rsa.PublicKey).N.Bytes()
	embedded := map[jose.HeaderKey]any{"jwk": jose.JSONWebKey{Key: own.Public()}}
	for name, tc := range map[string]struct {
		token []byte
		want  error
	}{
		"none":                                {forge(`{"alg":"none"}`, string(body), nil), ErrAlgorithm},
		"None, with the key's name":           {forge(`{"alg":"None","kid":"RS256"}`, string(body), nil), ErrAlgorithm},
		"no algorithm":                        {forge(`{"kid":"RS256"}`, string(body), nil), ErrAlgorithm},
		"HS256 by the public key as PEM":      {signWith(t, "HS256", asPEM, "RS256", body, nil), ErrAlgorithm},
		"HS256 by the public key as DER":      {signWith(t, "HS256", der, "RS256", body, nil), ErrAlgorithm},
		"HS512 by the modulus":                {signWith(t, "HS512", modulus, "RS256", body, nil), ErrAlgorithm},
		"the name of a key of another type":   {sign(t, "ES256", "RS256", claims(nil), nil), ErrAlgorithm},
		"the name of a key of another curve":  {sign(t, "ES256", "ES384", claims(nil), nil), ErrAlgorithm},
		"an unknown key":                      {sign(t, "ES256", "nobody's", claims(nil), nil), ErrKey},
		"another key by the name of a known":  {signWith(t, "ES256", own, "ES256", claims(nil), nil), ErrSignature},
		"a key that comes along":              {signWith(t, "ES256", own, "", claims(nil), embedded), ErrSignature},
		"a key that comes along, named":       {signWith(t, "ES256", own, "ES256", claims(nil), embedded), ErrSignature},
		"another body":                        {[]byte(parts[0] + "." + parts[1][:len(parts[1])-4] + "AAAA." + parts[2]), ErrSignature},
		"no signature":                        {[]byte(parts[0] + "." + parts[1] + "."), ErrSignature},
		"a signature of zeros":                {forge(`{"alg":"ES256","kid":"ES256"}`, string(body), make([]byte, 64)), ErrSignature},
		"one part":                            {[]byte(parts[0]), ErrMalformed},
		"four parts":                          {[]byte(good + ".x"), ErrMalformed},
		"nothing":                             {nil, ErrMalformed},
		"JSON":                                {[]byte(`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`), ErrMalformed},
		"not base64":                          {[]byte("!!." + parts[1] + "." + parts[2]), ErrMalformed},
		"a long header":                       {append([]byte(strings.Repeat("A", maxHeader)), good...), ErrMalformed},
		"a logout token":                      {sign(t, "RS256", "RS256", claims(nil), map[jose.HeaderKey]any{"typ": "logout+jwt"}), ErrType},
		"a type that is no text":              {sign(t, "RS256", "RS256", claims(nil), map[jose.HeaderKey]any{"typ": 1}), ErrType},
		"an extension that must be known":     {sign(t, "RS256", "RS256", claims(nil), map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}), ErrMalformed},
		"claims that are no object":           {sign(t, "RS256", "RS256", []byte("[]"), nil), ErrMalformed},
		"a claim that stands there twice":     {sign(t, "RS256", "RS256", []byte(`{"iss":"x","iss":"`+issuer+`"}`), nil), ErrMalformed},
		"an access token, which is as good":   {sign(t, "RS256", "RS256", claims(nil), map[jose.HeaderKey]any{"typ": "application/at+JWT"}), nil},
		"a token of several KiB, as good too": {sign(t, "RS256", "RS256", claims(map[string]any{"groups": strings.Repeat("group ", 5000)}), nil), nil},
	} {
		err := admits(t, v, tc.token, role)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err != nil && len(tc.token) > 0 && strings.Contains(err.Error(), string(tc.token[:min(10, len(tc.token))])) {
			t.Errorf("%s: the error quotes the token: %v", name, err)
		}
	}
}

func TestKeysThatDoNotFitAreNotUsed(t *testing.T) {
	t.Parallel()
	token := sign(t, "RS256", "k", claims(nil), nil)
	key := func(change func(map[string]any)) []byte {
		return changed(t, public("k", "RS256"), change)
	}
	for name, tc := range map[string]struct {
		set  []byte
		want error
	}{
		"for signatures":      {key(func(map[string]any) {}), nil},
		"for this algorithm":  {key(func(k map[string]any) { k["alg"] = "RS256" }), nil},
		"to verify":           {key(func(k map[string]any) { k["key_ops"] = []string{"verify"} }), nil},
		"for another":         {key(func(k map[string]any) { k["alg"] = "PS256" }), ErrAlgorithm},
		"for encryption":      {key(func(k map[string]any) { k["use"] = "enc" }), ErrKeySet},
		"to encrypt":          {key(func(k map[string]any) { k["key_ops"] = []string{"encrypt"} }), ErrKeySet},
		"for its encryption":  {key(func(k map[string]any) { k["alg"] = "RSA-OAEP" }), ErrKeySet},
		"for HMAC":            {key(func(k map[string]any) { k["alg"] = "HS256" }), ErrKeySet},
		"a private one":       {key(func(k map[string]any) { k["d"] = "AQ" }), ErrKeySet},
		"a symmetric one":     {[]byte(`{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}`), ErrKeySet},
		"an unknown type":     {[]byte(`{"keys":[{"kty":"new","kid":"k"}]}`), ErrKeySet},
		"an empty one":        {[]byte(`{"keys":[{}]}`), ErrKeySet},
		"none":                {[]byte(`{"keys":[]}`), ErrKeySet},
		"no set":              {[]byte(`[]`), ErrKeySet},
		"no JSON":             {[]byte(`<html>`), ErrKeySet},
		"a short one":         {key(func(k map[string]any) { k["n"] = "AQAB" }), ErrKeySet},
		"too many":            {[]byte(`{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`), ErrKeySet},
		"two by one name":     {setOf(t, public("k", "ES256"), public("k", "RS256")), nil},
		"beside unknown ones": {append([]byte(`{"keys":[{"kty":"new"},{"kty":"oct","k":"x"},`), key(func(map[string]any) {})[len(`{"keys":[`):]...), nil},
	} {
		keys, err := parseSet(tc.set)
		if err == nil {
			err = admits(t, mustNew(t, params(&Keys{set: keys})), token, role)
		}
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *Params){
		"keys": func(p *Params) { p.Keys = nil }, "issuer": func(p *Params) { p.Issuer = "" },
		"audience": func(p *Params) { p.Audience = nil }, "claim": func(p *Params) { p.RoleClaim = "/" },
		"roles": func(p *Params) { p.Roles = nil }, "algorithms": func(p *Params) { p.Algorithms = nil },
		"HS256": func(p *Params) { p.Algorithms = []string{"HS256"} }, "none": func(p *Params) { p.Algorithms = []string{"none"} },
	} {
		p := params(&Keys{})
		change(&p)
		if _, err := New(p); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzTokensAndKeySets(f *testing.F) {
	f.Add(all(f), sign(f, "RS256", "RS256", claims(nil), nil))
	f.Add(setOf(f, public("k", "ES256")), sign(f, "ES256", "", claims(nil), map[jose.HeaderKey]any{"typ": "JWT"}))
	f.Add(setOf(f, public("", "EdDSA")), forge(`{"alg":"EdDSA","crit":["b64"],"b64":false}`, `{}`, make([]byte, 64)))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`), forge(`{"alg":"RS256","x5c":["AA=="],"jwk":{"kty":"RSA"}}`, `{"exp":1e400}`, nil))
	mine := fromFile(f, all(f))
	f.Fuzz(func(t *testing.T, set, token []byte) {
		if keys, err := parseSet(set); err == nil {
			_ = admits(t, mustNew(t, params(&Keys{set: keys})), token, role) // whoever writes the set may sign
		}
		err := admits(t, mustNew(t, params(mine)), token, role)
		switch {
		case err == nil: // it is one of those above
		case errors.Is(err, ErrMalformed), errors.Is(err, ErrAlgorithm), errors.Is(err, ErrType), errors.Is(err, ErrKey),
			errors.Is(err, ErrSignature), errors.Is(err, ErrExpired):
		default:
			t.Errorf("%q: %v", token, err)
		}
	})
}
