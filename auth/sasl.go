package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

func (x *exchange) scram(ctx context.Context) (Credential, error) {
	mechanism, first, err := x.askSASL()
	if err != nil {
		return Credential{}, err
	}
	all, ok, err := x.verifiers(ctx)
	if err != nil {
		return Credential{}, err
	}
	s, err := scram.NewServer(all[0], scram.ServerOptions{
		Mechanism: mechanism, ChannelBinding: x.peer.ChannelBinding, Also: all[1:], Doomed: !ok || x.why != "",
	})
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err := x.proof(s, first); err != nil {
		return Credential{}, err
	}
	proved := x.asked[s.Proved()]
	if proved.isVerifier() {
		return x.credential(proved.show(s.ClientKey()), s.Proved()), nil
	}
	return x.credential(proved.credential(), s.Proved()), nil
}

// verifiers returns what the client is held against, one for each secret that it is asked for; ok is false if there is
// nothing that it could prove.
func (x *exchange) verifiers(ctx context.Context) (all []scram.Verifier, ok bool, err error) {
	salt, iterations := commonSalt(x.asked, x.salt)
	compute := func() {
		for _, s := range x.asked {
			var v scram.Verifier
			if v, ok, err = s.scramVerifier(salt, iterations); err != nil || !ok {
				return
			}
			all = append(all, v)
		}
	}
	var busy error
	if slices.ContainsFunc(x.asked, Secret.isPlain) {
		busy = x.compute(ctx, compute)
	} else {
		compute()
	}
	if !ok {
		all = []scram.Verifier{{Iterations: iterations, Salt: salt}}
	}
	return all, ok, errors.Join(busy, err)
}

// commonSalt returns salt and iterations by which a client can prove any of the secrets: those of a verifier, or else mock
// and the default.
func commonSalt(secrets []Secret, mock []byte) (salt []byte, iterations int) {
	for _, s := range secrets {
		if s.isVerifier() {
			return s.s.verifier.Salt, s.s.verifier.Iterations
		}
	}
	return mock, scram.DefaultIterations
}

// askSASL offers the mechanisms and returns the selected one with the client's first message, which is asked for once
// more if it does not come along.
func (x *exchange) askSASL() (mechanism string, first []byte, err error) {
	offered := []string{scram.SHA256}
	if x.peer.ChannelBinding != nil {
		offered = []string{scram.SHA256Plus, scram.SHA256}
	}
	if err := x.c.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: offered}); err != nil {
		return "", nil, err
	}
	body, err := x.read(maxSCRAM)
	if err != nil {
		return "", nil, err
	}
	mechanism, first, ok := parseSASLInitial(body)
	if !ok {
		return "", nil, fmt.Errorf("%w: malformed initial SASL response", ErrProtocol)
	}
	if first != nil {
		return mechanism, first, nil
	}
	if err := x.c.Send(&pgproto3.AuthenticationSASLContinue{}); err != nil {
		return "", nil, err
	}
	first, err = x.read(maxSCRAM)
	return mechanism, first, err
}

// parseSASLInitial understands a SASLInitialResponse. first is nil if the client has sent none.
func parseSASLInitial(body []byte) (mechanism string, first []byte, ok bool) {
	name, rest, ok := wire.CString(body)
	if !ok || len(rest) < 4 {
		return "", nil, false
	}
	n, first := int32(binary.BigEndian.Uint32(rest)), rest[4:]
	switch {
	case n == -1 && len(first) == 0:
		return string(name), nil, true
	case int(n) != len(first):
		return "", nil, false
	}
	return string(name), first, true
}

// proof leads the exchange from the client's first message to its proof.
func (x *exchange) proof(s *scram.Server, first []byte) error {
	challenge, err := s.First(first)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err := x.c.Send(&pgproto3.AuthenticationSASLContinue{Data: challenge}); err != nil {
		return err
	}
	final, err := x.read(maxSCRAM)
	if err != nil {
		return err
	}
	outcome, err := s.Final(final)
	switch {
	case errors.Is(err, scram.ErrProof):
		return x.failed()
	case err != nil:
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return x.c.Queue(&pgproto3.AuthenticationSASLFinal{Data: outcome})
}
