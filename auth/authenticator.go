package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

// Longest answers of clients. Passwords may be tokens; Postgres takes as much (PG_MAX_AUTH_TOKEN_LENGTH).
const (
	maxPassword = 64 << 10 // 64 KiB
	maxSCRAM    = 4 << 10  // 4 KiB: nonces and proofs are some hundred bytes
)

// Params is what an Authenticator works with.
type Params struct {
	Method Method
	Store  Store // may be nil for Trust, Cert and SocketUser
	// MockKey makes the salts that are shown where none is stored: for roles that do not exist or have a plain
	// password. It should stay the same over restarts, or an observer sees by the salt that there is no verifier.
	MockKey [32]byte
	// ClientCert is what is asked for beside the method.
	ClientCert CertRule
	// CertNames are those names of a client's certificate that can be its identity; none: the common name.
	CertNames []CertName
	// IdentMap says as which roles an identity, of a certificate or of a socket's user, may log in.
	IdentMap *IdentMap
	// Compute runs what takes milliseconds of a core during a login, the derivation of keys from a password, when it
	// thinks fit; its error is that of a ctx that has not let it begin. Nil: at once.
	Compute func(ctx context.Context, work func()) error
}

// Authenticator verifies clients. It is safe for concurrent use.
type Authenticator struct {
	method  Method
	store   Store
	mockKey [32]byte
	compute func(ctx context.Context, work func()) error

	clientCert CertRule
	certNames  []CertName
	identMap   *IdentMap
}

// Peer is the client to be verified.
type Peer struct {
	Role string
	// TLS says that the connection is encrypted.
	TLS bool
	// Secure says that nobody can listen even without TLS: a Unix socket, or loopback.
	Secure bool
	// ChannelBinding is the tls-server-end-point hash of the certificate that we have shown; nil if there is none.
	// SCRAM-SHA-256-PLUS is offered if it is set.
	ChannelBinding []byte
	// Certificate is the client's, verified; nil if it has shown none. For Cert and ClientCert.
	Certificate *x509.Certificate
	// User tells whose process is at the other end of a Unix socket; nil for other connections. For SocketUser.
	User func() (name string, err error)
}

// New returns an Authenticator. If clients are to prove plain passwords of a users file by SCRAM it computes their
// verifiers first, which takes milliseconds of a core for each.
func New(p Params) (*Authenticator, error) {
	if !p.Method.Valid() {
		return nil, fmt.Errorf("unknown authentication method %q", p.Method)
	}
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	if p.Store == nil && p.Method.asks() {
		return nil, fmt.Errorf("authentication method %q needs stored secrets", p.Method)
	}
	a := &Authenticator{
		method: p.Method, store: p.Store, mockKey: p.MockKey, compute: p.Compute,
		clientCert: cmp.Or(p.ClientCert, CertNone), certNames: p.CertNames, identMap: p.IdentMap,
	}
	if len(a.certNames) == 0 {
		a.certNames = []CertName{CommonName}
	}
	if a.compute == nil {
		a.compute = atOnce
	}
	d, ok := p.Store.(deriver)
	if !ok || (p.Method != Auto && p.Method != SCRAMSHA256) {
		return a, nil
	}
	if err := d.derive(a.salt); err != nil {
		return nil, fmt.Errorf("compute verifiers: %w", err)
	}
	return a, nil
}

// atOnce is the Compute of those who have none.
func atOnce(_ context.Context, work func()) error {
	work()
	return nil
}

// deriver is a Store that can compute verifiers of its plain passwords ahead of logins.
type deriver interface {
	derive(salt func(role string) []byte) error
}

// Authenticate has the client prove that it is p.Role: it sends the requests and reads the answers, up to and without
// AuthenticationOk, which is the caller's to send, as is an error response. It reads nothing past the client's last
// answer, and it owns c meanwhile.
//
// What it says to a client whose proof was right is queued on c: it goes with what c is given next.
//
// It blocks until the client has answered, the connection's deadline passes, or ctx is done, which leaves the
// connection's deadlines in the past. The Credential is what the client's login allows for; with Trust, Cert and
// SocketUser, what is stored does, which may be nothing.
//
// A role that does not exist, has no password, or has expired is asked for its secret like any other, at the same
// cost, and fails at the same step. (With Auto and MD5 the stored secret decides what is asked for: the method of a
// role that exists can be seen.)
//
// Errors: *FailedError, *IdentityError, ErrProtocol, ErrChannelBinding, ErrNeedsTLS, ErrNeedsCertificate,
// ErrNeedsSocket, ErrLookup, *wire.Error, or ctx's cause, all wrapped.
func (a *Authenticator) Authenticate(ctx context.Context, c *wire.Conn, p Peer) (Credential, error) {
	if err := a.checkCertificate(p, a.clientCert); err != nil {
		return Credential{}, err // before anything is looked up
	}
	switch a.method {
	case Trust:
		return a.trusted(ctx, p.Role)
	case Cert, SocketUser:
		return a.identified(ctx, p)
	}
	if a.method == Password && !p.TLS && !p.Secure {
		return Credential{}, ErrNeedsTLS
	}
	x, err := a.begin(ctx, c, p)
	if err != nil {
		return Credential{}, err
	}
	var cred Credential
	err = dialogue(ctx, c, func() error {
		cred, err = x.run(ctx, a.method.forSecret(x.secret))
		return err
	})
	if err == nil {
		return cred, nil
	}
	if i, ok := a.store.(invalidator); ok && errors.Is(err, ErrAuthFailed) {
		i.Invalidate(p.Role)
	}
	return Credential{}, err
}

