package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth"
	"sluice/internal/wire"
)

const (
	maxGreetingBody     = 64 << 10 // 64 KiB, for a ParameterStatus, a notice or an error
	maxGreetingMessages = 1000     // Postgres sends some 15, an extension a few more
	maxKey              = 256      // bytes of a secret key in protocol 3.2
)

// login runs the dialogue from the start-up message to the first ReadyForQuery.
// Errors: *wire.Error, *auth.ServerError, ErrProtocol, wrapped, and those of auth.LoginBackend.
func (d *Dialer) login(ctx context.Context, l *link, host Address, t Target, startup []byte) (*Conn, error) {
	w := wire.NewConn(l.nc, wire.Backend)
	if err := w.Write(startup); err != nil {
		return nil, err
	}
	err := auth.LoginBackend(ctx, w, t.Role, t.Credential, auth.BackendOptions{
		TLS:            l.state != nil,
		Verified:       l.state != nil && d.p.Verifies,
		AllowCleartext: l.local(),
		ChannelBinding: l.channelBinding(),
	})
	if err != nil {
		return nil, err
	}
	var g greeting
	for {
		typ, body, err := w.ReadMessage(maxGreetingBody)
		if err != nil {
			return nil, err
		}
		ready, err := g.take(typ, body)
		if err != nil {
			return nil, err
		}
		if ready {
			break
		}
	}
	remote := host.Addr
	if host.Network != "unix" {
		remote = l.raw.RemoteAddr().String()
	}
	return &Conn{
		Identity: Identity{Addr: host, TLS: l.state != nil, PID: g.pid, Key: g.key, remote: remote},
		Params:   g.params, Opened: time.Now(), raw: l.raw, w: w,
	}, nil
}

// greeting is what Postgres says between AuthenticationOk and ReadyForQuery.
type greeting struct {
	params []wire.Param
	pid    uint32
	key    []byte
	count  int
}

// take understands one message and keeps nothing of body. Errors: *auth.ServerError, or ErrProtocol, wrapped.
// Protocol: "Start-up".
func (g *greeting) take(typ byte, body []byte) (ready bool, err error) {
	if g.count++; g.count > maxGreetingMessages {
		return false, fmt.Errorf("%w: no end of messages before ReadyForQuery", ErrProtocol)
	}
	switch typ {
	case wire.ParameterStatus:
		p, err := parameterStatus(body)
		if err != nil {
			return false, err
		}
		g.params = setParam(g.params, p)
	case wire.BackendKeyData:
		var m pgproto3.BackendKeyData
		if err := m.Decode(body); err != nil || len(m.SecretKey) > maxKey {
			return false, fmt.Errorf("%w: BackendKeyData with %d bytes", ErrProtocol, len(body))
		}
		g.pid, g.key = m.ProcessID, m.SecretKey
	case wire.NoticeResponse, wire.NegotiateProtocolVersion:
	case wire.ErrorResponse:
		return false, serverError(body)
	case wire.ReadyForQuery:
		if string(body) != "I" {
			return false, fmt.Errorf("%w: ReadyForQuery %q after login", ErrProtocol, body)
		}
		return true, nil
	default:
		return false, fmt.Errorf("%w: message %q after login", ErrProtocol, typ)
	}
	return false, nil
}

func parameterStatus(body []byte) (p wire.Param, err error) {
	name, rest, ok := wire.CString(body)
	value, rest, ended := wire.CString(rest)
	if !ok || !ended || len(name) == 0 || len(rest) != 0 {
		return p, fmt.Errorf("%w: ParameterStatus with %d bytes", ErrProtocol, len(body))
	}
	return wire.Param{Name: string(name), Value: string(value)}, nil
}

// setParam replaces the parameter of p's name, or appends p.
func setParam(params []wire.Param, p wire.Param) []wire.Param {
	for i := range params {
		if params[i].Name == p.Name {
			params[i] = p
			return params
		}
	}
	return append(params, p)
}
