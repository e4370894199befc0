package auth

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
)

// clientCertificate returns a certificate with these common names.
func clientCertificate(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{DNSNames: []string{role}}
	for _, name := range names {
		template.Subject.ExtraNames = append(template.Subject.ExtraNames,
			pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
	}
	return selfSigned(t, template)
}

func TestCertificateMustNameTheRole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		peer Peer
		err  error // ErrIdentity: an *IdentityError that says says
		says string
	}{
		{"the role", Peer{TLS: true, Certificate: clientCertificate(t, role)}, nil, ""},
		{"another", Peer{TLS: true, Certificate: clientCertificate(t, "bob")}, ErrIdentity, `the client is "bob"`},
		{"another case", Peer{TLS: true, Certificate: clientCertificate(t, "Alice")}, ErrIdentity, `"Alice"`},
		{"a zero byte", Peer{TLS: true, Certificate: clientCertificate(t, role+"\x00.example")}, ErrIdentity, "zero byte"},
		{"several, the last is it", Peer{TLS: true, Certificate: clientCertificate(t, "bob", role)}, ErrIdentity, "several"},
		{"none", Peer{TLS: true, Certificate: clientCertificate(t)}, ErrIdentity, "no user name"},
		{"no certificate", Peer{TLS: true}, ErrNeedsCertificate, ""},
		{"no TLS", Peer{Secure: true}, ErrNeedsTLS, ""},
		{"a user of that name is none", Peer{TLS: true, User: func() (string, error) { return role, nil }}, ErrNeedsCertificate, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.peer.Role = role
			wantIdentity(t, mustNew(t, Cert, nil), tc.peer, tc.err, tc.says)
		})
	}
}

func TestUserOfTheSocketMustBeTheRole(t *testing.T) {
	t.Parallel()
	broken := errors.New("no such user")
	user := func(name string, err error) func() (string, error) {
		return func() (string, error) { return name, err }
	}
	for _, tc := range []struct {
		name string
		peer Peer
		err  error
		says string
	}{
		{"the role", Peer{Secure: true, User: user(role, nil)}, nil, ""},
		{"another", Peer{Secure: true, User: user("root", nil)}, ErrIdentity, `the client is "root"`},
		{"nobody", Peer{Secure: true, User: user("", nil)}, ErrIdentity, `""`},
		{"unknown", Peer{Secure: true, User: user(role, broken)}, broken, "no such user"},
		{"no socket", Peer{Secure: true}, ErrNeedsSocket, ""},
		{"no socket, but a certificate", Peer{TLS: true, Certificate: clientCertificate(t, role)}, ErrNeedsSocket, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.peer.Role = role
			wantIdentity(t, mustNew(t, SocketUser, nil), tc.peer, tc.err, tc.says)
		})
	}
}

func wantIdentity(t *testing.T, a *Authenticator, p Peer, want error, says string) {
	t.Helper()
	cred, err := a.Authenticate(t.Context(), nil, p) // the client is asked nothing
	wantErr(t, err, want)
	if !cred.IsZero() {
		t.Error("a credential out of nowhere")
	}
	if says == "" {
		return
	}
	e, ok := errors.AsType[*IdentityError](err)
	if !ok || !errors.Is(err, ErrIdentity) || e.Method != a.method || e.Role != p.Role || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want an *IdentityError of %s that says %s", err, a.method, says)
	}
}

func TestProvedClientsGetWhatIsStored(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	peer := Peer{Role: role, TLS: true, Certificate: clientCertificate(t, role)}
	for text, want := range map[string]string{plain: "a password", hash: "an md5 hash", verifier: "nothing"} {
		cred, err := mustNew(t, Cert, fixed{entry: Entry{Secret: mustSecret(t, text)}}).Authenticate(t.Context(), nil, peer)
		if err != nil || cred.kind() != want {
			t.Errorf("got %s, %v, want %s", cred.kind(), err, want)
		}
	}
	if _, err := mustNew(t, Cert, fixed{err: errors.New("down")}).Authenticate(t.Context(), nil, peer); !errors.Is(err, ErrLookup) {
		t.Errorf("got %v, want ErrLookup", err)
	}
	if _, err := New(Params{Method: MD5}); err == nil {
		t.Error("a method that asks for a secret does without a store")
	}
}

func TestEndPointBindingIsUndefinedWithoutAHashFunction(t *testing.T) {
	t.Parallel()
	if got := EndPointBinding(nil); got != nil {
		t.Errorf("no certificate: %x", got)
	}
	for algorithm, length := range map[x509.SignatureAlgorithm]int{
		x509.MD5WithRSA: 32, x509.SHA1WithRSA: 32, x509.ECDSAWithSHA256: 32, x509.SHA384WithRSAPSS: 48, x509.ECDSAWithSHA512: 64,
		x509.PureEd25519: 0, x509.UnknownSignatureAlgorithm: 0,
	} {
		if got := EndPointBinding(&x509.Certificate{Raw: []byte("der"), SignatureAlgorithm: algorithm}); len(got) != length {
			t.Errorf("%s: %d bytes, want %d", algorithm, len(got), length)
		}
	}
}

func TestKeysAreDerivedWhenComputeThinksFit(t *testing.T) {
	t.Parallel()
	plain, hash, verifier := stored(t)
	for _, tc := range []struct {
		method Method
		text   string
		calls  int
	}{
		{Password, plain, 1}, {Password, verifier, 1}, {Password, hash, 1}, {Auto, plain, 1}, {Auto, verifier, 0}, {Auto, hash, 0},
	} {
		calls := 0
		a, err := New(Params{Method: tc.method, Store: fixed{entry: Entry{Secret: mustSecret(t, tc.text)}},
			Compute: func(_ context.Context, work func()) error {
				calls++
				work()
				return nil
			}})
		wantErr(t, err, nil)
		if o, clientErr := login(t, a, role, password); o.err != nil || clientErr != nil || calls != tc.calls {
			t.Errorf("%s: %v, client: %v, %d calls of Compute, want %d", tc.method, o.err, clientErr, calls, tc.calls)
		}
	}
	busy := errors.New("busy")
	for _, m := range []Method{Password, SCRAMSHA256} {
		a, err := New(Params{Method: m, Store: fixed{entry: Entry{Secret: mustSecret(t, plain)}},
			Compute: func(context.Context, func()) error { return busy }})
		wantErr(t, err, nil)
		o, _ := login(t, a, role, password)
		wantErr(t, o.err, busy)
	}
}
