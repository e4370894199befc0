// Package jwt decides whether a JSON web token of an issuer lets its bearer log in as a role.
//
// A Verifier holds tokens against the issuer's Keys, which come from a file or are fetched from a URL. Only signatures by
// public keys count, by algorithms that are named beforehand and that fit the key.
//
// Specifications: RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), RFC 8725 (best practices).
package jwt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Why a token does not let its bearer in. None of the errors quotes the token.
var (
	ErrMalformed = errors.New("malformed token")
	ErrAlgorithm = errors.New("token with an algorithm that is not admitted, or not for this key")
	ErrType      = errors.New("token of another type than JWT")
	ErrKey       = errors.New("token signed by an unknown key")
	ErrSignature = errors.New("wrong signature of the token")
	ErrExpired   = errors.New("token expired")
	ErrNoExpiry  = errors.New("token without expiry")
	ErrEarly     = errors.New("token not valid yet")
	ErrIssuer    = errors.New("token of another issuer")
	ErrAudience  = errors.New("token for another audience")
	ErrRole      = errors.New("the role is not in the token")
	ErrNotListed = errors.New("the role may not log in by token")
	// ErrNoKeys is an issuer whose keys are not known, or were fetched too long ago: nothing is known about the token.
	ErrNoKeys = errors.New("the keys of the token's issuer are not known")
)

// maxHeader bounds the first part of a token, which is read before anything is verified.
const maxHeader = 4 << 10 // 4 KiB: it names an algorithm and a key

// Params is what a Verifier works with.
type Params struct {
	Keys     *Keys
	Issuer   string   // that the token must be of
	Audience []string // of which the token must be for one
	// RoleClaim is the claim that has the role, or a list of roles; with a slash in front the way to it, as in
	// /realm_access/roles (RFC 6901, objects only).
	RoleClaim  string
	Roles      []string      // that may log in by token at all
	Algorithms []string      // that count; see Algorithms
	Leeway     time.Duration // by which clocks may differ
}

// Algorithms returns the names of all that can count.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	p          Params
	algorithms []jose.SignatureAlgorithm
	claim      []string // the way to the role
}

// New returns a Verifier. Errors say which parameter is missing or cannot be.
func New(p Params) (*Verifier, error) {
	switch {
	case p.Keys == nil, p.Issuer == "", len(p.Audience) == 0, len(p.Roles) == 0, len(p.Algorithms) == 0:
		return nil, errors.New("tokens need keys, an issuer, an audience, roles and algorithms")
	case p.RoleClaim == "" || p.RoleClaim == "/":
		return nil, errors.New("no claim has the role")
	}
	v := &Verifier{p: p, claim: claimPath(p.RoleClaim)}
	for _, name := range p.Algorithms {
		if !slices.Contains(Algorithms(), name) {
			return nil, fmt.Errorf("unknown algorithm %q", name)
		}
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(name))
	}
	return v, nil
}

// claimPath returns the names that lead to a claim.
func claimPath(claim string) []string {
	pointer, is := strings.CutPrefix(claim, "/")
	if !is {
		return []string{claim}
	}
	path := strings.Split(pointer, "/")
	for i := range path {
		path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[i])
	}
	return path
}

// Token is one that can be read, with the keys that it may be signed by.
type Token struct {
	v    *Verifier
	jws  *jose.JSONWebSignature
	keys []key

	subject string
}

// Subject returns whom the token is about (claim sub), once Admits has admitted somebody; empty if it does not say.
func (t *Token) Subject() string { return t.subject }

// Open reads a token and finds the keys that it may be signed by. Where it names one that is not known it may wait until
// the issuer has been asked again, or ctx is done.
//
// Errors: ErrMalformed, ErrAlgorithm, ErrType, ErrKey, ErrNoKeys, wrapped, or ctx's cause.
func (v *Verifier) Open(ctx context.Context, token []byte) (*Token, error) {
	if bytes.IndexByte(token[:min(len(token), maxHeader)], '.') < 0 {
		return nil, ErrMalformed
	}
	jws, err := jose.ParseSignedCompact(string(token), v.algorithms)
	if _, other := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); other {
		return nil, ErrAlgorithm
	}
	if err != nil || len(jws.Signatures) != 1 {
		return nil, ErrMalformed // what the library says may quote the token
	}
	header := jws.Signatures[0].Protected
	if err := checkHeader(header); err != nil {
		return nil, err
	}
	keys, err := v.p.Keys.named(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k key) bool { return !k.fits(header.Algorithm) })
	if len(keys) == 0 {
		return nil, ErrAlgorithm
	}
	return &Token{v: v, jws: jws, keys: keys}, nil
}

// checkHeader refuses tokens that are meant for something else, and those with extensions that must be understood.
func checkHeader(h jose.Header) error {
	if _, critical := h.ExtraHeaders["crit"]; critical {
		return ErrMalformed
	}
	typ, named := h.ExtraHeaders[jose.HeaderType]
	if !named {
		return nil
	}
	name, _ := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(name), "application/") {
	case "jwt", "at+jwt":
		return nil
	}
	return ErrType
}

// Admits verifies the token and reports by nil that its bearer may log in as role now. It computes for some 100 µs, and
// can be called once.
//
// Errors: ErrSignature, ErrMalformed, ErrExpired, ErrNoExpiry, ErrEarly, ErrIssuer, ErrAudience, ErrNotListed, ErrRole.
func (t *Token) Admits(role string) error {
	defer clear(t.jws.Signatures[0].Signature) // without it the token is worth nothing
	payload, err := t.verify()
	if err != nil {
		return err
	}
	defer clear(payload)
	var claims jwt.Claims
	if json.Unmarshal(payload, &claims) != nil {
		return ErrMalformed
	}
	if err := t.v.checkClaims(&claims); err != nil {
		return err
	}
	switch {
	case !slices.Contains(t.v.p.Roles, role):
		return ErrNotListed
	case !slices.Contains(roles(payload, t.v.claim), role):
		return ErrRole
	}
	t.subject = claims.Subject
	return nil
}

// verify returns what is signed by one of the keys.
func (t *Token) verify() ([]byte, error) {
	for _, k := range t.keys {
		if payload, err := t.jws.Verify(k.public); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}

// checkClaims checks everything but the role.
func (v *Verifier) checkClaims(c *jwt.Claims) error {
	if c.Expiry == nil {
		return ErrNoExpiry
	}
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: v.p.Issuer, AnyAudience: v.p.Audience, Time: time.Now()}, v.p.Leeway)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return ErrEarly
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return ErrIssuer
	case errors.Is(err, jwt.ErrInvalidAudience):
		return ErrAudience
	}
	return ErrMalformed
}

// roles returns what stands in the claim that path leads to: one role, or a list; nothing if it is anything else.
func roles(payload []byte, path []string) []string {
	for _, name := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(payload, &object) != nil {
			return nil
		}
		payload = object[name]
	}
	var one string
	if json.Unmarshal(payload, &one) == nil {
		return []string{one}
	}
	var list []string
	if json.Unmarshal(payload, &list) != nil {
		return nil
	}
	return list
}
