package auth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

// asked names what the first message of a login's transcript asks for.
func asked(sent []byte) string {
	if len(sent) < 9 {
		return "nothing"
	}
	return requestName(binary.BigEndian.Uint32(sent[5:]))
}

func TestEverySecretWithEveryMethod(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	const plainText, sasl, md5 = "a password in clear", "SASL", "md5"
	for _, tc := range []struct {
		method Method
		kind   string
		text   string
		asks   string
		cred   string // what there is after the right password; empty: it fails
		why    Why    // of a wrong password
	}{
		{Auto, "plain", plain, sasl, "a password", WhyWrongPassword},
		{Auto, "hash", hash, md5, "an md5 hash", WhyWrongPassword},
		{Auto, "verifier", verifier, sasl, "SCRAM keys", WhyWrongPassword},
		{Auto, "none", "", sasl, "", WhyNoPassword},
		{Password, "plain", plain, plainText, "a password", WhyWrongPassword},
		{Password, "hash", hash, plainText, "a password", WhyWrongPassword},
		{Password, "verifier", verifier, plainText, "a password", WhyWrongPassword},
		{Password, "none", "", plainText, "", WhyNoPassword},
		{MD5, "plain", plain, md5, "a password", WhyWrongPassword},
		{MD5, "hash", hash, md5, "an md5 hash", WhyWrongPassword},
		{MD5, "verifier", verifier, sasl, "SCRAM keys", WhyWrongPassword},
		{MD5, "none", "", md5, "", WhyNoPassword},
		{SCRAMSHA256, "plain", plain, sasl, "a password", WhyWrongPassword},
		{SCRAMSHA256, "hash", hash, sasl, "", WhyMD5Stored},
		{SCRAMSHA256, "verifier", verifier, sasl, "SCRAM keys", WhyWrongPassword},
		{SCRAMSHA256, "none", "", sasl, "", WhyNoPassword},
	} {
		t.Run(fmt.Sprintf("%s, %s stored", tc.method, tc.kind), func(t *testing.T) {
			t.Parallel()
			a := mustNew(t, tc.method, fixed{entry: Entry{Secret: mustSecret(t, tc.text)}})
			o, clientErr := login(t, a, role, password)
			if got := asked(o.sent); got != tc.asks {
				t.Errorf("asked for %s, want %s", got, tc.asks)
			}
			if tc.cred == "" {
				wantFailed(t, o, role, tc.why)
			} else if o.err != nil || clientErr != nil || o.cred.kind() != tc.cred {
				t.Errorf("right password: %s, %v, client: %v; want %s", o.cred.kind(), o.err, clientErr, tc.cred)
			}
			for _, wrong := range []string{"Correct horse", "", hash, verifier} {
				o, clientErr = login(t, a, role, wrong)
				if clientErr == nil {
					t.Errorf("the client got in with %q", wrong)
				}
				wantFailed(t, o, role, tc.why)
			}
			o, _ = login(t, a, "bob", password)
			wantFailed(t, o, "bob", WhyUnknownRole)
		})
	}
}

// TestMD5OfAUserNameThatNamesTheTenant: the client hashes what it calls itself.
func TestMD5OfAUserNameThatNamesTheTenant(t *testing.T) {
	t.Parallel()
	plain, hash, _ := stored(t)
	typed := role + ".acme"
	loginTyped := func(text string) outcome {
		a := mustNew(t, MD5, fixed{entry: Entry{Secret: mustSecret(t, text)}})
		o, _ := connect(t, plainConfig(t), typed, password, func(nc net.Conn, served chan<- outcome) {
			var o outcome
			if _, o.err = wire.ReadRequest(nc); o.err == nil {
				o = judge(a, Peer{Role: role, Typed: typed, Secure: true}, nc, nc)
			}
			served <- o
		})
		return o
	}
	if o := loginTyped(plain); o.err != nil || o.cred.kind() != "a password" {
		t.Errorf("a plain password: %s, %v", o.cred.kind(), o.err)
	}
	wantFailed(t, loginTyped(hash), role, WhyMD5Name)
	wantFailed(t, loginTyped("another"), role, WhyWrongPassword)
	wantFailed(t, loginTyped(""), role, WhyNoPassword)
	if o := loginTyped(md5Prefix + hashMD5(password, typed)); o.err != nil { // stored for this very name
		t.Errorf("a hash of the whole name: %v", o.err)
	}
}

