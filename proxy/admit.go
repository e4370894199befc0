package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"sluice/internal/loop"
	"sluice/internal/wire"
	"sluice/netpolicy"
)

const (
	// lingerTimeout is how long a refused client has to read why.
	lingerTimeout = 2 * time.Second
	// overLimit is how many connections above limits.max_clients may be logging in, or be told why they are refused.
	overLimit = 1000
)

// errQuiet is the end of a connection that is owed no answer and no line in the log: a cancel request, a port scan.
var errQuiet = errors.New("nothing to answer")

// admission is one connection on its way to be a session. It runs on a goroutine of its own and may block.
type admission struct {
	facts
	srv     *Server
	state   *state
	nc      net.Conn // TLS, once that is agreed on
	ln      *listener
	wc      *wire.Conn // on nc, once the start-up message is read
	tlsConn *tls.Conn
	shown   *x509.Certificate // the server certificate of the TLS session; nil without TLS
	subject string            // of the token that the client is let in by
	keyLen  int               // of the key for cancelling
	typed   string            // the user name as the client has sent it, perhaps with a tenant
	claimed string            // what a stranger calls its tenant
	astray  string            // why it is a stranger, for the log
	proving bool              // counted by Server.proving
	entered bool              // counted by caps
	known   bool              // not counted by Server.logins any more
	telling bool              // counted by crowd.tell

	end     context.CancelCauseFunc // ends the login, from elsewhere
	waiting bool                    // is in the crowd; guarded by crowd.mu, as place
	place   int
}

// admit takes a connection from its first byte to a session on a loop, or refuses it.
func (s *Server) admit(nc net.Conn, ln *listener) {
	defer s.workers.Done()
	c := ln.cfg()
	a := &admission{srv: s, state: s.state.Load(), nc: nc, ln: ln}
	a.facts = facts{
		id: s.nextID.Add(1), began: loop.At(time.Now()), destination: &destination{listener: c.Name, mode: string(c.Mode)},
	}
	defer a.settle()
	defer func() {
		if v := recover(); v != nil {
			s.metrics.Panicked()
			s.log.Error("panic at login", append(a.attrs(), logPanic, v, logStack, string(debug.Stack()))...)
			a.refuse(&endError{reason: ReasonInternalError, err: fmt.Errorf("panic: %v", v)})
		}
	}()
	life, end := context.WithCancelCause(s.ctx) // the server's end is every login's
	defer end(nil)
	a.end = end
	ctx, cancel := context.WithTimeout(life, a.state.cfg.Limits.LoginTimeout)
	defer cancel()
	_ = nc.SetDeadline(time.Now().Add(a.state.cfg.Limits.LoginTimeout))
	stop := context.AfterFunc(life, func() { _ = nc.SetDeadline(time.Now()) })
	defer stop()
	e := a.run(ctx)
	stop()
	if e == nil {
		return
	}
	if errors.Is(context.Cause(life), errCrowdedOut) {
		e = &endError{reason: ReasonCrowdedOut}
	}
	a.refuse(e)
}

// run is the life of a client up to its adoption.
func (a *admission) run(ctx context.Context) *endError {
	if e := a.identify(); e != nil {
		return e
	}
	if !a.unix {
		if err := a.state.policy.CheckAddr(a.ruled()); err != nil {
			_ = a.nc.Close()
			return &endError{reason: ReasonDeniedAddress, err: err}
		}
	}
	limits := &a.state.cfg.Limits
	if e := a.srv.crowd.arrive(a, crowdLimits{limits.MaxClientsPerAddress, limits.MaxConnectionRatePerAddress}, time.Now()); e != nil {
		return a.mayTell(e)
	}
	r, e := a.negotiate(ctx)
	if e != nil {
		return e
	}
	if r.Kind == wire.CancelRequest {
		a.srv.cancels.run(ctx, a.addr.Addr(), r.PID, r.Key)
		return &endError{reason: ReasonClientDisconnected, err: errQuiet}
	}
	return a.login(ctx, r)
}

