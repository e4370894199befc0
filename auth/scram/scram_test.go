package scram

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The exchange of RFC 7677, "SCRAM-SHA-256 and SCRAM-SHA-256-PLUS".
const (
	rfcPassword    = "pencil"
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcSalt        = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcClientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
		"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func rfcVerifier(t testing.TB) Verifier {
	t.Helper()
	salt, _ := decode(rfcSalt)
	return mustVerifier(t, rfcPassword, salt, 4096)
}

func mustVerifier(t testing.TB, password string, salt []byte, iterations int) Verifier {
	t.Helper()
	v, err := NewVerifier(password, salt, iterations)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rfcServer returns a server that continues nonces as the server of RFC 7677 does.
func rfcServer(t testing.TB, v Verifier, o ServerOptions) *Server {
	t.Helper()
	s, err := NewServer(v, o)
	if err != nil {
		t.Fatal(err)
	}
	s.nonce = rfcServerNonce
	return s
}

func rfcClient(password string) *Client {
	c := NewClient(PasswordKeys(password), ClientOptions{Mechanism: SHA256, User: "user"})
	c.nonce = rfcClientNonce
	return c
}

func TestServerGivesTheAnswersOfRFC7677(t *testing.T) {
	t.Parallel()
	s := rfcServer(t, rfcVerifier(t), ServerOptions{Mechanism: SHA256})
	first, err := s.First([]byte(rfcClientFirst))
	if string(first) != rfcServerFirst || err != nil {
		t.Fatalf("First = %q, %v; want %q", first, err, rfcServerFirst)
	}
	final, err := s.Final([]byte(rfcClientFinal))
	if string(final) != rfcServerFinal || err != nil {
		t.Fatalf("Final = %q, %v; want %q", final, err, rfcServerFinal)
	}
	salt, _ := decode(rfcSalt)
	want, _ := DeriveKeys(rfcPassword, salt, 4096)
	if s.ClientKey() != want.ClientKey {
		t.Error("the ClientKey recovered from the proof is not the password's")
	}
}

func TestClientGivesTheAnswersOfRFC7677(t *testing.T) {
	t.Parallel()
	c := rfcClient(rfcPassword)
	if got := string(c.First()); got != rfcClientFirst {
		t.Fatalf("First = %q, want %q", got, rfcClientFirst)
	}
	final, err := c.Final([]byte(rfcServerFirst))
	if string(final) != rfcClientFinal || err != nil {
		t.Fatalf("Final = %q, %v; want %q", final, err, rfcClientFinal)
	}
	if err := c.Verify([]byte(rfcServerFinal)); err != nil {
		t.Fatalf("Verify = %v", err)
	}
	if err := c.Verify([]byte(strings.Replace(rfcServerFinal, "6", "7", 1))); !errors.Is(err, ErrServerSignature) {
		t.Errorf("Verify of a wrong signature = %v, want %v", err, ErrServerSignature)
	}
}

// run lets the two sides talk and returns the first error of either.
func run(s *Server, c *Client) error {
	first, err := s.First(c.First())
	if err != nil {
		return fmt.Errorf("server first: %w", err)
	}
	clientFinal, err := c.Final(first)
	if err != nil {
		return fmt.Errorf("client final: %w", err)
	}
	final, err := s.Final(clientFinal)
	if err != nil {
		return fmt.Errorf("server final: %w", err)
	}
	return c.Verify(final)
}

func TestExchangeEndsByPasswordAndChannelBinding(t *testing.T) {
	t.Parallel()
	ours, other := []byte("certificate hash"), []byte("somebody else's")
	for _, tc := range []struct {
		name     string
		password string
		server   ServerOptions
		client   ClientOptions
		want     error
	}{
		{"right password", "secret", ServerOptions{Mechanism: SHA256}, ClientOptions{Mechanism: SHA256}, nil},
		{"wrong password", "Secret", ServerOptions{Mechanism: SHA256}, ClientOptions{Mechanism: SHA256}, ErrProof},
		{"doomed", "secret", ServerOptions{Mechanism: SHA256, Doomed: true}, ClientOptions{Mechanism: SHA256}, ErrProof},
		{"bound", "secret", ServerOptions{Mechanism: SHA256Plus, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256Plus, ChannelBinding: ours}, nil},
		{"bound, wrong password", "Secret", ServerOptions{Mechanism: SHA256Plus, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256Plus, ChannelBinding: ours}, ErrProof},
		{"bound to another channel", "secret", ServerOptions{Mechanism: SHA256Plus, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256Plus, ChannelBinding: other}, ErrChannelBinding},
		{"offer to bind was removed on the way", "secret", ServerOptions{Mechanism: SHA256, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256, ChannelBinding: ours}, ErrChannelBinding},
		{"client could bind, server cannot", "secret", ServerOptions{Mechanism: SHA256},
			ClientOptions{Mechanism: SHA256, ChannelBinding: ours}, nil},
		{"client cannot bind, server could", "secret", ServerOptions{Mechanism: SHA256, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256}, nil},
		{"flag without binding for the mechanism with", "secret", ServerOptions{Mechanism: SHA256Plus, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256}, ErrMessage},
		{"flag with binding for the mechanism without", "secret", ServerOptions{Mechanism: SHA256, ChannelBinding: ours},
			ClientOptions{Mechanism: SHA256Plus, ChannelBinding: ours}, ErrMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := NewServer(mustVerifier(t, "secret", []byte("salt"), 7), tc.server)
			if err != nil {
				t.Fatal(err)
			}
			err = run(s, NewClient(PasswordKeys(tc.password), tc.client))
			if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if proved := s.ClientKey() != (Key{}); proved != (tc.want == nil) {
				t.Errorf("ClientKey is set: %t", proved)
			}
		})
	}
}

