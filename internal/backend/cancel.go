package backend

import (
	"context"
	"fmt"

	"sluice/internal/wire"
)

// Cancel asks Postgres to cancel what the identified connection runs. The request goes to the same network address and
// over TLS if the connection does.
//
// It blocks until Postgres has closed the request's connection, which it does after it has signalled the backend, or
// until ctx is done. That the query ends is not said: it may have been at its end.
//
// Errors: *DialError, *LoginError as those of Dial, or *wire.Error. Protocol: "Canceling Requests in Progress".
func (d *Dialer) Cancel(ctx context.Context, id Identity) error {
	if id.PID == 0 {
		return fmt.Errorf("cancel on backend %s: it has sent no key", id.Addr)
	}
	use := never
	if id.TLS {
		use = always
	}
	l, err := d.open(ctx, id.Addr, id.remote, use)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	defer l.raw.Close()
	err = wire.NewConn(l.nc, wire.Backend).Write(wire.AppendCancelRequest(nil, id.PID, id.Key))
	var answer [1]byte
	n := 0
	if err == nil {
		n, _ = l.nc.Read(answer[:]) // however it ends, it has ended
	}
	switch cause := l.release(ctx); {
	case cause != nil:
		return fmt.Errorf("cancel: %w", &DialError{Addr: id.Addr.Addr, Err: cause})
	case err != nil:
		return fmt.Errorf("cancel: %w", &DialError{Addr: id.Addr.Addr, Err: err})
	case n > 0:
		return fmt.Errorf("cancel: %w", &LoginError{Addr: id.Addr.Addr, Err: fmt.Errorf("%w: message %q answers a cancel request", ErrProtocol, answer[0])})
	}
	return nil
}
