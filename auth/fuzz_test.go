package auth

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

func FuzzAuthenticateTakesAnyBytes(f *testing.F) {
	plain, hash, verifier := stored(f)
	var all []*Authenticator
	for _, m := range []Method{Password, MD5, SCRAMSHA256} {
		for _, text := range []string{plain, hash, verifier} {
			all = append(all, mustNew(f, m, fixed{entry: Entry{Secret: mustSecret(f, text)}}))
		}
	}
	plainToo := changing(f, newPassword, verifierText(f, password, "salt"))
	turns := changing(f, verifierText(f, newPassword, "new salt"), verifierText(f, password, "salt"))
	all = append(all, mustNew(f, SCRAMSHA256, fixed{entry: plainToo}), mustNew(f, SCRAMSHA256, fixed{entry: turns}))
	all = append(all, newBearer(f).authenticator(nil))
	first := &pgproto3.SASLInitialResponse{AuthMechanism: scram.SHA256, Data: []byte("n,,n=,r=abc")}
	for i := range all {
		f.Add(uint8(i), false, answer(f, &pgproto3.PasswordMessage{Password: "wrong"}))
		f.Add(uint8(i), true, answer(f, first, &pgproto3.SASLResponse{Data: []byte("c=biws,r=abc,p=AAAA")}))
	}
	f.Add(uint8(len(all)-1), false, answer(f, &pgproto3.PasswordMessage{Password: newBearer(f).token(role, time.Hour, 0)}))
	f.Add(uint8(8), false, []byte("p\x00\x00\x00\x16"+scram.SHA256+"\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, which uint8, unknown bool, in []byte) {
		p := Peer{Role: role, Secure: true}
		if unknown {
			p.Role = "bob"
		}
		_, err := all[int(which)%len(all)].Authenticate(t.Context(), wire.NewConn(newScript(in), wire.Client), p)
		var broken *wire.Error
		if err == nil && !unknown && (bytes.Contains(in, []byte(password)) || bytes.Contains(in, []byte("eyJ"))) {
			return // it has guessed
		}
		if !errors.Is(err, ErrAuthFailed) && !errors.Is(err, ErrProtocol) && !errors.As(err, &broken) {
			t.Errorf("%q: %v", in, err)
		}
	})
}

func FuzzLoginBackendTakesAnyBytes(f *testing.F) {
	_, hash, verifier := stored(f)
	creds := []Credential{{}, PasswordCredential(password), mustSecret(f, hash).credential(),
		scramCredential(scram.Key{}, *mustSecret(f, verifier).s.verifier)}
	for _, m := range []wire.Message{&pgproto3.AuthenticationOk{}, &pgproto3.AuthenticationCleartextPassword{},
		&pgproto3.AuthenticationMD5Password{}, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256Plus, scram.SHA256}},
		&pgproto3.ErrorResponse{Code: "28P01"}, &pgproto3.NegotiateProtocolVersion{}} {
		for i := range creds {
			f.Add(uint8(i), answer(f, m, &pgproto3.AuthenticationOk{}))
			f.Add(uint8(i), answer(f, m, &pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=c2FsdA==,i=1")}))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, in []byte) {
		c := wire.NewConn(newScript(in), wire.Backend)
		err := LoginBackend(t.Context(), c, role, creds[int(which)%len(creds)], BackendOptions{AllowCleartext: true})
		if err == nil {
			return
		}
		var (
			broken  *wire.Error
			refused *ServerError
			none    *NoSecretError
		)
		if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrUnsupported) &&
			!errors.As(err, &broken) && !errors.As(err, &refused) && !errors.As(err, &none) {
			t.Errorf("%q: %v", in, err)
		}
	})
}
