// Package backend opens, logs in, checks, and cancels connections to Postgres.
//
// Everything blocks and obeys a context. Nothing is read past the message that is understood, so that a Conn's network
// connection can be handed on whenever no call is under way.
//
// Protocol: "Start-up", "SSL Session Encryption", "Canceling Requests in Progress".
package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"sluice/auth"
	"sluice/internal/wire"
)

// The TLS modes, as libpq's sslmode. On Unix sockets there is never TLS.
const (
	TLSDisable    = "disable"
	TLSPrefer     = "prefer" // without where the server has none, or the handshake fails
	TLSRequire    = "require"
	TLSVerifyCA   = "verify-ca"
	TLSVerifyFull = "verify-full"
)

const (
	keepAlive = 30 * time.Second // between probes of an idle connection
	// maxStartup is the longest start-up packet that Postgres takes (MAX_STARTUP_PACKET_LENGTH).
	maxStartup = 10000
)

// Address is where a Postgres listens.
type Address struct {
	Network string // tcp or unix
	Addr    string // host:port, or the path of the socket
}

// String returns the address without its network.
func (a Address) String() string { return a.Addr }

// Host returns the host's name or address; for a Unix socket its path.
func (a Address) Host() string {
	if host, _, err := net.SplitHostPort(a.Addr); err == nil && a.Network != "unix" {
		return host
	}
	return a.Addr
}

// Params say how Postgres is reached.
type Params struct {
	Hosts   []Address // tried in order
	TLSMode string
	// DirectTLS begins with TLS at once instead of asking for it, as PostgreSQL 17 and newer take it. It needs a TLSMode
	// that does not go without.
	DirectTLS bool
	// TLSFor returns the configuration for a host, which is not changed; an empty ServerName becomes the host, and empty
	// NextProtos the protocol's name. It is asked at each connection, so what is expensive, and the session cache, is its
	// own to keep.
	TLSFor func(host string) (*tls.Config, error)
	// Verifies says that TLSFor's configurations verify the server's certificate even if TLSMode does not ask for it.
	Verifies bool
	// ConnectTimeout bounds a Dial as a whole; each host has an equal part of what is left. 0: none.
	ConnectTimeout time.Duration
	// DialContext opens network connections. Nil: those of the system, with keep-alive.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Target says whom to log in as.
type Target struct {
	Role       string
	Database   string
	Credential auth.Credential
	Params     []wire.Param // sent behind user and database in this order; must not be one of them
}

// Dialer connects to one Postgres, which may have several hosts. It is safe for concurrent use.
type Dialer struct{ p Params }

// NewDialer returns a Dialer. Errors say which parameter is wrong.
func NewDialer(p Params) (*Dialer, error) {
	if len(p.Hosts) == 0 {
		return nil, errors.New("no host")
	}
	switch p.TLSMode {
	case TLSDisable, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull:
	default:
		return nil, fmt.Errorf("unknown TLS mode %q", p.TLSMode)
	}
	if p.DirectTLS && (p.TLSMode == TLSDisable || p.TLSMode == TLSPrefer) {
		return nil, fmt.Errorf("direct TLS needs a TLS mode that does not go without, got %s", p.TLSMode)
	}
	if p.TLSMode != TLSDisable && p.TLSFor == nil {
		return nil, fmt.Errorf("TLS mode %s without configuration", p.TLSMode)
	}
	if p.DialContext == nil {
		p.DialContext = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	}
	p.Verifies = p.Verifies || p.TLSMode == TLSVerifyCA || p.TLSMode == TLSVerifyFull
	return &Dialer{p}, nil
}

// Dial opens a connection and logs in.
//
// It blocks until Postgres has said ReadyForQuery, ctx is done, or the connect timeout has passed. The next host is
// tried when one cannot be reached or takes nobody now, the role's other secret, if it has two, when Postgres refuses one. The caller owns the Conn and must Close it, or hand on its
// NetConn.
//
// Errors: *DialError, *LoginError (several of them joined when there are several hosts), ErrTarget, wrapped.
func (d *Dialer) Dial(ctx context.Context, t Target) (*Conn, error) {
	startup, err := t.startup()
	if err != nil {
		return nil, err
	}
	if d.p.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.p.ConnectTimeout, timeoutCause(d.p.ConnectTimeout))
		defer cancel()
	}
	var c *Conn
	for _, t.Credential = range t.Credential.Tries() {
		if c, err = d.dialHosts(ctx, t, startup); !t.Credential.Tried(err) {
			break
		}
	}
	return c, err
}

// dialHosts connects to the first host that takes the role.
func (d *Dialer) dialHosts(ctx context.Context, t Target, startup []byte) (*Conn, error) {
	var failures []error
	for i, host := range d.p.Hosts {
		c, err := d.dialWithin(ctx, len(d.p.Hosts)-i, host, t, startup)
		if err == nil {
			return c, nil
		}
		if !Unreachable(err) {
			return nil, err
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) == 1 {
		return nil, failures[0]
	}
	return nil, errors.Join(failures...)
}

// startup returns the start-up message.
func (t Target) startup() ([]byte, error) {
	params := append([]wire.Param{{Name: "user", Value: t.Role}, {Name: "database", Value: t.Database}}, t.Params...)
	for i, p := range params {
		switch {
		case p.Name == "", strings.ContainsRune(p.Name, 0), strings.ContainsRune(p.Value, 0):
			return nil, fmt.Errorf("%w: name %q is empty, or it or its value has a zero byte", ErrTarget, p.Name)
		case i >= 2 && (p.Name == "user" || p.Name == "database"):
			return nil, fmt.Errorf("%w: %s is given twice", ErrTarget, p.Name)
		}
	}
	b := wire.AppendStartup(nil, wire.Version30, params)
	if len(b) > maxStartup {
		return nil, fmt.Errorf("%w: %d bytes, Postgres takes %d", ErrTarget, len(b), maxStartup)
	}
	return b, nil
}

// dialWithin is dialHost within one of the equal parts of the time that is left.
func (d *Dialer) dialWithin(ctx context.Context, parts int, host Address, t Target, startup []byte) (*Conn, error) {
	if end, ok := ctx.Deadline(); ok && parts > 1 {
		part := time.Until(end) / time.Duration(parts)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, part, timeoutCause(part))
		defer cancel()
	}
	return d.dialHost(ctx, host, t, startup)
}

// dialHost connects to one host, in mode prefer without TLS if the handshake fails.
func (d *Dialer) dialHost(ctx context.Context, host Address, t Target, startup []byte) (*Conn, error) {
	use := d.encryption(host)
	l, err := d.open(ctx, host, host.Addr, use)
	if use == ifOffered && errors.Is(err, errHandshake) && ctx.Err() == nil {
		l, err = d.open(ctx, host, host.Addr, never)
	}
	if err != nil {
		return nil, err
	}
	c, err := d.login(ctx, l, host, t, startup)
	if cause := l.release(ctx); cause != nil {
		err = cause
	}
	if err == nil {
		return c, nil
	}
	_ = l.raw.Close()
	if ctx.Err() != nil {
		return nil, &DialError{Addr: host.Addr, Err: context.Cause(ctx)}
	}
	if e, lost := errors.AsType[*wire.Error](err); lost {
		return nil, &DialError{Addr: host.Addr, Err: e}
	}
	return nil, &LoginError{Addr: host.Addr, Err: err}
}
