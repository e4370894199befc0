package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/wire"
	"sluice/pool"
)

// login takes a StartupMessage to a session: tenant, policy, caps, authentication, a backend to learn from or to keep,
// and the greeting.
func (a *admission) login(ctx context.Context, r *wire.Request) *endError {
	if r.Major() != 3 {
		return unsupported(r)
	}
	a.keyLen = keyLength(r.Version)
	st, e := parseStartup(r)
	if e != nil {
		return e
	}
	ts, e := a.resolve(st)
	if e != nil {
		return e
	}
	a.application = st.application
	if a.database = st.database; a.database == "" {
		a.database = a.role
	}
	if a.srv.draining.Load() {
		return &endError{reason: ReasonDraining}
	}
	a.proving = true
	a.srv.proving.Add(1)
	wc := wire.NewConn(a.nc, wire.Client)
	a.wc = wc
	if n := negotiation(r, st); n != nil {
		if err := wc.Send(n); err != nil {
			return &endError{reason: ReasonClientDisconnected, err: err}
		}
	}
	if ts == nil {
		return a.stranger(ctx, wc)
	}
	a.tenant = ts.cfg.Name
	now, later := a.checkPolicy()
	if now != nil {
		return now
	}
	limits := a.state.caps(ts, &a.facts)
	if e := a.srv.caps.full(&a.facts, limits); e != nil {
		return e
	}
	cred, e := a.authenticate(ctx, wc, ts.auth)
	switch {
	case e != nil:
		return e
	case !a.srv.crowd.leave(a):
		return &endError{reason: ReasonCrowdedOut}
	case later != nil:
		return later
	}
	if e := a.srv.caps.enter(&a.facts, limits); e != nil {
		return e
	}
	a.entered = true
	a.settle()
	return a.open(ctx, wc, ts, st, cred)
}

// authenticate has the client prove its role.
func (a *admission) authenticate(ctx context.Context, wc *wire.Conn, au *auth.Authenticator) (auth.Credential, *endError) {
	if e := a.passGuard(ctx); e != nil {
		return auth.Credential{}, e
	}
	cred, err := au.Authenticate(ctx, wc, a.authPeer())
	switch {
	case err == nil:
		return cred, nil
	case errors.Is(err, auth.ErrAuthFailed):
		a.guessed()
	case errors.Is(err, auth.ErrIdentity):
		a.srv.metrics.LoginFailed(a.tenant, a.role)
	}
	return cred, a.unproved(err)
}

// authPeer is what is known of the client before it is asked.
func (a *admission) authPeer() auth.Peer {
	p := auth.Peer{
		Role: a.role, Addr: a.counted(), TLS: a.tls, Secure: a.local(), ChannelBinding: auth.EndPointBinding(a.shown),
		Typed: a.typed, Subject: &a.subject,
	}
	if a.unix {
		p.User = func() (string, error) { return peerUser(a.nc) }
	}
	p.Certificate = a.certificate()
	return p
}

// certificate returns the one that the client has shown, verified; nil if it has shown none.
func (a *admission) certificate() *x509.Certificate {
	if a.tlsConn == nil {
		return nil
	}
	if cs := a.tlsConn.ConnectionState(); len(cs.VerifiedChains) > 0 {
		return cs.PeerCertificates[0]
	}
	return nil
}

// unproved is the refusal of a client whom Authenticate has not let in.
func (a *admission) unproved(err error) *endError {
	e := &endError{reason: ReasonIdentityFailed, err: err}
	identity, known := errors.AsType[*auth.IdentityError](err)
	switch {
	case errors.Is(err, auth.ErrAuthFailed):
		e.reason, e.message = ReasonAuthFailed, fmt.Sprintf("password authentication failed for user %q", a.typed)
		e.hint = a.md5Hint(err)
	case known && identity.Method == auth.Cert:
		e.message = fmt.Sprintf("certificate authentication failed for user %q", a.typed)
	case known:
		e.message = fmt.Sprintf("Peer authentication failed for user %q", a.typed)
	case errors.Is(err, auth.ErrNeedsCertificate):
		e.message, e.hint = "connection requires a valid client certificate", "Connect with sslcert and sslkey."
	case errors.Is(err, auth.ErrNeedsSocket):
		e.message, e.hint = "peer authentication is not possible over TCP", "Connect through Sluice's Unix socket on the same machine."
	case errors.Is(err, auth.ErrBindingDowngrade):
		e.message = "SCRAM channel binding negotiation error"
		e.detail = "The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding."
	case errors.Is(err, auth.ErrChannelBinding):
		e.message = "SCRAM channel binding check failed"
	case errors.Is(err, auth.ErrNeedsTLS):
		e.reason = ReasonTLSRequired
	case errors.Is(err, wire.ErrTooLarge):
		e.reason = ReasonMessageTooLarge
	case errors.Is(err, auth.ErrProtocol), errors.Is(err, wire.ErrLength):
		e.reason = ReasonProtocolViolation
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.reason = ReasonLoginTimeout
	case errors.Is(err, auth.ErrLookup):
		e.reason = ReasonAuthUnavailable
	default:
		e.reason = ReasonClientDisconnected
	}
	return e
}

