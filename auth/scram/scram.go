// Package scram proves and checks passwords by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, on either side, the way Postgres
// does.
//
// Server and Client are pure machines: they take the peer's message and return the next one of their own. They do no
// input or output, and each serves one exchange. The caller frames the messages and bounds their length.
//
// Specifications: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 (tls-server-end-point), RFC 4013 (SASLprep);
// Postgres: "SCRAM-SHA-256 Authentication".
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// The names of the mechanisms.
const (
	SHA256     = "SCRAM-SHA-256"
	SHA256Plus = "SCRAM-SHA-256-PLUS"
)

// KeyLen is the length of every key, signature and proof.
const KeyLen = sha256.Size

// rawNonceLen is how many random bytes each side's part of the nonce encodes (SCRAM_RAW_NONCE_LEN).
const rawNonceLen = 18

// What ends an exchange.
var (
	// ErrMessage is a message of the peer that is malformed or does not fit the exchange.
	ErrMessage = errors.New("malformed SCRAM message")
	// ErrUnsupported is a well-formed request for what Postgres does not support either: an authorization identity, a
	// mandatory extension, another mechanism or another type of channel binding.
	ErrUnsupported = errors.New("unsupported SCRAM feature")
	// ErrChannelBinding is a client bound to another TLS channel, or one that was led to believe that the server
	// cannot bind: somebody may sit in between.
	ErrChannelBinding = errors.New("SCRAM channel binding failed")
	// ErrBindingDowngrade is the latter of the two. It is an ErrChannelBinding.
	ErrBindingDowngrade = fmt.Errorf("%w: the client thinks that this server does not support it", ErrChannelBinding)
	// ErrProof is a client that does not know the password.
	ErrProof = errors.New("SCRAM proof does not match")
	// ErrServerSignature is a server that does not know the verifier.
	ErrServerSignature = errors.New("SCRAM server signature does not match")
	// ErrRefused is a server that ended the exchange with an error of its own.
	ErrRefused = errors.New("SCRAM exchange refused by server")
)

// Key is a secret of KeyLen bytes. It prints as [redacted].
type Key [KeyLen]byte

// Format prints [redacted] whatever the verb.
func (Key) Format(f fmt.State, _ rune) { redact(f) }

// LogValue returns [redacted].
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// Keys is what a client proves itself with, and knows the server by.
type Keys struct {
	ClientKey Key
	ServerKey Key
}

// StoredKey returns what a verifier holds in place of the ClientKey.
func (k Keys) StoredKey() Key { return sha256.Sum256(k.ClientKey[:]) }

// DeriveKeys computes the keys of a password. It costs as many rounds of HMAC as there are iterations: milliseconds.
//
// Errors: iterations below 1, an empty salt, or what the FIPS mode of the standard library forbids.
func DeriveKeys(password string, salt []byte, iterations int) (Keys, error) {
	if iterations < 1 || len(salt) == 0 {
		return Keys{}, fmt.Errorf("derive SCRAM keys: %d iterations over a salt of %d bytes", iterations, len(salt))
	}
	salted, err := pbkdf2.Key(sha256.New, prepare(password), salt, iterations, KeyLen)
	if err != nil {
		return Keys{}, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	defer clear(salted)
	return Keys{ClientKey: mac(salted, "Client Key"), ServerKey: mac(salted, "Server Key")}, nil
}

// mac is HMAC-SHA-256.
func mac(key []byte, message string) (sum Key) {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, message)
	h.Sum(sum[:0])
	return sum
}

// xor combines a key and a signature to a proof, and a proof and a signature to a key.
func xor(a, b Key) (out Key) {
	subtle.XORBytes(out[:], a[:], b[:])
	return out
}

// equal compares in constant time.
func equal(a, b Key) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// newNonce returns a side's part of the nonce.
func newNonce() string {
	var raw [rawNonceLen]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the process instead
	return base64.StdEncoding.EncodeToString(raw[:])
}

const redacted = "[redacted]"

func redact(f fmt.State) { _, _ = io.WriteString(f, redacted) }
