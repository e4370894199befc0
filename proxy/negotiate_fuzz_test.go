package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/config"
	"sluice/internal/tlsconf"
	"sluice/internal/wire"
)

// attackerConn gives what it was given, a few bytes at a time, then the end; it notes what it is sent.
type attackerConn struct {
	trickle
	sent bytes.Buffer
}

func (c *attackerConn) Write(p []byte) (int, error) { return c.sent.Write(p) }
func (c *attackerConn) Close() error                { return nil }
func (c *attackerConn) SetDeadline(time.Time) error { return nil }
func (c *attackerConn) SetReadDeadline(time.Time) error {
	return nil
}
func (c *attackerConn) SetWriteDeadline(time.Time) error { return nil }
func (c *attackerConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 1}
}
func (c *attackerConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432}
}

// offering returns a state that offers TLS, and one that does not.
func offering(tb testing.TB) [2]*state {
	cert, key, err := tlsconf.SelfSigned([]string{"sluice.example"}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	c := config.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), ClientCert: config.ClientCertNone, MinVersion: "1.2"}
	if err := errors.Join(os.WriteFile(c.CertFile, cert, 0o600), os.WriteFile(c.KeyFile, key, 0o600)); err != nil {
		tb.Fatal(err)
	}
	var states [2]*state
	for i, t := range []config.TLS{c, {ClientCert: config.ClientCertNone, MinVersion: "1.2"}} {
		s, err := serverTLS(t)
		if err != nil {
			tb.Fatal(err)
		}
		states[i] = &state{tls: s}
	}
	return states
}

// FuzzNegotiation has clients say anything up to their start-up packet. Once TLS is agreed on, nothing that comes in clear is
// taken for a packet; without it exactly the packets are taken, and all that is answered is one byte for each request.
func FuzzNegotiation(f *testing.F) {
	states := offering(f)
	ssl, startup := wire.AppendSSLRequest(nil), wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "alice"}})
	gss := []byte("\x00\x00\x00\x08\x04\xd2\x16\x30")
	hello := firstFlight(f)
	for _, parts := range [][][]byte{
		{startup}, {ssl, startup}, {gss, ssl, startup}, {ssl, gss, startup}, {ssl, ssl}, {gss, gss}, {ssl, hello}, {hello}, {hello, startup},
		{ssl, []byte("\x15\x03\x01\x00\x02\x01\x00"), startup}, {ssl, []byte("\x16\x03\x01\xff\xff"), startup}, {gss, hello},
		{hello[:20]}, {ssl, hello[:20], startup}, {ssl, []byte("\x17\x03\x03\x00\x05abcde"), startup}, {wire.AppendCancelRequest(nil, 1, []byte("1234"))},
	} {
		f.Add(bytes.Join(parts, nil), uint8(200), true)
		f.Add(bytes.Join(parts, nil), uint8(0), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, most uint8, offered bool) {
		rest := bytes.NewReader(in)
		nc := &attackerConn{trickle: trickle{in: rest, most: int(most) + 1}}
		st := states[1]
		if offered {
			st = states[0]
		}
		a := &admission{srv: &Server{env: environment{turnstile: newTurnstile()}}, state: st, nc: nc}
		r, e := a.negotiate(context.Background())
		if (r == nil) == (e == nil) {
			t.Fatalf("%q: %v and %v", in, r, e)
		}
		if e != nil {
			return
		}
		taken := in[:len(in)-rest.Len()]
		switch {
		case a.tls:
			t.Fatalf("%q: a handshake without the client's answer", in)
		case offered && bytes.HasPrefix(taken, ssl) && nc.sent.Len() > 0 && nc.sent.Bytes()[0] == 'S':
			t.Fatalf("%q: %+v was taken in clear behind an agreement on TLS", in, r)
		case len(nc.sent.Bytes()) > 2 || bytes.Trim(nc.sent.Bytes(), "N") != nil:
			t.Fatalf("%q: answered %q", in, nc.sent.Bytes())
		}
	})
}
