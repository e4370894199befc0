package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// Encryption is how a connection to one host is protected.
type Encryption struct {
	Host Address
	// State is that of TLS, also of a handshake that failed because the certificate does not do; nil: there was none.
	State *tls.ConnectionState
	// Plain says that the connection goes on without TLS: on Unix sockets, because the mode says so, or because it lets.
	Plain bool
	// Err is why there is no connection, or in mode prefer no TLS; nil if there is.
	Err error
}

// Inspect connects to each host as Dial does, up to the login and without one, and says how that is protected. It blocks until
// all have answered, for no longer than the connect timeout each, or ctx is done.
func (d *Dialer) Inspect(ctx context.Context) []Encryption {
	all := make([]Encryption, len(d.p.Hosts))
	for i, host := range d.p.Hosts {
		all[i] = d.inspect(ctx, host)
	}
	return all
}

func (d *Dialer) inspect(ctx context.Context, host Address) Encryption {
	if d.p.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.p.ConnectTimeout, timeoutCause(d.p.ConnectTimeout))
		defer cancel()
	}
	e := Encryption{Host: host}
	use := d.encryption(host)
	noting := *d
	noting.p.TLSFor = func(name string) (*tls.Config, error) {
		config, err := d.p.TLSFor(name)
		if err != nil || config == nil {
			return config, err
		}
		config = config.Clone()
		config.ClientSessionCache = nil // a resumed session shows no chain
		verify := config.VerifyConnection
		config.VerifyConnection = func(state tls.ConnectionState) error {
			e.State = &state
			if verify == nil {
				return nil
			}
			return verify(state)
		}
		return config, nil
	}
	l, err := noting.open(ctx, host, host.Addr, use)
	if use == ifOffered && errors.Is(err, errHandshake) && ctx.Err() == nil {
		e.Plain, e.Err = true, fmt.Errorf("goes on without TLS: %w", err)
		return e
	}
	if err != nil {
		e.Err = err
		return e
	}
	e.Plain = l.state == nil
	l.goodbye()
	return e
}
