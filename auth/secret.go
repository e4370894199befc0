package auth

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/auth/scram"
)

// md5Prefix begins every md5 hash, in pg_authid and in a client's answer.
const md5Prefix = "md5"

// Secret is what is stored of a role's password: the password itself, its md5 hash or its SCRAM verifier. The zero
// Secret is none. Copies share what has been computed from it. It prints as [redacted].
type Secret struct{ s *secret }

// secret holds exactly one of plain, hash and verifier.
type secret struct {
	role     string
	id       [sha256.Size]byte // tells it from others; to be kept like the secret
	plain    Credential        // with the password
	hash     string            // 32 hexadecimal digits
	verifier *scram.Verifier   // as stored

	refused atomic.Bool // by Postgres, the last time that it was tried

	mu      sync.Mutex      // guards below, and is held while they are computed
	derived *scram.Verifier // of plain, for the salt asked for last
	proved  Credential      // with the password that was found to fit hash or verifier last
	shown   Credential      // with the keys that a client has shown to have for verifier
}

// ParseSecret reads a role's secret in the forms of pg_authid.rolpassword: a SCRAM verifier, an md5 hash, else a plain
// password; an empty text is no secret. Unlike in Postgres a malformed verifier is no password but an error; the error
// does not quote it.
func ParseSecret(role, text string) (Secret, error) {
	s := &secret{role: role, id: sha256.Sum256([]byte(role + "\x00" + text))}
	switch {
	case text == "":
		return Secret{}, nil
	case strings.IndexByte(text, 0) >= 0:
		return Secret{}, errors.New("zero byte in it")
	case strings.HasPrefix(text, scram.Prefix):
		v, err := scram.ParseVerifier(text)
		if err != nil {
			return Secret{}, err
		}
		s.verifier = &v
	case isMD5(text):
		s.hash = text[len(md5Prefix):]
	default:
		s.plain = PasswordCredential(text)
	}
	return Secret{s}, nil
}

// isMD5 reports whether Postgres would take text for an md5 hash.
func isMD5(text string) bool {
	digits, ok := strings.CutPrefix(text, md5Prefix)
	return ok && len(digits) == 2*md5.Size && strings.Trim(digits, "0123456789abcdef") == ""
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.s == nil }

// Equal reports whether both are the same text for the same role. It takes the same time wherever they differ.
func (s Secret) Equal(other Secret) bool {
	if s.s == nil || other.s == nil {
		return s.s == other.s
	}
	return subtle.ConstantTimeCompare(s.s.id[:], other.s.id[:]) == 1
}

// Format prints [redacted] whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns [redacted].
func (Secret) LogValue() slog.Value { return redactedValue() }

func (s Secret) isVerifier() bool { return s.s != nil && s.s.verifier != nil }

func (s Secret) isPlain() bool { return s.s != nil && !s.s.plain.IsZero() }

// hash returns the digits of a stored md5 hash, empty if something else is stored.
func (s Secret) hash() string {
	if s.s == nil {
		return ""
	}
	return s.s.hash
}

// md5Digits returns the digits that a client of that user name should have: those of the stored md5 hash, whatever name that
// is of, or of the stored password's; ok is false if there are none.
func (s Secret) md5Digits(user string) (digits string, ok bool) {
	switch {
	case s.hash() != "":
		return s.hash(), true
	case s.isPlain():
		return hashMD5(s.s.plain.password(), user), true
	}
	return "", false
}

// scramVerifier returns the stored verifier, or the stored password's with the given salt and iterations; ok is false if
// neither is stored. The password's is computed once.
func (s Secret) scramVerifier(salt []byte, iterations int) (v scram.Verifier, ok bool, err error) {
	switch {
	case s.isVerifier():
		return *s.s.verifier, true, nil
	case !s.isPlain():
		return scram.Verifier{}, false, nil
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if d := s.s.derived; d == nil || !bytes.Equal(d.Salt, salt) || d.Iterations != iterations {
		v, err := scram.NewVerifier(s.s.plain.password(), salt, iterations)
		if err != nil {
			return scram.Verifier{}, false, err
		}
		s.s.derived = &v
	}
	return *s.s.derived, true, nil
}

// credential returns what the stored secret alone suffices for; for a verifier that is nothing.
func (s Secret) credential() Credential {
	switch {
	case s.s == nil:
		return Credential{}
	case s.s.hash != "":
		return md5Credential(s.s.hash)
	}
	return s.s.plain
}

// show takes note of the keys that a client has shown to have for the stored verifier, and returns the credential that they
// make.
func (s Secret) show(clientKey scram.Key) Credential {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if s.s.shown.IsZero() {
		s.s.shown = scramCredential(clientKey, *s.s.verifier)
	}
	return s.s.shown
}

// known returns what there is to log in to Postgres with by this secret: what is stored suffices, or a client has shown it.
func (s Secret) known() Credential {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	switch {
	case !s.s.plain.IsZero():
		return s.s.plain
	case !s.s.proved.IsZero():
		return s.s.proved
	case s.s.hash != "":
		return md5Credential(s.s.hash)
	}
	return s.s.shown
}

// admits checks a password that the client has sent in clear, and returns the credential that it makes. A password
// that does not fit costs one derivation of keys, whatever is stored and if nothing is.
func (s Secret) admits(password string, mockSalt []byte) (cred Credential, ok bool, err error) {
	salt, iterations := mockSalt, scram.DefaultIterations
	if s.isVerifier() {
		salt, iterations = s.s.verifier.Salt, s.s.verifier.Iterations
	}
	keys, err := scram.DeriveKeys(password, salt, iterations)
	if err != nil || !s.isVerifier() {
		return Credential{}, false, err
	}
	stored := keys.StoredKey()
	if subtle.ConstantTimeCompare(stored[:], s.s.verifier.StoredKey[:]) != 1 {
		return Credential{}, false, nil
	}
	cred = PasswordCredential(password)
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.s.proved = cred
	return cred, true, nil
}

// remembered checks a password without deriving keys: against the stored one, the stored md5 hash, or the one that
// was found to fit the stored verifier before.
func (s Secret) remembered(password string) (Credential, bool) {
	if s.s == nil {
		return Credential{}, false
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	known := s.s.plain
	if s.s.hash != "" || s.s.verifier != nil {
		known = s.s.proved
	}
	if !known.IsZero() && sameText(password, known.password()) {
		return known, true
	}
	if s.s.hash == "" || !sameText(hashMD5(password, s.s.role), s.s.hash) {
		return Credential{}, false
	}
	s.s.proved = PasswordCredential(password)
	return s.s.proved, true
}

// hashMD5 returns the digits that Postgres stores: the hash of the password followed by the role.
func hashMD5(password, role string) string {
	sum := md5.Sum([]byte(password + role))
	return hex.EncodeToString(sum[:])
}

// answerMD5 returns what a client answers to an md5 request with this salt.
func answerMD5(digits string, salt [4]byte) string {
	sum := md5.Sum(append([]byte(digits), salt[:]...))
	return md5Prefix + hex.EncodeToString(sum[:])
}

// sameText compares in a time that depends on neither content.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