func TestNewServerRefusesAMechanismThatWasNotOffered(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"", "SCRAM-SHA-1", "OAUTHBEARER", SHA256Plus} {
		if _, err := NewServer(Verifier{}, ServerOptions{Mechanism: mechanism}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("NewServer with %q = %v, want %v", mechanism, err, ErrUnsupported)
		}
	}
}

// The key recovered from a client's proof logs in elsewhere: the whole of pass-through.
func TestRecoveredClientKeyLogsInWithoutThePassword(t *testing.T) {
	t.Parallel()
	v := mustVerifier(t, "secret", []byte("salt"), 7)
	s := rfcServer(t, v, ServerOptions{Mechanism: SHA256})
	if err := run(s, NewClient(PasswordKeys("secret"), ClientOptions{Mechanism: SHA256})); err != nil {
		t.Fatal(err)
	}
	recovered := func([]byte, int) (Keys, error) { return Keys{ClientKey: s.ClientKey(), ServerKey: v.ServerKey}, nil }
	next := rfcServer(t, v, ServerOptions{Mechanism: SHA256})
	if err := run(next, NewClient(recovered, ClientOptions{Mechanism: SHA256})); err != nil {
		t.Error(err)
	}
}

func TestServerRefusesMalformedClientFirst(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		message string
		want    error
	}{
		{"n,,n=,r=abc", nil},
		{"y,,n=user,r=abc,x=optional", nil},
		{"", ErrMessage},
		{"n", ErrMessage},
		{"n,", ErrMessage},
		{"n,,", ErrMessage},
		{"x,,n=,r=abc", ErrMessage},
		{"p=tls-unique,,n=,r=abc", ErrMessage}, // the mechanism is the one without channel binding
		{"n,a=other,n=,r=abc", ErrUnsupported},
		{"n,b=other,n=,r=abc", ErrMessage},
		{"n,,m=must,n=,r=abc", ErrUnsupported},
		{"n,,r=abc", ErrMessage},
		{"n,,n=", ErrMessage},
		{"n,,n=,r=", ErrMessage},
		{"n,,n=,r=a c", ErrMessage},
		{"n,,n=,r=a\x7fc", ErrMessage},
		{"n,,n=,r=abc,", ErrMessage},
		{"n,,n=,r=abc,1=x", ErrMessage},
		{"n,,n=,r=abc\x00", ErrMessage},
	} {
		_, err := rfcServer(t, rfcVerifier(t), ServerOptions{Mechanism: SHA256}).First([]byte(tc.message))
		if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("First(%q) = %v, want %v", tc.message, err, tc.want)
		}
	}
}

func TestServerRefusesAnotherTypeOfChannelBinding(t *testing.T) {
	t.Parallel()
	s := rfcServer(t, rfcVerifier(t), ServerOptions{Mechanism: SHA256Plus, ChannelBinding: []byte("hash")})
	if _, err := s.First([]byte("p=tls-unique,,n=,r=abc")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want %v", err, ErrUnsupported)
	}
}

