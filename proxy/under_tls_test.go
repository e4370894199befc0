package proxy

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/tlsconf"
)

// handshakeAt makes the server's side of a handshake at the turnstile and returns the client's side of the connection, on
// which a write ends when the server has read it, and the other way round.
func handshakeAt(t *testing.T, ts *turnstile, config *tls.Config) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		under := &underTLS{Conn: near, ctx: t.Context(), turnstile: ts}
		_, _ = under.handshake(tls.Server(under, config))
	}()
	t.Cleanup(func() {
		_ = far.Close()
		<-done
	})
	return far
}

// firstFlight returns what a client sends first.
func firstFlight(t testing.TB) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := far.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	<-done
	return buf[:n]
}

func TestWhoReadsNothingOfAHandshakeHoldsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key, err := tlsconf.SelfSigned([]string{"sluice.example"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		ts := &turnstile{free: 1}
		if _, err := handshakeAt(t, ts, config).Write(firstFlight(t)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the server writes, and nobody reads
		if ts.free != 1 {
			t.Fatal("the handshake holds the only place while it waits for the network")
		}
		if err := tls.Client(handshakeAt(t, ts, config), &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
			t.Error(err)
		}
	})
}