func wantFailed(t *testing.T, o outcome, user string, why Why) {
	t.Helper()
	var failed *FailedError
	if !errors.As(o.err, &failed) || !errors.Is(o.err, ErrAuthFailed) {
		t.Errorf("got error %v, want one that is %v", o.err, ErrAuthFailed)
		return
	}
	if diff := cmp.Diff(&FailedError{Role: user, Asked: failed.Asked, Why: why}, failed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !o.cred.IsZero() {
		t.Error("a failed login gives a credential")
	}
}

func TestChannelBindingWithPgconn(t *testing.T) {
	t.Parallel()
	_, _, verifier := stored(t)
	cert := certificate(t)
	a := mustNew(t, Auto, fixed{entry: Entry{Secret: mustSecret(t, verifier)}})
	for _, binding := range []string{"require", "prefer", "disable"} {
		config, err := pgconn.ParseConfig("postgres://sluice.invalid/?sslmode=require&channel_binding=" + binding)
		if err != nil {
			t.Fatal(err)
		}
		o, clientErr := loginWith(t, a, config, role, password, cert)
		if o.err != nil || clientErr != nil {
			t.Errorf("channel_binding=%s: %v, client: %v", binding, o.err, clientErr)
		}
		o, _ = loginWith(t, a, config, role, "wrong", cert)
		wantFailed(t, o, role, WhyWrongPassword)
	}
}

// mask blanks what is random in a transcript, and keeps its length.
func mask(sent []byte) string {
	blank := func(b []byte) []byte { return []byte(strings.Repeat("*", len(b))) }
	if asked(sent) == "md5" {
		return string(sent[:9]) + string(blank(sent[9:13])) + string(sent[13:])
	}
	return string(regexp.MustCompile(`[rs]=[^,]*`).ReplaceAllFunc(sent, blank))
}

func TestUnknownRoleLooksLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	plain, hash, _ := stored(t)
	v, err := scram.NewVerifier(password, scram.NewSalt(), scram.DefaultIterations)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method Method
		text   string
	}{
		{Auto, plain}, {Auto, v.String()}, {SCRAMSHA256, plain}, {SCRAMSHA256, hash}, {SCRAMSHA256, v.String()},
		{MD5, plain}, {MD5, hash}, {Password, plain}, {Password, hash}, {Password, v.String()},
	} {
		secret := mustSecret(t, tc.text)
		wrong, _ := login(t, mustNew(t, tc.method, fixed{entry: Entry{Secret: secret}}), role, "wrong")
		unknown, _ := login(t, mustNew(t, tc.method, fixed{}), "carol", "wrong")
		empty, _ := login(t, mustNew(t, tc.method, fixed{}), role, "wrong")
		expired, _ := login(t, mustNew(t, tc.method, fixed{entry: Entry{Secret: secret, ValidUntil: time.Unix(1, 0)}}), role, password)
		wantFailed(t, unknown, "carol", WhyUnknownRole)
		wantFailed(t, empty, role, WhyNoPassword)
		for name, o := range map[string]outcome{"unknown role": unknown, "no password": empty, "expired": expired} {
			if diff := cmp.Diff(mask(wrong.sent), mask(o.sent)); diff != "" {
				t.Errorf("%s with %q stored: %s differs from a wrong password:\n%s", tc.method, tc.text, name, diff)
			}
		}
	}
}

var saltOf = regexp.MustCompile(`s=[^,]*`)

func TestSaltsOfUnknownRolesAreStableAndDiffer(t *testing.T) {
	t.Parallel()
	salt := func(s Store, user string) string {
		o, _ := login(t, mustNew(t, Auto, s), user, "wrong")
		return string(saltOf.Find(o.sent))
	}
	first, again, other := salt(fixed{}, "carol"), salt(fixed{}, "carol"), salt(fixed{}, "bob")
	if first == "" || first != again || first == other {
		t.Errorf("carol %q, again %q, bob %q", first, again, other)
	}
	// A reload must not show which roles have a plain password.
	plain := func() Store { return fixed{entry: Entry{Secret: mustSecret(t, password)}} }
	if first, again := salt(plain(), role), salt(plain(), role); first != again {
		t.Errorf("a plain password has salt %q, then %q", first, again)
	}
}

func TestExpiryIsCheckedAtLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Entry{Secret: mustSecret(t, password), ValidUntil: time.Now().Add(time.Minute)}
		for _, m := range []Method{Auto, Password, MD5} {
			if o, _ := login(t, mustNew(t, m, fixed{entry: e}), role, password); o.err != nil {
				t.Errorf("%s before it expires: %v", m, o.err)
			}
		}
		time.Sleep(time.Minute + 1)
		for _, m := range []Method{Auto, Password, MD5} {
			o, _ := login(t, mustNew(t, m, fixed{entry: e}), role, password)
			wantFailed(t, o, role, WhyExpired)
		}
	})
}

