package scram

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVerifierTextIsPostgres(t *testing.T) {
	t.Parallel()
	const text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" +
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	v := rfcVerifier(t)
	if got := v.String(); got != text {
		t.Errorf("String = %q, want %q", got, text)
	}
	parsed, err := ParseVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.String() != text || parsed.StoredKey != v.StoredKey || parsed.ServerKey != v.ServerKey {
		t.Errorf("parsed = %q", parsed.String())
	}
}

func TestParseVerifierRefusesWithoutQuotingTheSecret(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, KeyLen))
	for _, text := range []string{
		"", "secret", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$4096:c2FsdA==", "scram-sha-256$1:c2FsdA==$" + key + ":" + key,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key, "SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key,
		"SCRAM-SHA-256$-1:c2FsdA==$" + key + ":" + key, "SCRAM-SHA-256$2147483648:c2FsdA==$" + key + ":" + key,
		"SCRAM-SHA-256$1:$" + key + ":" + key, "SCRAM-SHA-256$1:!$" + key + ":" + key,
		"SCRAM-SHA-256$1:c2FsdA==$" + key[4:] + ":" + key, "SCRAM-SHA-256$1:c2FsdA==$" + key + ":" + key + key,
		"SCRAM-SHA-256$1:c2FsdA==$" + key + ":" + key + "$", "SCRAM-SHA-256$1:c2FsdA==$" + key + ":" + key + "\n",
	} {
		_, err := ParseVerifier(text)
		if !errors.Is(err, ErrVerifier) {
			t.Errorf("ParseVerifier(%q) = %v, want %v", text, err, ErrVerifier)
		} else if strings.Contains(err.Error(), key) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

func TestSecretsPrintRedacted(t *testing.T) {
	t.Parallel()
	v := rfcVerifier(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "verifier", v, "key", v.StoredKey)
	got := fmt.Sprintf("%v %+v %#v %s %q %x %d|%v %s %x|%v", v, v, v, v, v, v, &v, v.StoredKey, v.StoredKey, v.StoredKey,
		Keys{ClientKey: v.StoredKey}) + log.String()
	for _, leak := range []string{rfcSalt, "WG5d8oPm3Otc", fmt.Sprint(v.StoredKey[0], " ", v.StoredKey[1])} {
		if strings.Contains(got, leak) {
			t.Errorf("%q leaks %q", got, leak)
		}
	}
	if n := strings.Count(got, redacted); n != 14 {
		t.Errorf("%d times %s in %q", n, redacted, got)
	}
}

func TestDeriveKeysRefusesWhatCannotBeDerived(t *testing.T) {
	t.Parallel()
	if _, err := NewVerifier("secret", nil, 1); err == nil {
		t.Error("no error without salt")
	}
	if _, err := NewVerifier("secret", []byte("salt"), 0); err == nil {
		t.Error("no error without iterations")
	}
}

func TestNoncesAndSaltsDiffer(t *testing.T) {
	t.Parallel()
	if newNonce() == newNonce() || cmp.Equal(NewSalt(), NewSalt()) {
		t.Error("twice the same")
	}
	if n := newNonce(); !isNonce(n) || strings.Contains(n, ",") {
		t.Errorf("%q is not a nonce", n)
	}
}

func TestServerTakesAnyOfTheVerifiersWithItsSalt(t *testing.T) {
	t.Parallel()
	salt := []byte("0123456789abcdef")
	first, second := mustVerifier(t, "one", salt, 64), mustVerifier(t, "two", salt, 64)
	for _, doomed := range []bool{false, true} {
		for i, password := range []string{"one", "two", "three"} {
			s, err := NewServer(first, ServerOptions{Mechanism: SHA256, Also: []Verifier{second}, Doomed: doomed})
			if err != nil {
				t.Fatal(err)
			}
			err = run(s, NewClient(PasswordKeys(password), ClientOptions{Mechanism: SHA256}))
			switch {
			case i == 2 || doomed:
				if !errors.Is(err, ErrProof) || s.ClientKey() != (Key{}) {
					t.Errorf("%s, doomed %t: %v, want %v", password, doomed, err, ErrProof)
				}
			case err != nil || s.Proved() != i || Keys{ClientKey: s.ClientKey()}.StoredKey() != [...]Verifier{first, second}[i].StoredKey:
				t.Errorf("%s: %v, proved %d", password, err, s.Proved())
			}
		}
	}
	if first.SameSalt(mustVerifier(t, "one", salt, 65)) || first.SameSalt(mustVerifier(t, "one", []byte("x"), 64)) {
		t.Error("one exchange could check verifiers that it cannot")
	}
}
