package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"sluice/internal/loop"
	"sluice/internal/tlsconf"
	"sluice/internal/wire"
)

// negotiate reads up to the StartupMessage or CancelRequest, and agrees on TLS if the client asks, or begins with it.
// Protocol: "Start-up", "SSL Session Encryption", "GSSAPI Session Encryption".
func (a *admission) negotiate(ctx context.Context) (*wire.Request, *endError) {
	sslDone, gssDone := false, false // asked for, and answered
	for first := true; ; first = false {
		r, err := wire.ReadRequest(a.nc)
		var e *endError
		switch {
		case errors.Is(err, wire.ErrStartup):
			return nil, &endError{reason: ReasonProtocolViolation, message: err.Error(), err: err}
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, &endError{reason: ReasonLoginTimeout, err: errQuiet} // Postgres says nothing here either
		case err != nil:
			return nil, &endError{reason: ReasonClientDisconnected, err: errQuiet}
		case r.Kind == wire.DirectTLS && first:
			e = a.directTLS(ctx, r.Head)
		case r.Kind == wire.DirectTLS:
			e = &endError{reason: ReasonProtocolViolation, message: "invalid startup packet: TLS begins in the middle of the negotiation"}
		case r.Kind == wire.SSLRequest && !sslDone:
			sslDone = true
			e = a.offerTLS(ctx)
			gssDone = gssDone || a.tls
		case r.Kind == wire.GSSENCRequest && !gssDone:
			gssDone = true
			e = a.answer('N')
		case r.Kind == wire.SSLRequest || r.Kind == wire.GSSENCRequest:
			e = &endError{reason: ReasonProtocolViolation, message: "encryption requested again"}
		default:
			return r, nil
		}
		if e != nil {
			return nil, e
		}
	}
}

func (a *admission) answer(b byte) *endError {
	if _, err := a.nc.Write([]byte{b}); err != nil {
		return &endError{reason: ReasonClientDisconnected, err: err}
	}
	return nil
}

// offerTLS answers an SSLRequest.
func (a *admission) offerTLS(ctx context.Context) *endError {
	config := a.state.tls.Config()
	if config == nil || a.unix || a.tls {
		return a.answer('N')
	}
	if e := a.answer('S'); e != nil {
		return e
	}
	return a.startTLS(ctx, config, nil)
}

// directTLS goes on with a client that has begun with TLS, of which head has been read. As in Postgres, one that does not
// name the protocol, or where there is no TLS, hears nothing.
func (a *admission) directTLS(ctx context.Context, head []byte) *endError {
	config := a.state.tls.DirectConfig()
	if config == nil || a.unix {
		_ = a.nc.Close()
		return &endError{reason: ReasonProtocolViolation, err: errors.New("direct tls where none is offered")}
	}
	return a.startTLS(ctx, config, head)
}

// startTLS makes the handshake.
func (a *admission) startTLS(ctx context.Context, config *tls.Config, head []byte) *endError {
	under := &underTLS{Conn: a.nc, head: head, ctx: ctx, turnstile: a.srv.env.turnstile}
	sw := loop.NewSwitch(under)
	tc := tls.Server(sw, config)
	shown, err := under.handshake(tc)
	switch {
	case err == nil:
		sw.Set(a.nc) // what the loop can poll
		a.nc, a.tlsConn, a.tls, a.shown = tc, tc, true, shown
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("tls handshake: %w", err)
		_ = a.nc.Close() // nothing intelligible can be said into a half-done handshake
		return &endError{reason: ReasonLoginTimeout, err: err}
	case errors.Is(err, context.Canceled):
		_ = a.nc.Close()
		return &endError{reason: ReasonDraining, err: err}
	}
	_ = a.nc.Close()
	return &endError{reason: ReasonProtocolViolation, err: fmt.Errorf("tls handshake: %w", err)}
}

// underTLS is the connection below TLS. During the handshake it holds a place of the turnstile but for the time in which it
// waits for the network: silent clients keep nobody waiting. One goroutine uses it at a time until endHandshake; from then
// on it is the connection itself.
type underTLS struct {
	net.Conn
	head []byte // has been read already

	// Of the handshake only.
	ctx       context.Context
	turnstile *turnstile // nil when it has ended
	begun     bool       // it has had a place
	holds     bool
}

// handshake makes tc's, which is over c, and returns the certificate that belongs to it.
func (c *underTLS) handshake(tc *tls.Conn) (shown *x509.Certificate, err error) {
	defer c.endHandshake()
	err = tc.HandshakeContext(tlsconf.Noting(c.ctx, &shown))
	return shown, err
}

// Read implements net.Conn.
func (c *underTLS) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.turnstile == nil {
		return c.Conn.Read(p)
	}
	return c.outside(c.Conn.Read, p)
}

// Write implements net.Conn.
func (c *underTLS) Write(p []byte) (int, error) {
	if c.turnstile == nil {
		return c.Conn.Write(p)
	}
	return c.outside(c.Conn.Write, p)
}

// outside calls transfer without a place, and takes one for what is computed next.
func (c *underTLS) outside(transfer func([]byte) (int, error), p []byte) (int, error) {
	c.release()
	n, err := transfer(p)
	if err != nil {
		return n, err
	}
	if err := c.turnstile.enter(c.ctx, c.begun); err != nil {
		return n, err
	}
	c.begun, c.holds = true, true
	return n, nil
}

func (c *underTLS) release() {
	if c.holds {
		c.holds = false
		c.turnstile.leave()
	}
}

// endHandshake makes c the connection itself.
func (c *underTLS) endHandshake() {
	c.release()
	c.turnstile, c.ctx = nil, nil
}