// checkPolicy holds the client against the policy. That the database is not admitted is told after authentication only:
// then the result is the refusal for later.
func (a *admission) checkPolicy() (now, later *endError) {
	err := a.state.policy.Check(a.peer())
	if err == nil {
		return nil, nil
	}
	denied, ok := errors.AsType[*netpolicy.DeniedError](err)
	if !ok {
		return &endError{reason: ReasonDeniedPolicy, message: "connection denied", err: err}, nil
	}
	encryption := "no encryption"
	if a.tls {
		encryption = "SSL encryption"
	}
	switch denied.Cause {
	case netpolicy.AddressDenied:
		return &endError{reason: ReasonDeniedAddress, err: err, message: fmt.Sprintf(
			"connection from address %s to the %s port%s is not allowed for user %q, database %q, %s",
			a.seenAs(), a.mode, a.port(), a.role, a.database, encryption)}, nil
	case netpolicy.TLSRequired:
		return &endError{reason: ReasonTLSRequired, err: err}, nil
	case netpolicy.ModeDenied:
		return &endError{reason: ReasonDeniedPolicy, err: err,
			message: fmt.Sprintf("role %q may not log in on the %s port", a.role, a.mode), hint: "Use the other port."}, nil
	case netpolicy.DatabaseDenied:
		return nil, &endError{reason: ReasonUnknownDatabase, err: err, message: fmt.Sprintf("database %q does not exist", a.database)}
	}
	return &endError{reason: ReasonDeniedPolicy, err: err, message: fmt.Sprintf("role %q is not permitted to log in here", a.role)}, nil
}

// port returns the number of the port that the client connected to, with a space in front; empty if it has none.
func (a *admission) port() string {
	if tcp, ok := a.nc.LocalAddr().(*net.TCPAddr); ok {
		return fmt.Sprintf(" %d", tcp.Port)
	}
	return ""
}

// refuse ends an attempt: counted, logged, and answered if that can be understood.
func (a *admission) refuse(e *endError) {
	a.srv.crowd.leave(a)
	if a.entered {
		a.srv.caps.leave(&a.facts)
	}
	if a.proving {
		a.srv.proving.Add(-1)
	}
	if a.telling {
		defer a.srv.crowd.told(a.source())
	}
	if errors.Is(e.err, errQuiet) {
		_ = a.nc.Close()
		return
	}
	a.srv.metrics.Refused(a.tenant, a.mode, e.reason.String())
	a.srv.audit.refusal(&a.facts, e)
	a.srv.logEnd(&a.facts, e, a.began.Until(time.Now()))
	response := e.response()
	if response == nil {
		_ = a.nc.Close()
		return
	}
	if a.srv.ctx.Err() == nil {
		_ = a.nc.SetDeadline(time.Now().Add(lingerTimeout))
	} else {
		_ = a.nc.SetDeadline(time.Now().Add(lastCalls))
	}
	if a.write(response) == nil {
		linger(a.nc)
	}
	_ = a.nc.Close()
}

// settle takes the login out of those that caps does not count, once.
func (a *admission) settle() {
	if !a.known {
		a.known = true
		a.srv.logins.Add(-1)
	}
}

// write sends p behind what the login has said so far.
func (a *admission) write(p []byte) error {
	if a.wc != nil {
		return a.wc.Write(p)
	}
	_, err := a.nc.Write(p)
	return err
}

// linger waits until the client has closed its side, so that closing ours does not take the last message away from it.
func linger(nc net.Conn) {
	w, ok := nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	buf := make([]byte, 1<<10)
	for range 64 { // a client that goes on talking is cut off
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
}

// logEnd writes the one line about a session's end, or an attempt's.
func (s *Server) logEnd(f *facts, e *endError, d time.Duration) {
	row := reasons[e.reason]
	which := s.state.Load().cfg.Log.Sessions
	level := row.level
	switch {
	case which == "none" && level < slog.LevelError:
		return
	case which == "all" && level < slog.LevelInfo:
		level = slog.LevelInfo
	}
	if !s.log.Enabled(s.ctx, level) {
		return
	}
	attrs := append(f.attrs(), logReason, row.label, logDuration, d.Seconds())
	if row.sqlstate != "" {
		attrs = append(attrs, logSQLState, row.sqlstate)
	}
	if e.detail != "" {
		attrs = append(attrs, logDetail, e.detail)
	}
	if e.err != nil {
		attrs = append(attrs, logError, shownError(e.err))
	}
	s.log.Log(s.ctx, level, "session ended", attrs...)
}
