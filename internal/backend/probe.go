package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"

	"sluice/internal/wire"
)

// Probe asks whether Postgres is there: it connects to the hosts in order, asks for encryption, or makes the handshake of
// direct TLS, and hangs up in a way that leaves no line in Postgres's log. It needs no login. It blocks until Postgres has answered or ctx is done. Errors: *DialError, several of them joined.
func (d *Dialer) Probe(ctx context.Context) error {
	var all []error
	for _, host := range d.p.Hosts {
		err := d.probe(ctx, host)
		if err == nil {
			return nil
		}
		all = append(all, &DialError{Addr: host.Addr, Err: causeOf(ctx, err)})
	}
	return errors.Join(all...)
}

func (d *Dialer) probe(ctx context.Context, host Address) error {
	if d.p.DirectTLS && d.encryption(host) == always {
		return d.probeTLS(ctx, host)
	}
	nc, err := d.p.DialContext(ctx, host.Network, host.Addr)
	if err != nil {
		return err
	}
	l := &link{raw: nc, nc: nc, stop: hold(ctx, nc)}
	defer l.goodbye()
	if err := wire.NewConn(nc, wire.Backend).Write(wire.AppendSSLRequest(nil)); err != nil {
		return err
	}
	var answer [1]byte
	if _, err = io.ReadFull(nc, answer[:]); err != nil || answer[0] != 'S' {
		return err
	}
	// It has answered. What it says in the handshake does not matter, and is not verified: nothing is told to it.
	tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
	if tc.HandshakeContext(ctx) == nil {
		l.nc = tc
	}
	return nil
}

func (d *Dialer) probeTLS(ctx context.Context, host Address) error {
	l, err := d.open(ctx, host, host.Addr, always)
	if e, ok := errors.AsType[*DialError](err); ok {
		return e.Err
	}
	if err != nil {
		return err
	}
	l.goodbye()
	return nil
}