func TestPlainPasswordIsDerivedOnce(t *testing.T) {
	t.Parallel()
	s := mustSecret(t, password)
	a := mustNew(t, Auto, fixed{entry: Entry{Secret: s}})
	for range 2 {
		if o, _ := login(t, a, role, password); o.err != nil {
			t.Fatal(o.err)
		}
	}
	first := s.s.derived
	if _, ok, err := s.scramVerifier(a.salt(role), scram.DefaultIterations); first == nil || s.s.derived != first || !ok || err != nil {
		t.Errorf("derived anew: %t, %v", ok, err)
	}
}

func TestNewDerivesThePasswordsOfAUsersFile(t *testing.T) {
	t.Parallel()
	_, hash, verifier := stored(t)
	u, problems := parseUsers(fmt.Appendf(nil, "\"alice\" \"a\"\n\"bob\" \"b\"\n\"carol\" %q\n\"dave\" %q\n", hash, verifier))
	if problems != nil {
		t.Fatal(problems)
	}
	mustNew(t, MD5, u)
	if u.entries["alice"].Secret.s.derived != nil {
		t.Error("derived though clients are asked for md5")
	}
	mustNew(t, Auto, Chain{fixed{}, u})
	for _, name := range []string{"alice", "bob"} {
		if u.entries[name].Secret.s.derived == nil {
			t.Errorf("%s is not derived", name)
		}
	}
}

func TestPasswordThatFitsAVerifierIsRemembered(t *testing.T) {
	t.Parallel()
	_, _, verifier := stored(t)
	s := mustSecret(t, verifier)
	a := mustNew(t, Password, fixed{entry: Entry{Secret: s}})
	first, _ := login(t, a, role, password)
	if cred, ok := s.remembered(password); !ok || cred.c != first.cred.c {
		t.Error("the right password is not remembered")
	}
	if _, ok := s.remembered("wrong"); ok {
		t.Error("a wrong password is remembered")
	}
	second, _ := login(t, a, role, password)
	if second.err != nil || second.cred.c != first.cred.c {
		t.Errorf("second login: %v, same credential: %t", second.err, second.cred.c == first.cred.c)
	}
}

func TestTrustAsksNothingAndUsesWhatIsStored(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	for _, tc := range []struct {
		store Store
		kind  string
		want  error
	}{
		{nil, "nothing", nil},
		{fixed{err: ErrUnknownRole}, "nothing", nil},
		{fixed{entry: Entry{Secret: mustSecret(t, plain)}}, "a password", nil},
		{fixed{entry: Entry{Secret: mustSecret(t, hash)}}, "an md5 hash", nil},
		{fixed{entry: Entry{Secret: mustSecret(t, verifier)}}, "nothing", nil},
		{fixed{}, "nothing", nil},
		{fixed{err: io.ErrUnexpectedEOF}, "nothing", ErrLookup},
	} {
		o, _ := login(t, mustNew(t, Trust, tc.store), role, "whatever")
		if !errors.Is(o.err, tc.want) || (tc.want == nil && o.err != nil) || o.cred.kind() != tc.kind || len(o.sent) != 0 {
			t.Errorf("store %+v: %s, %v, sent %q; want %s, %v", tc.store, o.cred.kind(), o.err, o.sent, tc.kind, tc.want)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	if _, err := New(Params{Method: "ldap", Store: fixed{}}); err == nil {
		t.Error("an unknown method is taken")
	}
	if _, err := New(Params{Method: Auto}); err == nil {
		t.Error("no store is taken")
	}
}

func TestPasswordInClearNeedsTLS(t *testing.T) {
	t.Parallel()
	near, _ := net.Pipe()
	_, err := mustNew(t, Password, fixed{}).Authenticate(t.Context(), wire.NewConn(near, wire.Client), Peer{Role: role})
	wantErr(t, err, ErrNeedsTLS)
}

func TestFailedLookupIsNoFailedLogin(t *testing.T) {
	t.Parallel()
	down := errors.New("postgres is down")
	o, _ := login(t, mustNew(t, Auto, fixed{err: down}), role, password)
	wantErr(t, o.err, ErrLookup)
	wantErr(t, o.err, down)
	if errors.Is(o.err, ErrAuthFailed) || len(o.sent) != 0 {
		t.Errorf("%v, sent %q", o.err, o.sent)
	}
}

// counting is a Store that counts its invalidations.
type counting struct {
	fixed
	roles *[]string
}

func (c counting) Invalidate(name string) { *c.roles = append(*c.roles, name) }

func TestFailedLoginInvalidatesTheStore(t *testing.T) {
	t.Parallel()
	var roles []string
	a := mustNew(t, MD5, Chain{fixed{err: ErrUnknownRole}, counting{fixed{entry: Entry{Secret: mustSecret(t, password)}}, &roles}})
	for _, pw := range []string{password, "wrong"} {
		_, _ = login(t, a, role, pw)
	}
	_, _ = login(t, a, "bob", password)
	if diff := cmp.Diff([]string{role, "bob"}, roles); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