// md5Hint tells whoever was asked by md5 for a role with the tenant's name behind it, whether that role exists or not, that the
// name has taken part in the answer.
func (a *admission) md5Hint(err error) string {
	failed, is := errors.AsType[*auth.FailedError](err)
	if !is || failed.Asked != auth.MD5 || a.typed == a.role {
		return ""
	}
	return "With md5 the password is hashed together with the user name: name the tenant by options=-csluice.tenant=NAME or by the server's name, or have the operator store a SCRAM verifier."
}

// open gets the session its pool, learns from a backend what Postgres says to these start-up parameters, greets the
// client, and gives the session to its loop.
func (a *admission) open(ctx context.Context, wc *wire.Conn, ts *tenantState, st *startup, cred auth.Credential) *endError {
	key := pool.Key{Tenant: a.tenant, Database: a.database, Role: a.role, Mode: a.mode}
	settings := ts.lane(key)
	l := ts.tenant.lane(key, a.srv.wantedParts(&settings), func(ps *parts) *lane { return a.srv.newLane(ts, key, ps) })
	if l == nil {
		return &endError{reason: ReasonPolicyRevoked}
	}
	s := &session{facts: a.facts, lane: l, target: a.target(ts, st, cred)}
	s.destination = l.destination(a.destination)
	first, e := s.firstLease(ctx, ts.cfg.PoolWaitTimeout)
	if e != nil {
		ts.tenant.done(s.lane)
		return e
	}
	pid := uint32(0)
	if first.bc != nil {
		pid = first.bc.b.Conn.PID
	}
	a.srv.cancels.add(s, pid, a.keyLen)
	a.letIn(ts)
	if err := a.greet(wc, s, st.tooLong, first.params); err != nil {
		a.srv.cancels.remove(s)
		s.lane.loop.Post(func() { s.giveUpLogin(first.bc) })
		return &endError{reason: ReasonClientDisconnected, err: err}
	}
	nc := a.nc
	if !s.lane.loop.Post(func() { s.start(nc, first) }) {
		return &endError{reason: ReasonDraining}
	}
	a.srv.proving.Add(-1)
	return nil
}

// letIn takes note of a client before it is told that it is logged in.
func (a *admission) letIn(ts *tenantState) {
	now := time.Now()
	a.srv.guard.Succeeded(a.attempt(), now)
	a.srv.history.note(&a.facts, now)
	a.tally(ts.tenant, now)
	a.recordLogin(string(ts.cfg.Auth.Method))
}

// target returns what the client's backends are opened with: settings of the tenant, then the client's own parameters.
func (a *admission) target(ts *tenantState, st *startup, cred auth.Credential) *backend.Target {
	t := ts.login(a.role, cred)
	t.Database = ts.dbname(a.database)
	all := startup{params: append([]wire.Param(nil), ts.settings...)}
	for _, p := range st.params {
		all.set(p.Name, p.Value)
	}
	if a.mode == modeSession && st.application != "" { // in transaction mode it is carried
		all.set("application_name", st.application)
	}
	t.Params = all.params
	return &t
}

// lease is the answer to a login's wish for a backend.
type lease struct {
	key    string       // of the baseline
	params []wire.Param // of the baseline
	bc     *backendConn // in session mode
	err    error
}

