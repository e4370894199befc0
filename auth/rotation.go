package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// While a role's password changes two secrets are good. One exchange can check a client against both, but for two SCRAM
// verifiers with different salts, or where one secret is asked for by md5 and the other by SCRAM: then it is the client's
// turn with the one that it has proved last, and after a failure with the other.

// together reports whether one exchange can check a client against both secrets.
func (m Method) together(a, b Secret) bool {
	method := m.forSecret(a)
	if method != m.forSecret(b) {
		return false
	}
	return method != SCRAMSHA256 || !a.isVerifier() || !b.isVerifier() || a.s.verifier.SameSalt(*b.s.verifier)
}

// choose decides which of the valid secrets this exchange asks for.
func (x *exchange) choose(a *Authenticator) {
	x.asked = x.valid
	if len(x.valid) < 2 || a.method.together(x.valid[0], x.valid[1]) {
		return
	}
	x.turns = a.turns
	first := 0
	if x.turns.has(x.who(), x.valid[1]) {
		first = 1
	}
	x.asked = x.valid[first : first+1]
}

// who is whose turn it is.
func (x *exchange) who() turnKey { return turnKey{x.peer.Role, x.peer.Addr} }

// turn decides what the client is asked for the next time.
func (x *exchange) turn(err error) {
	if x.turns == nil || err != nil && !errors.Is(err, ErrAuthFailed) {
		return
	}
	next := slices.IndexFunc(x.valid, func(s Secret) bool { return (s == x.asked[0]) == (err == nil) })
	x.turns.set(x.who(), x.valid[next])
}

// maxTurns bounds what is remembered: past it any is forgotten, which costs that client a failed login.
const maxTurns = 10_000

// turns remembers which secret clients are asked for next, of roles for which there is a choice.
type turns struct {
	mu   sync.Mutex // guards below
	next map[turnKey][sha256.Size]byte
}

type turnKey struct {
	role string
	addr netip.Addr
}

func newTurns() *turns { return &turns{next: make(map[turnKey][sha256.Size]byte)} }

// has reports whether it is the secret's turn.
func (t *turns) has(who turnKey, s Secret) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, known := t.next[who]
	return known && id == s.s.id
}

func (t *turns) set(who turnKey, s Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.next[who]; !known && len(t.next) >= maxTurns {
		for any := range t.next {
			delete(t.next, any)
			break
		}
	}
	t.next[who] = s.s.id
}

// ring is the secrets of a role that are good, of which Postgres knows one. It is immutable.
type ring struct {
	secrets []Secret
	proved  int // which of them the Credential is made of
}

// amid returns c, which is made of the i-th of the secrets.
func (c Credential) amid(secrets []Secret, i int) Credential {
	if c.c == nil || i < 0 {
		return c
	}
	return Credential{c.c, &ring{secrets, i}}
}

// Tries returns the Credentials by which Postgres may let the role in, the most promising first: c, and while the role's
// password changes what is known of the other secret. It is never empty.
func (c Credential) Tries() []Credential {
	all := []Credential{c}
	if c.ring == nil || len(c.ring.secrets) == 1 {
		return all
	}
	for i, s := range c.ring.secrets {
		if other := s.known(); i != c.ring.proved && !other.IsZero() {
			all = append(all, other.amid(c.ring.secrets, i))
		}
	}
	slices.SortStableFunc(all, func(a, b Credential) int { return a.refused() - b.refused() })
	return all
}

// Tried takes note of how a login to Postgres by one of Tries has ended, and reports whether another may end better: Postgres
// knows another secret.
func (c Credential) Tried(err error) (another bool) {
	var (
		refused *ServerError
		none    *NoSecretError
	)
	another = errors.As(err, &refused) && refused.Response.Code == invalidPassword ||
		errors.As(err, &none) || errors.Is(err, ErrVerifierMismatch)
	if c.ring != nil && (another || err == nil) {
		c.ring.secrets[c.ring.proved].s.refused.Store(another)
	}
	return another
}

// invalidPassword is the SQLSTATE of a wrong password.
const invalidPassword = "28P01"

// refused returns 1 if Postgres has refused the secret when it was tried last, else 0.
func (c Credential) refused() int {
	if c.ring != nil && c.ring.secrets[c.ring.proved].s.refused.Load() {
		return 1
	}
	return 0
}

// Generation returns what tells the secret that the Credential is made of from others. It must be kept like the secret.
func (c Credential) Generation() [sha256.Size]byte {
	if c.ring == nil {
		return c.Fingerprint()
	}
	return c.ring.secrets[c.ring.proved].s.id
}

// Covers reports whether what has logged in to Postgres with the secret of that generation may serve whoever has shown c:
// it is c's, or the other one that is good as well.
func (c Credential) Covers(generation [sha256.Size]byte) bool {
	if c.ring == nil {
		return c.Fingerprint() == generation
	}
	return slices.ContainsFunc(c.ring.secrets, func(s Secret) bool { return s.s.id == generation })
}

// fingerprint is the ring's part of a Credential's.
func (r *ring) fingerprint() [sha256.Size]byte {
	var b bytes.Buffer
	b.WriteByte(byte(r.proved))
	for _, s := range r.secrets {
		b.Write(s.s.id[:])
	}
	return sha256.Sum256(b.Bytes())
}
