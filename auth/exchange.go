package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// exchange is one client's login.
type exchange struct {
	c    *wire.Conn
	peer Peer
	// valid are the secrets of which the client may prove one; asked those of them that this exchange can check, never
	// empty: the zero Secret is what an unknown role is asked for.
	valid, asked []Secret
	method       Method // by which asked are proved
	turns        *turns // nil: there is nothing to choose
	salt         []byte // where none is stored
	why          Why    // not empty: whatever the client proves, the login fails

	compute func(ctx context.Context, work func()) error
}

func (a *Authenticator) begin(ctx context.Context, c *wire.Conn, p Peer) (*exchange, error) {
	x := &exchange{c: c, peer: p, salt: a.salt(p.Role), compute: a.compute}
	e, err := a.lookup(ctx, p.Role)
	x.valid, x.asked = e.valid(), []Secret{e.Secret}
	switch {
	case errors.Is(err, ErrUnknownRole):
		x.valid, x.asked, x.why = nil, []Secret{{}}, WhyUnknownRole
	case err != nil:
		return nil, err
	case e.Secret.IsZero():
		x.why = WhyNoPassword
	case len(x.valid) == 0:
		x.why = WhyExpired
	case a.method == SCRAMSHA256:
		x.valid = slices.DeleteFunc(x.valid, func(s Secret) bool { return s.hash() != "" })
		if len(x.valid) == 0 {
			x.why = WhyMD5Stored
		}
	}
	if x.why == "" {
		x.choose(a)
	}
	x.method = a.method.forSecret(x.asked[0])
	return x, nil
}

// run asks the client by the method and judges its answer.
func (x *exchange) run(ctx context.Context) (Credential, error) {
	switch x.method {
	case Password:
		return x.clear(ctx)
	case MD5:
		return x.md5()
	}
	return x.scram(ctx)
}

// failed returns the error of a client that has given a wrong answer, or whose answer does not count.
func (x *exchange) failed() error {
	why := x.why
	if why == "" {
		why = WhyWrongPassword
	}
	return &FailedError{Role: x.peer.Role, Asked: x.method, Why: why}
}

func (x *exchange) clear(ctx context.Context) (Credential, error) {
	text, err := x.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return Credential{}, err
	}
	password := string(text)
	clear(text)
	secrets := x.asked
	if x.why != "" || password == "" { // an empty password fits nothing, as in Postgres
		secrets = []Secret{{}} // at the cost of a wrong password, even if it is right
	}
	var cred Credential
	var ok bool
	busy := x.compute(ctx, func() { cred, ok, err = x.admits(secrets, password) })
	if busy != nil || err != nil {
		return Credential{}, errors.Join(busy, err)
	}
	if !ok {
		return Credential{}, x.failed()
	}
	return cred, nil
}

// admits checks a password against the secrets, first by what needs no derivation of keys.
func (x *exchange) admits(secrets []Secret, password string) (cred Credential, ok bool, err error) {
	for i, s := range secrets {
		if cred, ok := s.remembered(password); ok {
			return x.credential(cred, i), true, nil
		}
	}
	for i, s := range secrets {
		if cred, ok, err = s.admits(password, x.salt); ok || err != nil {
			return x.credential(cred, i), ok, err
		}
	}
	return Credential{}, false, nil
}

func (x *exchange) md5() (Credential, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails: it ends the process instead
	answer, err := x.askPassword(&pgproto3.AuthenticationMD5Password{Salt: salt})
	if err != nil {
		return Credential{}, err
	}
	defer clear(answer)
	proved := -1
	for i, s := range x.asked {
		digits, ok := s.md5Digits(x.peer.typed())
		if !ok {
			digits = hashMD5(string(x.salt), x.peer.Role)
		}
		if sameText(string(answer), answerMD5(digits, salt)) && ok {
			proved = i
		}
	}
	if proved < 0 && x.why == "" && x.peer.typed() != x.peer.Role && x.asked[0].hash() != "" {
		x.why = WhyMD5Name
	}
	if proved < 0 || x.why != "" {
		return Credential{}, x.failed()
	}
	return x.credential(x.asked[proved].credential(), proved), nil
}

// credential returns what the client's proof of the i-th secret that it was asked for allows for.
func (x *exchange) credential(c Credential, i int) Credential {
	return c.amid(x.valid, slices.Index(x.valid, x.asked[i]))
}

// askPassword sends the request and returns the text of the password message that answers it, valid until the next read.
func (x *exchange) askPassword(request wire.Message) ([]byte, error) {
	if err := x.c.Send(request); err != nil {
		return nil, err
	}
	body, err := x.read(maxPassword)
	if err != nil {
		return nil, err
	}
	text, rest, ok := wire.CString(body)
	if !ok || len(rest) != 0 {
		return nil, fmt.Errorf("%w: invalid password packet size", ErrProtocol)
	}
	return text, nil
}

// read returns the body of the client's next message, which must be of the type of all answers.
func (x *exchange) read(maxBody int) ([]byte, error) {
	typ, body, err := x.c.ReadMessage(maxBody)
	if err != nil {
		return nil, err
	}
	if typ != wire.Password {
		return nil, fmt.Errorf("%w: expected a password response, got message type %q", ErrProtocol, typ)
	}
	return body, nil
}
