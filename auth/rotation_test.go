package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
)

const newPassword = "battery staple"

// verifierText returns the text of a verifier with a salt.
func verifierText(t testing.TB, password, salt string) string {
	t.Helper()
	v, err := scram.NewVerifier(password, []byte(salt), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v.String()
}

// changing is what is stored of the role while its password changes.
func changing(t testing.TB, now, before string) Entry {
	t.Helper()
	e, err := Entry{Secret: mustSecret(t, before), ValidUntil: time.Now().Add(time.Hour)}.With(mustSecret(t, now), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// forms are the texts of a password; those of one salt can be proved in one exchange.
func forms(t testing.TB, password string) map[string]string {
	return map[string]string{
		"plain": password, "hash": md5Prefix + hashMD5(password, role),
		"verifier": verifierText(t, password, "0123456789abcdef"), "other salt": verifierText(t, password, "fedcba9876543210"),
	}
}

func TestBothPasswordsAreGoodWhileOneChanges(t *testing.T) {
	t.Parallel()
	for _, m := range []Method{Auto, Password, MD5, SCRAMSHA256} {
		for nowIs, now := range forms(t, newPassword) {
			for beforeWas, before := range forms(t, password) {
				if m == SCRAMSHA256 && (nowIs == "hash" || beforeWas == "hash") {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s after %s", m, nowIs, beforeWas), func(t *testing.T) {
					t.Parallel()
					e := changing(t, now, before)
					a := mustNew(t, m, fixed{entry: e})
					together := m.together(e.Secret, e.Also)
					for i, pw := range []string{password, newPassword, newPassword, password} {
						o, _ := login(t, a, role, pw)
						if o.err != nil && !together { // it is the other one's turn now
							wantFailed(t, o, role, WhyWrongPassword)
							o, _ = login(t, a, role, pw)
						}
						if o.err != nil {
							t.Errorf("login %d: %v", i, o.err)
						}
					}
					for range 3 {
						o, _ := login(t, a, role, "neither")
						wantFailed(t, o, role, WhyWrongPassword)
					}
				})
			}
		}
	}
}

func TestWhatCanBeProvedTogether(t *testing.T) {
	t.Parallel()
	now, before := forms(t, newPassword), forms(t, password)
	for _, tc := range []struct {
		method Method
		a, b   string
		want   bool
	}{
		{Auto, "plain", "plain", true}, {Auto, "plain", "verifier", true}, {Auto, "verifier", "verifier", true},
		{Auto, "verifier", "other salt", false}, {Auto, "hash", "verifier", false}, {Auto, "hash", "hash", true}, {Auto, "plain", "hash", false},
		{Password, "verifier", "other salt", true}, {Password, "hash", "verifier", true},
		{MD5, "plain", "hash", true}, {MD5, "hash", "verifier", false},
	} {
		a, b := mustSecret(t, now[tc.a]), mustSecret(t, before[tc.b])
		if tc.method.together(a, b) != tc.want || tc.method.together(b, a) != tc.want {
			t.Errorf("%s: %s and %s together: want %t", tc.method, tc.a, tc.b, tc.want)
		}
	}
}

func TestTheOldPasswordEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, m := range []Method{Auto, Password, MD5} {
			a := mustNew(t, m, fixed{entry: changing(t, newPassword, password)})
			if o, _ := login(t, a, role, password); o.err != nil {
				t.Errorf("%s: the old password before its end: %v", m, o.err)
			}
			time.Sleep(time.Hour + 1)
			o, _ := login(t, a, role, password)
			wantFailed(t, o, role, WhyWrongPassword)
			if o, _ := login(t, a, role, newPassword); o.err != nil || !slices.Equal(o.cred.Tries(), []Credential{o.cred}) {
				t.Errorf("%s: the new password: %v", m, o.err)
			}
		}
	})
}

func TestTurnsAreKeptPerAddressAndOverReloads(t *testing.T) {
	t.Parallel()
	e := changing(t, verifierText(t, newPassword, "new salt"), verifierText(t, password, "old salt"))
	a := mustNew(t, Auto, fixed{entry: e})
	asks := func(a *Authenticator, from string, want Secret) {
		t.Helper()
		x, err := a.begin(t.Context(), nil, Peer{Role: role, Addr: netip.MustParseAddr(from)})
		if err != nil || len(x.asked) != 1 || x.asked[0] != want {
			t.Errorf("%s is asked for another secret, %v", from, err)
		}
	}
	asks(a, "192.0.2.1", e.Secret)
	x, err := a.begin(t.Context(), nil, Peer{Role: role, Addr: netip.MustParseAddr("192.0.2.1")})
	wantErr(t, err, nil)
	x.turn(x.failed())
	asks(a, "192.0.2.1", e.Also)
	asks(a, "192.0.2.2", e.Secret)
	again, err := New(Params{Method: Auto, Store: fixed{entry: e}, Before: a})
	wantErr(t, err, nil)
	asks(again, "192.0.2.1", e.Also)
	x, err = again.begin(t.Context(), nil, Peer{Role: role, Addr: netip.MustParseAddr("192.0.2.1")})
	wantErr(t, err, nil)
	x.turn(nil)
	asks(again, "192.0.2.1", e.Also)
	x.turn(ErrProtocol) // says nothing
	asks(again, "192.0.2.1", e.Also)
}

