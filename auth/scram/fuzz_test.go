package scram

import (
	"errors"
	"testing"
)

// known reports whether err is one of those that the package promises.
func known(err error) bool {
	for _, want := range []error{ErrMessage, ErrUnsupported, ErrChannelBinding, ErrProof, ErrServerSignature, ErrRefused} {
		if errors.Is(err, want) {
			return true
		}
	}
	return err == nil
}

func FuzzParseVerifier(f *testing.F) {
	f.Add(rfcVerifier(f).String())
	f.Add("SCRAM-SHA-256$1:c2FsdA==$")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVerifier(text)
		if err != nil {
			return
		}
		again, err := ParseVerifier(v.String())
		if err != nil || again.String() != v.String() {
			t.Errorf("%q became %q, %v", text, v.String(), err)
		}
	})
}

func FuzzServerTakesClientFirst(f *testing.F) {
	v := rfcVerifier(f)
	for _, s := range []string{rfcClientFirst, "y,,n=,r=a", "p=tls-server-end-point,,n=,r=a,x=y", "n,a=x,n=,r=a"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, message string, plus bool) {
		o := ServerOptions{Mechanism: SHA256}
		if plus {
			o = ServerOptions{Mechanism: SHA256Plus, ChannelBinding: []byte("hash")}
		}
		s := rfcServer(t, v, o)
		first, err := s.First([]byte(message))
		if !known(err) {
			t.Fatalf("unexpected error %v", err)
		}
		if err != nil {
			return
		}
		if _, err := parseServerFirst(string(first)); err != nil {
			t.Errorf("answer %q to %q is malformed: %v", first, message, err)
		}
	})
}

func FuzzServerTakesClientFinal(f *testing.F) {
	v := rfcVerifier(f)
	f.Add(rfcClientFinal)
	f.Add("c=biws,r=x,p=")
	f.Fuzz(func(t *testing.T, message string) {
		s := rfcServer(t, v, ServerOptions{Mechanism: SHA256})
		if _, err := s.First([]byte(rfcClientFirst)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Final([]byte(message))
		if !known(err) {
			t.Fatalf("unexpected error %v", err)
		}
		if err == nil && message != rfcClientFinal {
			t.Errorf("%q was taken as a proof", message)
		}
	})
}

func FuzzClientTakesServerFirst(f *testing.F) {
	f.Add(rfcServerFirst)
	f.Add("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1,x=y")
	f.Fuzz(func(t *testing.T, message string) {
		c := NewClient(func([]byte, int) (Keys, error) { return Keys{}, nil }, ClientOptions{Mechanism: SHA256})
		c.nonce = rfcClientNonce
		if _, err := c.Final([]byte(message)); !known(err) {
			t.Fatalf("unexpected error %v", err)
		}
	})
}

func FuzzClientTakesServerFinal(f *testing.F) {
	f.Add(rfcServerFinal)
	f.Add("e=other-error")
	f.Fuzz(func(t *testing.T, message string) {
		c := rfcClient(rfcPassword)
		c.keys = func([]byte, int) (Keys, error) { return Keys{}, nil }
		if _, err := c.Final([]byte(rfcServerFirst)); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify([]byte(message)); err == nil || !known(err) {
			t.Fatalf("%q: %v", message, err)
		}
	})
}