// firstLease gets the session, from its login's goroutine, what Postgres reports for its start-up parameters, and in
// session mode the backend that it keeps. In transaction mode a backend is needed only if none was opened with these
// parameters before; bad ones fail here.
func (s *session) firstLease(ctx context.Context, wait time.Duration) (lease, *endError) {
	key := baselineKey(s.target.Params, s.lane.tenant.redefined.Load())
	if s.pooled() {
		if params := s.lane.known(key, s.target); params != nil {
			return lease{key: key, params: params}, nil
		}
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(parent, wait)
	defer cancel()
	wish := wish{key: key, began: time.Now(), login: parent, waiter: new(pool.Waiter)}
	got, e := s.awaitLease(ctx, wish)
	for e == nil {
		away, ok := errors.AsType[*elsewhere](got.err)
		if !ok {
			break
		}
		s.follow(away.lane)
		wish.hops++
		got, e = s.awaitLease(ctx, wish)
	}
	if e == nil && got.err != nil {
		s.lane.loop.Do(s.dropLogin)
		e = describe(got.err)
		if s.lane.srv.draining.Load() {
			e = &endError{reason: ReasonDraining, err: got.err}
		}
	}
	return got, e
}

// dropLogin takes back what askFirst has begun.
func (s *session) dropLogin() { s.lane.dropBaseline(s.base) }

// follow takes a login to another part of the pool.
func (s *session) follow(to *lane) {
	s.lane.loop.Do(s.dropLogin)
	if s.lane.tenant.move(s.lane, to) {
		s.lane = to
	}
}

// wish is what a login waits for.
type wish struct {
	key   string          // of the baseline
	began time.Time       // the wait
	login context.Context // not bounded by it
	hops  int             // how often it has been sent to another part of the pool

	waiter *pool.Waiter // its place in the line; used on the loop
}

// maxHops is how often a login looks for another part by itself.
const maxHops = 3

// awaitLease asks the lane for a lease, and waits until ctx is done.
func (s *session) awaitLease(ctx context.Context, w wish) (got lease, e *endError) {
	result := make(chan lease, 1)
	if !s.lane.loop.Post(func() { s.askFirst(w, result) }) {
		return lease{}, &endError{reason: ReasonDraining}
	}
	select {
	case got = <-result:
		return got, nil
	case <-ctx.Done():
	}
	tooLong := &endError{
		reason:  ReasonPoolWaitTimeout,
		message: fmt.Sprintf("no backend of the pool was free within %.1f s (pool_wait_timeout)", time.Since(w.began).Seconds()),
	}
	s.lane.loop.Do(func() {
		if w.waiter.Waiting() {
			s.lane.explain(tooLong)
		}
		s.lane.pool.Cancel(w.waiter)
	})
	select {
	case got = <-result: // it came at the last moment
		return got, nil
	default:
		return lease{}, s.noLease(w.login, tooLong)
	}
}

// noLease is the refusal of a login for which no backend was there in time, tooLong if nothing else is to blame.
func (s *session) noLease(login context.Context, tooLong *endError) *endError {
	s.lane.loop.Do(s.dropLogin)
	switch {
	case s.lane.srv.draining.Load():
		return &endError{reason: ReasonDraining}
	case login.Err() != nil && !errors.Is(login.Err(), context.DeadlineExceeded):
		return &endError{reason: ReasonLoginTimeout, err: context.Cause(login)}
	}
	return tooLong // also if login_timeout is the shorter: it is the pool that the client has waited for
}

// askFirst is firstLease's part on the loop.
func (s *session) askFirst(w wish, result chan<- lease) {
	s.enter(w.key)
	if s.pooled() && s.base.params != nil {
		result <- lease{params: s.base.params}
		return
	}
	w.waiter.Granted = func(b *pool.Backend, err error) {
		if err != nil {
			result <- lease{err: err}
			return
		}
		got := lease{params: s.base.params}
		if s.pooled() {
			s.lane.pool.Release(b)
		} else {
			got.bc = b.Owner.(*backendConn)
		}
		result <- got
	}
	b := s.lane.pool.Acquire(w.waiter, w.key, "", *s.target)
	switch {
	case b != nil:
		w.waiter.Granted(b, nil)
	case w.hops < maxHops:
		s.lane.seek()
	}
}

// giveUpLogin gives back what firstLease got, on the loop.
func (s *session) giveUpLogin(bc *backendConn) {
	if bc != nil {
		bc.leave((*backendConn).release)
	}
	if s.base != nil {
		s.lane.dropBaseline(s.base)
	}
	s.lane.tenant.done(s.lane)
}
