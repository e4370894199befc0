package loop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// role says which side of TLS the loop has.
type role struct {
	name    string
	client  bool
	version uint16
}

// everyRole runs a test with loops of every kind on both sides of TLS.
func everyRole(t *testing.T, f func(t *testing.T, v variant, as role)) {
	every(t, func(t *testing.T, v variant) {
		for _, as := range []role{
			{"server 1.3", false, tls.VersionTLS13}, {"client 1.3", true, tls.VersionTLS13},
			{"server 1.2", false, tls.VersionTLS12}, {"client 1.2", true, tls.VersionTLS12},
		} {
			t.Run(as.name, func(t *testing.T) { t.Parallel(); f(t, v, as) })
		}
	})
}

// configs returns the configurations of a server and of its client.
func configs(t testing.TB, version uint16) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version}
	return server, &tls.Config{InsecureSkipVerify: true, MinVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
}

// handshake makes near a TLS connection over a Switch, and far its peer over what wrap makes of it.
func handshake(t testing.TB, as role, near, far net.Conn) (adoptable, peer *tls.Conn) {
	t.Helper()
	server, client := configs(t, as.version)
	if as.client {
		adoptable, peer = tls.Client(NewSwitch(near), client), tls.Server(far, server)
	} else {
		adoptable, peer = tls.Server(NewSwitch(near), server), tls.Client(far, client)
	}
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	if err := errors.Join(adoptable.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return adoptable, peer
}

// tlsPair returns a TLS connection adopted by l, its peer, and the connection under that.
func tlsPair(t testing.TB, l *Loop, r Handler, as role) (c *Conn, peer *tls.Conn, raw *net.TCPConn) {
	t.Helper()
	near, far := dial(t)
	adoptable, peer := handshake(t, as, near, far)
	l.Do(func() {
		c = l.Adopt(adoptable, r)
		r.(adopter).adopted(c)
	})
	return c, peer, far
}

// echo is a Handler that sends back what it reads, reading no further while much is unsent.
type echo struct {
	*recorder
	limit int // of a Read
}

func (e *echo) Readable() {
	defer e.tell()
	for e.conn.Unsent() < 64<<10 {
		p := e.conn.loop.Buffer()
		n, err := e.conn.Read(p[:min(len(p), e.limit)])
		if errors.Is(err, ErrAgain) {
			return
		}
		if err != nil {
			e.err = err
			e.conn.Shutdown()
			return
		}
		e.conn.Write(p[:n])
	}
	e.conn.Want(false)
}

func (e *echo) Drained() { e.conn.Want(true) }

func TestTLSEchoWithBackPressureBothWays(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		for _, limit := range []int{1000, BufferSize} {
			l, e := run(t, v), &echo{recorder: newRecorder(), limit: limit}
			near, far := dial(t)
			if err := near.SetWriteBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			adoptable, peer := handshake(t, as, near, far)
			l.Do(func() { e.conn = l.Adopt(adoptable, e) })
			const total = 2 << 20
			want := make([]byte, total)
			random := mathrand.NewChaCha8([32]byte{1})
			_, _ = random.Read(want)
			go func() {
				sizes := mathrand.New(random)
				for rest := want; len(rest) > 0; {
					n := min(1+sizes.IntN(1<<sizes.IntN(18)), len(rest))
					if _, err := peer.Write(rest[:n]); err != nil {
						return // the reader below says what is missing
					}
					rest = rest[n:]
				}
				_ = peer.CloseWrite()
			}()
			e.until(t, l, "back-pressure", func() bool { return e.conn.paused })
			got, err := io.ReadAll(peer)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("limit %d: got %d bytes and %v, want the %d that were sent", limit, len(got), err, total)
			}
			_ = peer.Close()
			l.Do(func() {
				if !errors.Is(e.err, io.EOF) {
					t.Errorf("the end: %v, want EOF", e.err)
				}
			})
		}
	})
}