// trusted returns what is stored of a role that need not prove anything.
func (a *Authenticator) trusted(ctx context.Context, role string) (Credential, error) {
	if a.store == nil {
		return Credential{}, nil
	}
	e, err := a.lookup(ctx, role)
	if err != nil && !errors.Is(err, ErrUnknownRole) {
		return Credential{}, err
	}
	return e.Secret.credential(), nil
}

// lookup asks the store, and marks its failures.
func (a *Authenticator) lookup(ctx context.Context, role string) (Entry, error) {
	e, err := a.store.Lookup(ctx, role)
	if err == nil || errors.Is(err, ErrUnknownRole) || errors.Is(err, ErrLookup) || ctx.Err() != nil {
		return e, err
	}
	return e, fmt.Errorf("%w: role %q: %w", ErrLookup, role, err)
}

// salt returns the salt of a role for which none is stored: the same each time, and for each role another.
func (a *Authenticator) salt(role string) []byte {
	h := hmac.New(sha256.New, a.mockKey[:])
	_, _ = io.WriteString(h, role)
	return h.Sum(nil)[:scram.SaltLen]
}

// exchange is one client's login.
type exchange struct {
	c      *wire.Conn
	peer   Peer
	secret Secret
	salt   []byte // where none is stored
	why    Why    // not empty: whatever the client proves, the login fails

	compute func(ctx context.Context, work func()) error
}

func (a *Authenticator) begin(ctx context.Context, c *wire.Conn, p Peer) (*exchange, error) {
	x := &exchange{c: c, peer: p, salt: a.salt(p.Role), compute: a.compute}
	e, err := a.lookup(ctx, p.Role)
	x.secret = e.Secret
	switch {
	case errors.Is(err, ErrUnknownRole):
		x.secret, x.why = Secret{}, WhyUnknownRole
	case err != nil:
		return nil, err
	case e.Secret.IsZero():
		x.why = WhyNoPassword
	case e.expired():
		x.why = WhyExpired
	case a.method == SCRAMSHA256 && e.Secret.hash() != "":
		x.why = WhyMD5Stored
	}
	return x, nil
}

// run asks the client by the given method and judges its answer.
func (x *exchange) run(ctx context.Context, m Method) (Credential, error) {
	switch m {
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
	return &FailedError{Role: x.peer.Role, Why: why}
}

func (x *exchange) clear(ctx context.Context) (Credential, error) {
	password, err := x.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return Credential{}, err
	}
	secret := x.secret
	if x.why != "" || password == "" { // an empty password fits nothing, as in Postgres
		secret = Secret{} // at the cost of a wrong password, even if it is right
	}
	var cred Credential
	var ok bool
	busy := x.compute(ctx, func() { cred, ok, err = secret.admits(password, x.salt) })
	if busy != nil || err != nil {
		return Credential{}, errors.Join(busy, err)
	}
	if !ok {
		return Credential{}, x.failed()
	}
	return cred, nil
}

func (x *exchange) md5() (Credential, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails: it ends the process instead
	answer, err := x.askPassword(&pgproto3.AuthenticationMD5Password{Salt: salt})
	if err != nil {
		return Credential{}, err
	}
	digits, ok := x.secret.md5Digits()
	if !ok {
		digits = hashMD5(string(x.salt), x.peer.Role)
	}
	if !sameText(answer, answerMD5(digits, salt)) || !ok || x.why != "" {
		return Credential{}, x.failed()
	}
	return x.secret.credential(), nil
}

// askPassword sends the request and returns the text of the password message that answers it.
func (x *exchange) askPassword(request wire.Message) (string, error) {
	if err := x.c.Send(request); err != nil {
		return "", err
	}
	body, err := x.read(maxPassword)
	if err != nil {
		return "", err
	}
	text, rest, ok := wire.CString(body)
	if !ok || len(rest) != 0 {
		return "", fmt.Errorf("%w: invalid password packet size", ErrProtocol)
	}
	return string(text), nil
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

func (x *exchange) scram(ctx context.Context) (Credential, error) {
	mechanism, first, err := x.askSASL()
	if err != nil {
		return Credential{}, err
	}
	v, ok, err := x.verifier(ctx)
	if err != nil {
		return Credential{}, err
	}
	if !ok {
		v = scram.Verifier{Iterations: scram.DefaultIterations, Salt: x.salt}
	}
	s, err := scram.NewServer(v, scram.ServerOptions{
		Mechanism: mechanism, ChannelBinding: x.peer.ChannelBinding, Doomed: !ok || x.why != "",
	})
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err := x.proof(s, first); err != nil {
		return Credential{}, err
	}
	if x.secret.isVerifier() {
		return scramCredential(s.ClientKey(), v), nil
	}
	return x.secret.credential(), nil
}

// verifier returns what the client is held against; ok is false if there is none.
func (x *exchange) verifier(ctx context.Context) (v scram.Verifier, ok bool, err error) {
	if !x.secret.isPlain() {
		return x.secret.scramVerifier(x.salt)
	}
	busy := x.compute(ctx, func() { v, ok, err = x.secret.scramVerifier(x.salt) })
	return v, ok, errors.Join(busy, err)
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