func TestServerRefusesMalformedClientFinal(t *testing.T) {
	t.Parallel()
	const nonce, proof = rfcClientNonce + rfcServerNonce, ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	for _, tc := range []struct {
		message string
		want    error
	}{
		{"c=biws,r=" + nonce + proof, nil},
		{"c=biws,r=" + nonce + ",x=changes the proof" + proof, ErrProof},
		{"", ErrMessage},
		{"c=biws,r=" + nonce, ErrMessage},
		{"c=biws,r=" + nonce + ",p=", ErrMessage},
		{"c=biws,r=" + nonce + ",p=dHzb", ErrMessage},
		{"c=biws,r=" + nonce + proof + ",x=behind", ErrMessage},
		{"c=biws,r=" + nonce + proof + "\n", ErrMessage},
		{"c=eSws,r=" + nonce + proof, ErrMessage},
		{"c=,r=" + nonce + proof, ErrMessage},
		{"r=" + nonce + proof, ErrMessage},
		{"c=biws,r=" + rfcClientNonce + proof, ErrMessage},
		{"c=biws,r=" + nonce + "x" + proof, ErrMessage},
		{"c=biws,m=must,r=" + nonce + proof, ErrUnsupported},
		{proof, ErrMessage},
	} {
		s := rfcServer(t, rfcVerifier(t), ServerOptions{Mechanism: SHA256})
		if _, err := s.First([]byte(rfcClientFirst)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Final([]byte(tc.message))
		if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("Final(%q) = %v, want %v", tc.message, err, tc.want)
		}
	}
}

func TestClientRefusesMalformedServerFirst(t *testing.T) {
	t.Parallel()
	const nonce = "r=" + rfcClientNonce + "more"
	for _, tc := range []struct {
		message string
		want    error
	}{
		{nonce + ",s=c2FsdA==,i=1", nil},
		{nonce + ",s=c2FsdA==,i=1,x=optional", nil},
		{"", ErrMessage},
		{"m=must," + nonce + ",s=c2FsdA==,i=1", ErrUnsupported},
		{"r=" + rfcClientNonce + ",s=c2FsdA==,i=1", ErrMessage}, // nothing of the server's own
		{"r=other,s=c2FsdA==,i=1", ErrMessage},
		{nonce, ErrMessage},
		{nonce + ",s=,i=1", ErrMessage},
		{nonce + ",s=c2FsdA,i=1", ErrMessage},
		{nonce + ",s=c2Fs\ndA==,i=1", ErrMessage},
		{nonce + ",s=c2FsdA==", ErrMessage},
		{nonce + ",s=c2FsdA==,i=", ErrMessage},
		{nonce + ",s=c2FsdA==,i=0", ErrMessage},
		{nonce + ",s=c2FsdA==,i=-1", ErrMessage},
		{nonce + ",s=c2FsdA==,i=+1", ErrMessage},
		{nonce + ",s=c2FsdA==,i=10000001", ErrMessage},
		{nonce + ",s=c2FsdA==,i=99999999999999999999", ErrMessage},
		{nonce + ",s=c2FsdA==,i=1,", ErrMessage},
	} {
		_, err := rfcClient(rfcPassword).Final([]byte(tc.message))
		if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("Final(%q) = %v, want %v", tc.message, err, tc.want)
		}
	}
}

func TestClientRefusesServerFinal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		message string
		want    error
	}{
		{rfcServerFinal, nil},
		{rfcServerFinal + ",x=optional", nil},
		{rfcServerFinal + ",", ErrMessage},
		{"e=other-error", ErrRefused},
		{"v=", ErrMessage},
		{"v=AAAA", ErrMessage},
		{"x=" + rfcServerFinal[2:], ErrMessage},
		{"", ErrMessage},
		{"v=" + base64.StdEncoding.EncodeToString(make([]byte, KeyLen)), ErrServerSignature},
	} {
		c := rfcClient(rfcPassword)
		if _, err := c.Final([]byte(rfcServerFirst)); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify([]byte(tc.message)); !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("Verify(%q) = %v, want %v", tc.message, err, tc.want)
		}
	}
}

func TestClientEscapesTheUserName(t *testing.T) {
	t.Parallel()
	c := NewClient(PasswordKeys(""), ClientOptions{Mechanism: SHA256, User: "a=b,c"})
	if got, want := string(c.First()), "n,,n=a=3Db=2Cc,r="+c.nonce; got != want {
		t.Errorf("First = %q, want %q", got, want)
	}
}

func TestChoosePrefersChannelBinding(t *testing.T) {
	t.Parallel()
	both, hash := []string{SHA256Plus, SHA256}, []byte("hash")
	for _, tc := range []struct {
		offered []string
		binding []byte
		want    string
		ok      bool
	}{
		{both, hash, SHA256Plus, true},
		{both, nil, SHA256, true},
		{[]string{SHA256}, hash, SHA256, true},
		{[]string{SHA256Plus}, hash, SHA256Plus, true},
		{[]string{SHA256Plus}, nil, SHA256, false},
		{[]string{"OAUTHBEARER"}, hash, SHA256, false},
	} {
		if got, ok := Choose(tc.offered, tc.binding); got != tc.want || ok != tc.ok {
			t.Errorf("Choose(%q, %q) = %q, %t; want %q, %t", tc.offered, tc.binding, got, ok, tc.want, tc.ok)
		}
	}
}
