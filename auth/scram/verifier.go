package scram

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

// What Postgres uses for new verifiers, unless told otherwise.
const (
	DefaultIterations = 4096
	SaltLen           = 16
)

// Prefix is how the text of every verifier begins.
const Prefix = SHA256 + "$"

// ErrVerifier is a text that is not a verifier.
var ErrVerifier = errors.New("malformed SCRAM verifier")

// Verifier is what a server stores in place of a password. It prints as [redacted]; only String, called by name,
// returns its text.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  Key
	ServerKey  Key
}

// NewVerifier computes the verifier of a password; see DeriveKeys for cost and errors. The verifier keeps salt.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	k, err := DeriveKeys(password, salt, iterations)
	if err != nil {
		return Verifier{}, err
	}
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: k.StoredKey(), ServerKey: k.ServerKey}, nil
}

// SameSalt reports whether one exchange can check a client against both: the server names one salt and one number of
// iterations.
func (v Verifier) SameSalt(other Verifier) bool {
	return v.Iterations == other.Iterations && bytes.Equal(v.Salt, other.Salt)
}

// NewSalt returns a random salt of SaltLen bytes.
func NewSalt() []byte {
	salt := make([]byte, SaltLen)
	_, _ = rand.Read(salt) // never fails: it ends the process instead
	return salt
}

// ParseVerifier reads the form in which Postgres keeps verifiers in pg_authid.rolpassword:
// SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey. Errors: ErrVerifier, wrapped; it never quotes the text.
func ParseVerifier(text string) (Verifier, error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return Verifier{}, fmt.Errorf("%w: it does not begin with %s", ErrVerifier, Prefix)
	}
	parameters, keys, ok1 := strings.Cut(rest, "$")
	iterations, salt, ok2 := strings.Cut(parameters, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 {
		return Verifier{}, fmt.Errorf("%w: not of the form iterations:salt$StoredKey:ServerKey", ErrVerifier)
	}
	var v Verifier
	if v.Iterations, ok = parseIterations(iterations, math.MaxInt32); !ok {
		return Verifier{}, fmt.Errorf("%w: iterations", ErrVerifier)
	}
	if v.Salt, ok = decode(salt); !ok || len(v.Salt) == 0 {
		return Verifier{}, fmt.Errorf("%w: salt", ErrVerifier)
	}
	if v.StoredKey, ok = decodeKey(stored); !ok {
		return Verifier{}, fmt.Errorf("%w: StoredKey", ErrVerifier)
	}
	if v.ServerKey, ok = decodeKey(server); !ok {
		return Verifier{}, fmt.Errorf("%w: ServerKey", ErrVerifier)
	}
	return v, nil
}

// String returns the form that ParseVerifier reads. It is a secret: package fmt and log/slog print [redacted] instead.
func (v Verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return Prefix + strconv.Itoa(v.Iterations) + ":" + b64(v.Salt) + "$" + b64(v.StoredKey[:]) + ":" + b64(v.ServerKey[:])
}

// Format prints [redacted] whatever the verb.
func (Verifier) Format(f fmt.State, _ rune) { redact(f) }

// LogValue returns [redacted].
func (Verifier) LogValue() slog.Value { return slog.StringValue(redacted) }

// parseIterations reads a decimal number from 1 to most, without sign.
func parseIterations(s string, most int) (int, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && n <= most
}

// decode reads padded base64 without line breaks.
func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // which the standard library skips
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil
}

func decodeKey(s string) (k Key, ok bool) {
	b, ok := decode(s)
	if !ok || len(b) != KeyLen {
		return Key{}, false
	}
	return Key(b), true
}