func TestTLSPeerVanishesWithoutAWord(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		_, peer, raw := tlsPair(t, l, r, as)
		if _, err := io.WriteString(peer, "last words"); err != nil {
			t.Fatal(err)
		}
		_ = raw.CloseWrite()
		r.until(t, l, "the end", func() bool { return r.err != nil })
		if got := r.got.String(); got != "last words" || !errors.Is(r.err, io.EOF) {
			t.Errorf("got %q and %v, want the last words and EOF", got, r.err)
		}
	})
}

func TestTLSPeerVanishesWithinARecord(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		_, _, raw := tlsPair(t, l, r, as)
		_, _ = raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
		_ = raw.CloseWrite()
		r.until(t, l, "the end", func() bool { return r.err != nil })
		if !errors.Is(r.err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want an unexpected end", r.err)
		}
	})
}

func TestTLSGarbageIsAnErrorThatThePeerHears(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sent, alert string }{
		{"no record", "Q\x00\x00\x00\x06SELECT", "protocol version"},
		{"a header only", "\x17\x03\x03\xff\xff", "record overflow"},
		{"another version", "\x17\x03\x01\x00\x01x", "protocol version"},
		{"a forged record", "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32), "bad record MAC"},
		{"a record without a cipher's overhead", "\x17\x03\x03\x00\x01x", "bad record MAC"},
	} {
		t.Run(test.name, func(t *testing.T) {
			everyRole(t, func(t *testing.T, v variant, as role) {
				l, r := run(t, v), newRecorder()
				_, peer, raw := tlsPair(t, l, r, as)
				if _, err := io.WriteString(raw, test.sent); err != nil {
					t.Fatal(err)
				}
				_, err := peer.Read(make([]byte, 1))
				if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") || !strings.Contains(err.Error(), test.alert) {
					t.Errorf("the peer hears %v, want %q", err, test.alert)
				}
				r.until(t, l, "the error", func() bool { return r.err != nil })
				l.Do(func() { r.conn.Write([]byte("x")); r.conn.Close() })
			})
		})
	}
}

func TestTLSPanicInAHandlerReachesTheHandler(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		r.on = func(r *recorder) {
			_, _ = r.conn.Read(l.Buffer()[:1])
			panic("boom")
		}
		_, peer, _ := tlsPair(t, l, r, as)
		if _, err := io.WriteString(peer, "xyz"); err != nil {
			t.Fatal(err)
		}
		r.until(t, l, "the panic", func() bool { return r.panicked == "boom" })
		l.Do(func() { r.conn.Write([]byte("sorry")); r.conn.Shutdown() })
		if got, err := io.ReadAll(peer); string(got) != "sorry" || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
	})
}

func TestTLSShutdownDeliversTheLastBytes(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		r.on = func(*recorder) {}
		_, peer, _ := tlsPair(t, l, r, as)
		go func() { _, _ = peer.Write(bytes.Repeat([]byte("x"), 4<<20)) }()
		want := bytes.Repeat([]byte("goodbye"), 1<<20)
		l.Do(func() {
			r.conn.Write(want)
			r.conn.Shutdown()
			r.conn.Write([]byte("too late"))
		})
		if got, err := io.ReadAll(peer); !bytes.Equal(got, want) || err != nil {
			t.Errorf("the peer got %d bytes, %v, want %d", len(got), err, len(want))
		}
	})
}

func TestTLSCloseSaysGoodbye(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		c, peer, _ := tlsPair(t, l, r, as)
		l.Do(func() { c.Close() })
		if n, err := io.ReadFull(peer, make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("the peer gets %d, %v, want EOF", n, err)
		}
	})
}

func TestTLSCloseWhileUnsentIsAtOnce(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		c, peer, _ := tlsPair(t, l, r, as)
		written := int64(0)
		l.Do(func() {
			for ; c.Unsent() < 4<<20; written += 1 << 20 {
				c.Write(make([]byte, 1<<20))
			}
			c.Close()
		})
		n, _ := io.Copy(io.Discard, peer)
		if _, portable := c.t.(*goConn); !portable && n >= written { // that one closes when its goroutine gets to it
			t.Errorf("the peer got %d bytes of %d: close waited", n, written)
		}
	})
}
