package auth

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/jwt"
	"sluice/internal/wire"
)

// byToken asks the client for a token in place of a password, and returns what is stored of its role.
func (a *Authenticator) byToken(ctx context.Context, c *wire.Conn, p Peer) (Credential, error) {
	x := &exchange{c: c, peer: p, compute: a.compute}
	if err := dialogue(ctx, c, func() error { return x.token(ctx, a.tokens) }); err != nil {
		return Credential{}, err
	}
	return a.trusted(ctx, p.Role)
}

// token asks for the token and judges it. Nothing is looked up for it: whether the role exists takes no part in the answer.
func (x *exchange) token(ctx context.Context, tokens *jwt.Verifier) error {
	token, err := x.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return err
	}
	defer clear(token)
	opened, err := tokens.Open(ctx, token)
	if err != nil {
		return x.notTaken(ctx, err)
	}
	busy := x.compute(ctx, func() { err = opened.Admits(x.peer.Role) })
	if busy != nil {
		return busy
	}
	if err == nil && x.peer.Subject != nil {
		*x.peer.Subject = opened.Subject()
	}
	return x.notTaken(ctx, err)
}

// notTaken returns the error of a login by a token of which jwt says err.
func (x *exchange) notTaken(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrNoKeys):
		return errors.Join(ErrLookup, err)
	case ctx.Err() != nil:
		return err
	}
	return &FailedError{Role: x.peer.Role, Asked: JWT, Why: Why(err.Error())}
}
