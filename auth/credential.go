package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"sluice/auth/scram"
)

// maxDerived bounds the keys kept per password. A password meets one salt per Postgres server, and a new one when it
// is set anew.
const maxDerived = 8

// Credential is what is needed to log in to Postgres as a role: a password, an md5 hash, or the SCRAM keys that a
// client's proof has shown. The zero Credential is none. Copies share the keys that have been derived from the
// password. It prints as [redacted].
type Credential struct {
	c    *credential
	ring *ring // nil: it is not made of what a Store holds
}

// credential holds exactly one of secret, hash and shown.
type credential struct {
	secret string     // password
	hash   string     // the 32 digits of an md5 hash
	shown  *shownKeys // for the verifier that they fit
	trial  bool       // shown has no keys: nothing is proved, see Secret.Trial

	mu      sync.Mutex // guards below
	derived []*derivation
}

// shownKeys is what a SCRAM exchange with a client leaves.
type shownKeys struct {
	clientKey scram.Key
	verifier  scram.Verifier
}

// derivation is the keys of a password for one salt, computed once.
type derivation struct {
	salt       string
	iterations int
	once       sync.Once
	keys       scram.Keys
	err        error
}

// PasswordCredential returns the Credential of a password. An empty password is none, as in Postgres.
func PasswordCredential(password string) Credential {
	if password == "" {
		return Credential{}
	}
	return Credential{c: &credential{secret: password}}
}

func md5Credential(digits string) Credential { return Credential{c: &credential{hash: digits}} }

func scramCredential(clientKey scram.Key, v scram.Verifier) Credential {
	return Credential{c: &credential{shown: &shownKeys{clientKey: clientKey, verifier: v}}}
}

// IsZero reports whether there is nothing to log in with.
func (c Credential) IsZero() bool { return c.c == nil }

// Format prints [redacted] whatever the verb.
func (Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns [redacted].
func (Credential) LogValue() slog.Value { return redactedValue() }

// Fingerprint returns what tells the Credential from that of another secret, or of the same one when another is good as
// well; two logins by the same secret yield the same. It must be kept like the secret: a weak password can be guessed from it. That of the zero Credential is zero.
func (c Credential) Fingerprint() (sum [32]byte) {
	if c.c == nil {
		return sum
	}
	if c.ring != nil {
		return c.ring.fingerprint()
	}
	var text []byte
	switch {
	case c.c.secret != "":
		text = append(append(text, 'p'), c.c.secret...)
	case c.c.hash != "":
		text = append(append(text, 'm'), c.c.hash...)
	default:
		v := c.c.shown.verifier
		text = append(append(text, 's'), v.StoredKey[:]...)
		text = binary.BigEndian.AppendUint64(text, uint64(v.Iterations))
		text = append(text, v.Salt...)
	}
	return sha256.Sum256(text)
}

// password returns the password, empty if it is not known.
func (c Credential) password() string {
	if c.c == nil {
		return ""
	}
	return c.c.secret
}

// md5Digits returns the digits of role's md5 hash; ok is false if neither it nor the password is known.
func (c Credential) md5Digits(role string) (digits string, ok bool) {
	switch {
	case c.password() != "":
		return hashMD5(c.password(), role), true
	case c.c != nil && c.c.hash != "":
		return c.c.hash, true
	}
	return "", false
}

// hasSCRAM reports whether there is anything to answer SCRAM-SHA-256 with.
func (c Credential) hasSCRAM() bool { return c.c != nil && (c.c.secret != "" || c.c.shown != nil) }

// kind names what there is, for errors.
func (c Credential) kind() string {
	switch {
	case c.c == nil:
		return "nothing"
	case c.c.secret != "":
		return "a password"
	case c.c.hash != "":
		return "an md5 hash"
	}
	return "SCRAM keys"
}

// keys is a scram.KeyFunc. Errors: ErrVerifierMismatch, ErrTrialFits, or those of scram.DeriveKeys.
func (c Credential) keys(salt []byte, iterations int) (scram.Keys, error) {
	if c.c.secret != "" {
		d := c.c.derivation(string(salt), iterations)
		d.once.Do(func() { d.keys, d.err = scram.DeriveKeys(c.c.secret, salt, iterations) })
		return d.keys, d.err
	}
	v := c.c.shown.verifier
	if string(v.Salt) != string(salt) || v.Iterations != iterations {
		return scram.Keys{}, ErrVerifierMismatch
	}
	if c.c.trial {
		return scram.Keys{}, ErrTrialFits
	}
	return scram.Keys{ClientKey: c.c.shown.clientKey, ServerKey: v.ServerKey}, nil
}

// derivation returns the one for this salt, new if need be in place of the oldest.
func (c *credential) derivation(salt string, iterations int) *derivation {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.derived {
		if d.salt == salt && d.iterations == iterations {
			return d
		}
	}
	if len(c.derived) == maxDerived {
		c.derived = append(c.derived[:0], c.derived[1:]...)
	}
	d := &derivation{salt: salt, iterations: iterations}
	c.derived = append(c.derived, d)
	return d
}
