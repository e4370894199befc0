package auth

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sluice/auth/jwt"
	"sluice/internal/wire"
)

// bearer signs tokens, and knows who takes them.
type bearer struct {
	t       testing.TB
	key     ed25519.PrivateKey
	accepts *jwt.Verifier
}

func newBearer(t testing.TB) *bearer {
	t.Helper()
	b := &bearer{t: t, key: ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: b.key.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := jwt.ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	b.accepts, err = jwt.New(jwt.Params{
		Keys: keys, Issuer: "issuer", Audience: []string{"sluice"}, RoleClaim: "role", Roles: []string{role}, Algorithms: jwt.Algorithms(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// token returns one for the role that ends after a time and is padded by so many bytes.
func (b *bearer) token(as string, lasts time.Duration, padding int) string {
	b.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: b.key, KeyID: "k"}}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{
		"iss": "issuer", "aud": "sluice", "role": as, "exp": time.Now().Add(lasts).Unix(), "pad": strings.Repeat("x", padding),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

func (b *bearer) authenticator(s Store) *Authenticator {
	b.t.Helper()
	a, err := New(Params{Method: JWT, Store: s, Tokens: b.accepts})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func TestTokensInPlaceOfPasswords(t *testing.T) {
	t.Parallel()
	b := newBearer(t)
	a := b.authenticator(nil)
	for _, token := range []string{b.token(role, time.Hour, 0), b.token(role, time.Hour, 8<<10)} {
		o, clientErr := login(t, a, role, token)
		if o.err != nil || clientErr != nil || !o.cred.IsZero() || asked(o.sent) != "a password in clear" {
			t.Errorf("a token of %d bytes: %v, client: %v, asked for %s", len(token), o.err, clientErr, asked(o.sent))
		}
	}
	good := b.token(role, time.Hour, 0)
	for _, tc := range []struct {
		user, token string
		why         Why
	}{
		{role, b.token(role, -time.Hour, 0), "token expired"},
		{role, b.token("bob", time.Hour, 0), "the role is not in the token"},
		{"bob", b.token("bob", time.Hour, 0), "the role may not log in by token"},
		{role, good[:len(good)-4] + "AAAA", "wrong signature of the token"},
		{role, password, "malformed token"},
		{role, "", "malformed token"},
	} {
		o, clientErr := login(t, a, tc.user, tc.token)
		wantFailed(t, o, tc.user, tc.why)
		if clientErr == nil {
			t.Errorf("the client got in: %s", tc.why)
		}
	}
	o, _ := login(t, a, role, b.token(role, time.Hour, maxPassword))
	wantErr(t, o.err, wire.ErrTooLarge)
}

func TestTokensUseWhatIsStored(t *testing.T) {
	t.Parallel()
	b := newBearer(t)
	o, _ := login(t, b.authenticator(fixed{entry: Entry{Secret: mustSecret(t, password)}}), role, b.token(role, time.Hour, 0))
	if o.err != nil || o.cred.kind() != "a password" {
		t.Errorf("%s, %v", o.cred.kind(), o.err)
	}
	o, _ = login(t, b.authenticator(fixed{err: errors.New("down")}), role, b.token(role, -time.Hour, 0))
	wantFailed(t, o, role, "token expired") // nothing is looked up for it
	o, _ = login(t, b.authenticator(fixed{err: errors.New("down")}), role, b.token(role, time.Hour, 0))
	wantErr(t, o.err, ErrLookup)
}

func TestTokensNeedTLSAndKeys(t *testing.T) {
	t.Parallel()
	b := newBearer(t)
	near, _ := net.Pipe()
	_, err := b.authenticator(nil).Authenticate(t.Context(), wire.NewConn(near, wire.Client), Peer{Role: role})
	wantErr(t, err, ErrNeedsTLS)
	x := &exchange{peer: Peer{Role: role}}
	wantErr(t, x.notTaken(t.Context(), jwt.ErrNoKeys), ErrLookup)
	if _, err := New(Params{Method: JWT}); err == nil {
		t.Error("an authenticator that knows no tokens is made")
	}
}
