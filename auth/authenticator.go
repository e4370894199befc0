package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"sync"

	"sluice/auth/jwt"
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
	Store  Store // may be nil for Trust, Cert, SocketUser and JWT
	// Tokens says which tokens are taken; for JWT.
	Tokens *jwt.Verifier
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
	// Before is the Authenticator that this one replaces, nil for none: what it knows of secrets that have not changed is
	// taken over.
	Before *Authenticator
}

// Authenticator verifies clients. It is safe for concurrent use.
type Authenticator struct {
	method  Method
	store   Store
	tokens  *jwt.Verifier
	macs    sync.Pool // of hash.Hash, by Params.MockKey
	compute func(ctx context.Context, work func()) error
	turns   *turns

	clientCert CertRule
	certNames  []CertName
	identMap   *IdentMap
}

// Peer is the client to be verified.
type Peer struct {
	Role string
	// Typed is the user name as the client has sent it, empty if that is Role: md5 hashes it.
	Typed string
	// Addr is where it comes from; the zero Addr for a Unix socket.
	Addr netip.Addr
	// TLS says that the connection is encrypted.
	TLS bool
	// Secure says that nobody can listen even without TLS: a Unix socket, or loopback.
	Secure bool
	// ChannelBinding is the tls-server-end-point hash of the certificate that we have shown; nil if there is none.
	// SCRAM-SHA-256-PLUS is offered if it is set.
	ChannelBinding []byte
	// Certificate is the client's, verified; nil if it has shown none. For Cert and ClientCert.
	Certificate *x509.Certificate
	// Subject, if it is not nil, is set to the subject of the token by which the client is let in. For JWT.
	Subject *string
	// User tells whose process is at the other end of a Unix socket; nil for other connections. For SocketUser.
	User func() (name string, err error)
}

// typed returns the user name as the client has sent it.
func (p *Peer) typed() string { return cmp.Or(p.Typed, p.Role) }

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
	if p.Tokens == nil && p.Method == JWT {
		return nil, fmt.Errorf("authentication method %q needs to know which tokens to take", p.Method)
	}
	a := &Authenticator{
		method: p.Method, store: p.Store, tokens: p.Tokens, compute: p.Compute, turns: newTurns(),
		clientCert: cmp.Or(p.ClientCert, CertNone), certNames: p.CertNames, identMap: p.IdentMap,
	}
	key := p.MockKey // nothing else of p is to be kept
	a.macs.New = func() any { return hmac.New(sha256.New, key[:]) }
	if len(a.certNames) == 0 {
		a.certNames = []CertName{CommonName}
	}
	if a.compute == nil {
		a.compute = atOnce
	}
	a.takeOver(p.Before)
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

// takeOver keeps what before, nil for none, knows of secrets that have not changed.
func (a *Authenticator) takeOver(before *Authenticator) {
	if before == nil {
		return
	}
	a.turns = before.turns
	if k, ok := a.store.(keeper); ok {
		k.keep(before.store)
	}
}

// keeper is a Store that can take over secrets from the one that it replaces.
type keeper interface{ keep(before Store) }

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
// role that exists can be seen. So can that of a role with two secrets where one exchange cannot check both: see
// rotation.go.)
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
	if (a.method == Password || a.method == JWT) && !p.TLS && !p.Secure {
		return Credential{}, ErrNeedsTLS
	}
	defer c.Forget()
	if a.method == JWT {
		return a.byToken(ctx, c, p)
	}
	x, err := a.begin(ctx, c, p)
	if err != nil {
		return Credential{}, err
	}
	var cred Credential
	err = dialogue(ctx, c, func() error {
		cred, err = x.run(ctx)
		return err
	})
	x.turn(err)
	if err == nil {
		return cred, nil
	}
	if errors.Is(err, ErrAuthFailed) {
		a.Doubt(p.Role)
	}
	return Credential{}, err
}

// Doubt has the next login of the role ask anew for what is stored of it, where that is remembered for a time: a client or
// Postgres has had another secret. It does so once a second at most.
func (a *Authenticator) Doubt(role string) {
	if i, ok := a.store.(invalidator); ok {
		i.Invalidate(role)
	}
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
	return e.credential(), nil
}

// lookup asks the store, and marks its failures.
func (a *Authenticator) lookup(ctx context.Context, role string) (Entry, error) {
	e, err := a.store.Lookup(ctx, role)
	if err == nil || errors.Is(err, ErrUnknownRole) || errors.Is(err, ErrLookup) || ctx.Err() != nil {
		return e, err
	}
	return e, fmt.Errorf("%w: role %.64q: %w", ErrLookup, role, err)
}

// salt returns the salt of a role for which none is stored: the same each time, and for each role another.
func (a *Authenticator) salt(role string) []byte {
	h := a.macs.Get().(hash.Hash)
	defer a.macs.Put(h)
	h.Reset()
	_, _ = io.WriteString(h, role)
	return h.Sum(nil)[:scram.SaltLen]
}
