package loop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
)

// Content types of TLS 1.3. RFC 8446, "Record Layer".
const (
	alertRecord     = 21
	handshakeRecord = 22
	dataRecord      = 23
)

const headerLen = 5 // of a record

// direction is one direction of a TLS 1.3 connection after its handshake.
type direction struct {
	t      testing.TB
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
	nonce  [12]byte
}

func newDirection(t testing.TB, secret []byte) *direction {
	t.Helper()
	d := &direction{t: t, secret: secret}
	block, err := aes.NewCipher(d.expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	if d.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	d.iv = d.expand("iv", 12)
	return d
}

// expand is HKDF-Expand-Label. RFC 8446, "Key Schedule".
func (d *direction) expand(label string, n int) []byte {
	d.t.Helper()
	label = "tls13 " + label
	info := string([]byte{0, byte(n), byte(len(label))}) + label + "\x00"
	key, err := hkdf.Expand(sha256.New, d.secret, info, n)
	if err != nil {
		d.t.Fatal(err)
	}
	return key
}

// updated returns the direction after a KeyUpdate.
func (d *direction) updated() *direction {
	d.t.Helper()
	return newDirection(d.t, d.expand("traffic upd", sha256.Size))
}

func (d *direction) next() []byte {
	copy(d.nonce[:], d.iv)
	for i := range 8 {
		d.nonce[4+i] ^= byte(d.seq >> (56 - 8*i))
	}
	d.seq++
	return d.nonce[:]
}

// seal appends a record to dst.
func (d *direction) seal(dst []byte, typ byte, body string) []byte {
	start := len(dst)
	dst = append(dst, dataRecord, 3, 3)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(body)+1+d.aead.Overhead()))
	dst = append(append(dst, body...), typ)
	header, plain := dst[start:start+headerLen], dst[start+headerLen:]
	return append(dst[:start+headerLen], d.aead.Seal(plain[:0], d.next(), plain, header)...)
}

// open reads and decrypts one record.
func (d *direction) open(r io.Reader) (typ byte, body []byte) {
	d.t.Helper()
	header := make([]byte, headerLen)
	if _, err := io.ReadFull(r, header); err != nil {
		d.t.Fatalf("read a header: %v", err)
	}
	sealed := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(r, sealed); err != nil {
		d.t.Fatalf("read a record: %v", err)
	}
	plain, err := d.aead.Open(nil, d.next(), sealed, header)
	if err != nil {
		d.t.Fatalf("decrypt a record: %v", err)
	}
	return plain[len(plain)-1], plain[:len(plain)-1]
}

// forger is the peer of a TLS 1.3 connection, record by record.
type forger struct {
	nc      *net.TCPConn
	out, in *direction
}

// forge returns a TLS connection adopted by l, on the given side of TLS 1.3, and a forger as its peer.
func forge(t testing.TB, l *Loop, h Handler, client bool) (c *Conn, f *forger) {
	t.Helper()
	near, far := dial(t)
	server, dialer := configs(t, tls.VersionTLS13)
	server.SessionTicketsDisabled = true
	var log bytes.Buffer
	var adoptable, peer *tls.Conn
	if client {
		server.KeyLogWriter = &log
		adoptable, peer = tls.Client(NewSwitch(near), dialer), tls.Server(far, server)
	} else {
		dialer.KeyLogWriter = &log
		adoptable, peer = tls.Server(NewSwitch(near), server), tls.Client(far, dialer)
	}
	done := make(chan error, 1)
	go func() { done <- adoptable.Handshake() }()
	if err := peer.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := peer.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("the cipher suite is %s, want AES-128-GCM: there is no AES in this processor", tls.CipherSuiteName(got))
	}
	l.Do(func() {
		c = l.Adopt(adoptable, h)
		h.(adopter).adopted(c)
	})
	fromClient, fromServer := secret(t, log.String(), "CLIENT_TRAFFIC_SECRET_0"), secret(t, log.String(), "SERVER_TRAFFIC_SECRET_0")
	if client {
		return c, &forger{nc: far, out: newDirection(t, fromServer), in: newDirection(t, fromClient)}
	}
	return c, &forger{nc: far, out: newDirection(t, fromClient), in: newDirection(t, fromServer)}
}

// secret finds a secret in the format of SSLKEYLOGFILE.
func secret(t testing.TB, log, label string) []byte {
	t.Helper()
	for line := range strings.Lines(log) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == label {
			value, err := hex.DecodeString(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no %s in %q", label, log)
	return nil
}

// send writes p at once.
func (f *forger) send(t testing.TB, p []byte) {
	t.Helper()
	if _, err := f.nc.Write(p); err != nil {
		t.Fatal(err)
	}
}
