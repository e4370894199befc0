package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"sluice/auth/scram"
)

func TestParseSecretTellsTheKinds(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	for _, tc := range []struct {
		text     string
		kind     string
		verifier bool
		err      error
	}{
		{"", "nothing", false, nil},
		{plain, "a password", false, nil},
		{hash, "an md5 hash", false, nil},
		{verifier, "nothing", true, nil},
		{hash[:34], "a password", false, nil},
		{hash + "0", "a password", false, nil},
		{strings.ToUpper(hash), "a password", false, nil},
		{"md5" + strings.Repeat("A", 32), "a password", false, nil},
		{"SCRAM-SHA-256", "a password", false, nil},
		{"SCRAM-SHA-256$", "", false, scram.ErrVerifier},
		{verifier[:len(verifier)-4], "", false, scram.ErrVerifier},
	} {
		s, err := ParseSecret(role, tc.text)
		if !errors.Is(err, tc.err) || (tc.err == nil && err != nil) {
			t.Errorf("ParseSecret(%q) = %v, want %v", tc.text, err, tc.err)
			continue
		}
		if err == nil && (s.credential().kind() != tc.kind || s.isVerifier() != tc.verifier || s.IsZero() != (tc.text == "")) {
			t.Errorf("ParseSecret(%q): %s, verifier %t", tc.text, s.credential().kind(), s.isVerifier())
		}
	}
	if _, err := ParseSecret(role, "a\x00b"); err == nil {
		t.Error("a zero byte is taken")
	}
}

func TestSecretsAreEqualByText(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	texts := []string{"", plain, "other", hash, verifier}
	for i, a := range texts {
		for j, b := range texts {
			if got := mustSecret(t, a).Equal(mustSecret(t, b)); got != (i == j) {
				t.Errorf("%q equals %q: %t", a, b, got)
			}
		}
	}
	other, _ := ParseSecret("bob", plain)
	if mustSecret(t, plain).Equal(other) {
		t.Error("secrets of two roles are equal")
	}
}

func TestVerifierOfAPasswordIsSharedAcrossGoroutines(t *testing.T) {
	t.Parallel()
	s := mustSecret(t, password)
	var got [8]scram.Verifier
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _, _ = s.scramVerifier([]byte("salt"), scram.DefaultIterations) })
	}
	wg.Wait()
	for _, v := range got {
		if v.String() != s.s.derived.String() {
			t.Errorf("got %q", v.String())
		}
	}
	if v, ok, err := s.scramVerifier([]byte("another"), scram.DefaultIterations); string(v.Salt) != "another" || !ok || err != nil {
		t.Errorf("another salt: %q, %t, %v", v.Salt, ok, err)
	}
}

func TestSecretsAndCredentialsPrintRedacted(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	for _, text := range []string{plain, hash, verifier} {
		s := mustSecret(t, text)
		c := s.credential()
		if text == verifier {
			c = scramCredential(scram.Key{1, 2, 3}, *s.s.verifier)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "credential", c)
		inner := struct{ s, c any }{struct{ s Secret }{s}, struct{ c Credential }{c}}
		js, err := json.Marshal(map[string]any{"s": s, "c": c, "e": Entry{Secret: s}})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s) +
			fmt.Sprintf("%v %+v %#v %s %q %x %d", c, c, c, c, c, c, c) +
			fmt.Sprintf("%v %+v %#v %+v", inner, inner, inner, Entry{Secret: s}) + log.String() + string(js)
		if n := strings.Count(got, redacted); n != 18 {
			t.Errorf("%d times %s in %q", n, redacted, got)
		}
		for _, leak := range []string{text, fmt.Sprintf("%x", text), strings.TrimPrefix(text, md5Prefix), "1 2 3"} {
			if strings.Contains(got, leak) {
				t.Errorf("%q shows %q", got, leak)
			}
		}
	}
}

func TestFingerprintFollowsTheSecret(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	keys := func(text string, clientKey byte) Credential {
		return scramCredential(scram.Key{clientKey}, *mustSecret(t, text).s.verifier)
	}
	newSalt, err := scram.NewVerifier(password, []byte("another salt"), 64)
	if err != nil {
		t.Fatal(err)
	}
	moreWork, err := scram.NewVerifier(password, []byte("0123456789abcdef"), 65)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]int{}
	for i, c := range []Credential{
		{}, PasswordCredential(plain), PasswordCredential("other"), mustSecret(t, hash).credential(), md5Credential(strings.Repeat("0", 32)),
		PasswordCredential(hash[len(md5Prefix):]), keys(verifier, 1), keys(newSalt.String(), 1), keys(moreWork.String(), 1),
	} {
		if j, ok := seen[c.Fingerprint()]; ok {
			t.Errorf("credentials %d and %d have the same fingerprint", i, j)
		}
		seen[c.Fingerprint()] = i
	}
	if (Credential{}).Fingerprint() != [32]byte{} {
		t.Error("no credential has a fingerprint")
	}
	if PasswordCredential(plain).Fingerprint() != mustSecret(t, plain).credential().Fingerprint() ||
		keys(verifier, 1).Fingerprint() != keys(verifier, 1).Fingerprint() {
		t.Error("the same secret gives two fingerprints")
	}
}

func TestKeysOfAPasswordAreDerivedOncePerSalt(t *testing.T) {
	t.Parallel()
	c := PasswordCredential(password)
	same := c // copies share
	first, err := c.keys([]byte("salt"), 1)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := same.keys([]byte("salt"), 1)
	if want, _ := scram.DeriveKeys(password, []byte("salt"), 1); first != want || again != want {
		t.Error("not the keys of the password")
	}
	if more, _ := c.keys([]byte("salt"), 2); more == first {
		t.Error("other iterations give the same keys")
	}
	if len(c.c.derived) != 2 {
		t.Fatalf("%d derivations, want 2", len(c.c.derived))
	}
	for i := range 3 * maxDerived {
		_, _ = c.keys([]byte{byte(i)}, 1)
	}
	if len(c.c.derived) != maxDerived {
		t.Errorf("%d derivations are kept, want %d", len(c.c.derived), maxDerived)
	}
}
