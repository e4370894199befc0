package backend

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/auth"
	"sluice/internal/wire"
)

// encryption says whether a connection asks for TLS.
type encryption int

const (
	never encryption = iota
	ifOffered
	always
)

const (
	maxOldError = 8 << 10  // 8 KiB of an error of protocol 2, which has no length
	maxError    = 30 << 10 // 30 KiB, longer ones are taken for protocol 2
	maxGoodbye  = 1 << 10  // 1 KiB that a server may say to somebody who goes without a login
)

// link is a network connection to a Postgres that has not been spoken to but about encryption. It obeys a context until
// release.
type link struct {
	raw, nc net.Conn             // nc is raw or TLS over it
	state   *tls.ConnectionState // nil: no TLS
	stop    func() bool          // ends ctx's hold; false if ctx has begun to end reads and writes
}

// release ends the hold of ctx, which the link was opened with. It returns why if ctx has ended reads and writes.
func (l *link) release(ctx context.Context) error {
	if !l.stop() {
		return context.Cause(ctx)
	}
	return nil
}

// goodbye closes the link before a login, TLS first, up to the server's own end of it: else that logs that it was cut off.
func (l *link) goodbye() {
	if tc, ok := l.nc.(*tls.Conn); ok && tc.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(tc, maxGoodbye))
	}
	l.stop()
	_ = l.raw.Close()
}

func (d *Dialer) encryption(host Address) encryption {
	switch {
	case host.Network == "unix", d.p.TLSMode == TLSDisable:
		return never
	case d.p.TLSMode == TLSPrefer:
		return ifOffered
	}
	return always
}

// open connects to remote, which is one of host's addresses, and agrees on encryption. From then on ctx ends reads and
// writes, until the link is released. Errors: *DialError; *LoginError when the server refused before TLS.
func (d *Dialer) open(ctx context.Context, host Address, remote string, use encryption) (*link, error) {
	raw, err := d.p.DialContext(ctx, host.Network, remote)
	if err != nil {
		return nil, &DialError{Addr: host.Addr, Err: causeOf(ctx, err)}
	}
	l := &link{raw: raw, nc: raw, stop: hold(ctx, raw)}
	if use == never {
		return l, nil
	}
	if err := d.encrypt(ctx, l, host, use); err != nil {
		l.stop()
		_ = raw.Close()
		if e, ok := errors.AsType[*LoginError](err); ok {
			return nil, e
		}
		return nil, &DialError{Addr: host.Addr, Err: causeOf(ctx, err)}
	}
	return l, nil
}

// alpn is the name of the protocol in TLS handshakes. Protocol: "SSL Session Encryption".
const alpn = "postgresql"

// encrypt asks for TLS, unless it begins at once, and makes the handshake. It reads exactly one byte before it, so that
// bytes that somebody has put behind the answer can only break the handshake.
func (d *Dialer) encrypt(ctx context.Context, l *link, host Address, use encryption) error {
	if d.p.DirectTLS {
		return d.handshake(ctx, l, host)
	}
	if _, err := l.raw.Write(wire.AppendSSLRequest(nil)); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(l.raw, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] == 'S':
		return d.handshake(ctx, l, host)
	case answer[0] == 'N' && use == ifOffered:
		return nil
	case answer[0] == 'N':
		return ErrTLSRefused
	case answer[0] == wire.ErrorResponse:
		return refusalBeforeTLS(l.raw, host)
	}
	return fmt.Errorf("%w: %q answers the request for TLS", ErrProtocol, answer[0])
}

func (d *Dialer) handshake(ctx context.Context, l *link, host Address) error {
	config, err := d.p.TLSFor(host.Host())
	if err != nil {
		return fmt.Errorf("TLS configuration: %w", err)
	}
	if config == nil {
		return errors.New("no TLS configuration for this host")
	}
	if config.ServerName == "" || len(config.NextProtos) == 0 {
		config = config.Clone()
		config.NextProtos = []string{alpn}
		if config.ServerName == "" {
			config.ServerName = host.Host()
		}
	}
	tc := tls.Client(l.raw, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	state := tc.ConnectionState()
	if d.p.DirectTLS && state.NegotiatedProtocol != alpn {
		return fmt.Errorf("%w: %w", errHandshake, ErrNoALPN)
	}
	l.nc, l.state = tc, &state
	return nil
}

// refusalBeforeTLS reads the rest of an ErrorResponse that answers the request for TLS. Where the postmaster cannot
// start a process it is a bare text, as in protocol 2.
func refusalBeforeTLS(r io.Reader, host Address) error {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < 8 || n > maxError {
		text, _ := io.ReadAll(io.LimitReader(r, maxOldError))
		return fmt.Errorf("server answers the request for TLS: %q", append(h[:], text...))
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return &LoginError{Addr: host.Addr, BeforeTLS: true, Err: serverError(body)}
}

// channelBinding returns the data for tls-server-end-point, nil where there is none. A resumed session has the certificate
// of the one that it resumes.
func (l *link) channelBinding() []byte {
	if l.state == nil || len(l.state.PeerCertificates) == 0 {
		return nil
	}
	return auth.EndPointBinding(l.state.PeerCertificates[0])
}

// local reports whether nobody but this machine can listen to the connection.
func (l *link) local() bool {
	switch a := l.raw.RemoteAddr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// hold has ctx end reads and writes on nc until stop is called; stop returns false if that has begun.
func hold(ctx context.Context, nc net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		_ = nc.SetDeadline(time.Unix(1, 0)) // fails only on a closed connection, which needs no end
	})
}

// causeOf returns why ctx is done if it is, else err.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