func TestTurnsAreBounded(t *testing.T) {
	t.Parallel()
	all, s := newTurns(), mustSecret(t, password)
	for i := range maxTurns + 10 {
		all.set(turnKey{role: fmt.Sprint(i)}, s)
	}
	if len(all.next) != maxTurns || !all.has(turnKey{role: fmt.Sprint(maxTurns + 9)}, s) {
		t.Errorf("%d are remembered, want %d, the last among them", len(all.next), maxTurns)
	}
}

func TestReloadKeepsWhatIsKnownOfSecretsThatStay(t *testing.T) {
	t.Parallel()
	users := func(text string) Chain {
		u, problems := parseUsers([]byte(text))
		if problems != nil {
			t.Fatal(problems)
		}
		return Chain{u}
	}
	old := verifierText(t, password, "salt")
	before := mustNew(t, Auto, users(fmt.Sprintf("%q %q\n\"plain\" \"x\"", role, old)))
	if o, _ := login(t, before, role, password); o.err != nil {
		t.Fatal(o.err)
	}
	store := users(fmt.Sprintf("%q %q until 2999-01-01T00:00:00Z\n%q %q\n\"plain\" \"x\"", role, old, role, verifierText(t, newPassword, "salt")))
	a, err := New(Params{Method: Auto, Store: store, Before: before})
	wantErr(t, err, nil)
	o, _ := login(t, a, role, newPassword)
	wantErr(t, o.err, nil)
	if got := o.cred.Tries(); len(got) != 2 || got[1].kind() != "SCRAM keys" {
		t.Errorf("%d ways to log in to Postgres, want the old one as well", len(got))
	}
	plain := func(a *Authenticator) *secret {
		e, err := a.store.Lookup(t.Context(), "plain")
		wantErr(t, err, nil)
		return e.Secret.s
	}
	if plain(a) != plain(before) {
		t.Error("a password that has not changed is derived anew")
	}
}

func TestCredentialsTryTheOtherSecret(t *testing.T) {
	t.Parallel()
	e := changing(t, newPassword, password)
	o, _ := login(t, mustNew(t, Auto, fixed{entry: e}), role, password)
	wantErr(t, o.err, nil)
	order := func() (kinds []string) {
		for _, c := range o.cred.Tries() {
			kinds = append(kinds, c.password())
		}
		return kinds
	}
	if got := order(); !slices.Equal(got, []string{password, newPassword}) {
		t.Errorf("first %q", got)
	}
	refused := &ServerError{Response: pgproto3.ErrorResponse{Code: "28P01"}}
	tries := o.cred.Tries()
	if !tries[0].Tried(fmt.Errorf("log in: %w", refused)) || tries[1].Tried(nil) {
		t.Error("a wrong password is not tried again with the other, or a right one is")
	}
	if got := order(); !slices.Equal(got, []string{newPassword, password}) {
		t.Errorf("after Postgres has refused the old one: %q", got)
	}
	for _, err := range []error{&NoSecretError{}, ErrVerifierMismatch} {
		if !o.cred.Tried(err) {
			t.Errorf("%v: the other is not tried", err)
		}
	}
	for _, err := range []error{ErrImpostor, &ServerError{Response: pgproto3.ErrorResponse{Code: "28000"}}, ErrProtocol} {
		if o.cred.Tried(err) {
			t.Errorf("%v: the other is tried", err)
		}
	}
	if got := PasswordCredential("x").Tries(); len(got) != 1 || (Credential{}).Tries()[0] != (Credential{}) {
		t.Error("a credential of its own is not tried alone")
	}
}

func TestGenerationsCoverEachOtherWhileAPasswordChanges(t *testing.T) {
	t.Parallel()
	before, now := mustSecret(t, password), mustSecret(t, newPassword)
	both := []Secret{now, before}
	old, oldOfTwo, nowOfTwo, alone := before.credential().amid([]Secret{before}, 0), before.credential().amid(both, 1),
		now.credential().amid(both, 0), now.credential().amid([]Secret{now}, 0)
	for i, tc := range []struct {
		c, backends Credential
		want        bool
	}{
		{old, old, true}, {oldOfTwo, old, true}, {nowOfTwo, old, true}, {alone, old, false}, {alone, nowOfTwo, true}, {old, nowOfTwo, false},
		{PasswordCredential("x"), PasswordCredential("x"), true}, {PasswordCredential("x"), PasswordCredential("y"), false},
	} {
		if tc.c.Covers(tc.backends.Generation()) != tc.want {
			t.Errorf("case %d: want %t", i, tc.want)
		}
	}
	if oldOfTwo.Fingerprint() == old.Fingerprint() || oldOfTwo.Fingerprint() == nowOfTwo.Fingerprint() {
		t.Error("credentials that are tried in other ways have one fingerprint")
	}
}
