package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/backend"
	"sluice/internal/loop"
	"sluice/internal/relay"
	"sluice/internal/wire"
	"sluice/pool"
)

const (
	// maxPrepared bounds the statements that a backend keeps prepared.
	maxPrepared = 500
	// closeTimeout is how long Postgres may take to close a connection after Terminate.
	closeTimeout = 5 * time.Second
	// cancelTimeout bounds one cancel request.
	cancelTimeout = 10 * time.Second
)

// backendConn is a backend on its loop: the handler of its connection. It belongs to the session that holds it, or else
// to the pool.
type backendConn struct {
	lane   *lane
	b      *pool.Backend
	conn   *loop.Conn
	base   *baseline
	set    *relay.Backend
	dialer *backend.Dialer
	user   uint64 // the session that had it last; 0: none

	asking bool      // it answers a question of Sluice's
	asked  time.Time // since then

	session *session // nil while the pool has it
	hub     *hub     // whose connection it is; nil: nobody's
	held    []byte   // the beginning of a message that must be understood whole

	cancels    int                // cancel requests under way
	cancelling *cancelling        // of the session's, which is one of them
	visits     int                // of others' statements that speak of its session, see visit.go
	afterward  func(*backendConn) // what is to be done with it when there are none any more
	signalled  signalled
	closing    bool
	dead       bool
	cut        bool // a message is half sent: whatever follows would be taken for its end
	timer      loop.Timer
}

// opened is the pool's Opened: the connection is adopted by the loop.
func (l *lane) opened(b *pool.Backend) {
	bc := &backendConn{
		lane: l, b: b, base: l.baseline(b.Baseline()), dialer: l.settings.dialer,
	}
	l.setParams(bc.base, b.Conn.Params)
	if l.learnt.does == nil {
		l.learnCode()
	}
	application := ""
	for _, p := range b.Conn.Params {
		if p.Name == "application_name" {
			application = p.Value
		}
	}
	bc.set = relay.NewBackend(maxPrepared, application)
	bc.set.PID = b.Conn.PID
	bc.conn = l.loop.Adopt(b.Conn.Give(), bc)
	b.Owner = bc
}

// retired is the pool's Retired: Terminate is sent, and the connection closed when Postgres has closed it, or in time.
func (l *lane) retired(b *pool.Backend) {
	bc := b.Owner.(*backendConn)
	bc.closing = true
	bc.session = nil
	if bc.dead || bc.cut {
		bc.closed()
		return
	}
	bc.conn.Write([]byte{wire.Terminate, 0, 0, 0, 4})
	bc.conn.Want(true)
	bc.lane.loop.Start(&bc.timer, closeTimeout, bc.closed)
}

// closed ends the backend.
func (bc *backendConn) closed() {
	bc.timer.Stop()
	bc.conn.Close()
	bc.fallsSilent()
	bc.set.Clear()
	bc.lane.dropBaseline(bc.base)
	bc.lane.loop.Post(func() { bc.lane.closed(bc) })
}

// Readable implements loop.Handler.
func (bc *backendConn) Readable() {
	for {
		if s := bc.session; s != nil && s.clientFull() {
			bc.conn.Want(false)
			return
		}
		buf := bc.lane.loop.Buffer()
		held := copy(buf, bc.held)
		n, err := bc.conn.Read(buf[held:])
		switch {
		case errors.Is(err, loop.ErrAgain):
			return
		case err != nil:
			bc.lost(err)
			return
		}
		bc.hold(nil)
		switch {
		case bc.closing:
		case bc.session != nil:
			bc.session.fromBackend(buf[:held+n])
		case bc.hub != nil:
			bc.hub.fromBackend(buf[:n])
		case !bc.unasked(buf[:held+n]):
			bc.dead = true // of no use any more, and Postgres may not read
			bc.lane.pool.Lost(bc.b)
			return
		}
		if bc.closing && bc.dead {
			return
		}
	}
}

// timeQuestion counts how long the backend works on questions of Sluice's.
func (bc *backendConn) timeQuestion(asking bool) {
	if asking == bc.asking {
		return
	}
	if bc.asking = asking; asking {
		bc.asked = bc.lane.loop.Now()
		return
	}
	bc.lane.traffic.QuestionTime += bc.lane.loop.Now().Sub(bc.asked)
}

// hold keeps what the machine did not take.
func (bc *backendConn) hold(rest []byte) {
	if len(rest) == 0 {
		bc.held = nil
		return
	}
	bc.held = append([]byte(nil), rest...)
}

// Drained implements loop.Handler: the backend has taken everything, so its client may send more.
func (bc *backendConn) Drained() {
	if s := bc.session; s != nil {
		s.interest()
	}
}

// Panicked implements loop.Handler.
func (bc *backendConn) Panicked(v any, stack []byte) {
	if s := bc.session; s != nil {
		s.Panicked(v, stack)
		return
	}
	bc.lane.panicked(v, stack)
	bc.dead = true
	if bc.hub != nil {
		bc.hub.lost(fmt.Errorf("panic: %v", v))
		return
	}
	bc.lane.pool.Lost(bc.b)
}

// unasked deals with what an idle backend says of its own accord. It reports false if the backend is not as new any more:
// Postgres ends it, or a setting has changed under it.
func (bc *backendConn) unasked(p []byte) (fine bool) {
	for len(p) > 0 {
		typ, body, ok, err := wire.Header(p)
		if err != nil {
			return false
		}
		if !ok || len(p) < wire.HeaderLen+body {
			bc.hold(p)
			return len(p) < 1<<10 || passing(typ) && len(p) < 32<<10
		}
		if !passing(typ) {
			return false
		}
		p = p[wire.HeaderLen+body:]
	}
	return true
}

// passing reports whether a message of this type may come to an idle backend and go unheard: the session that listened there
// hears otherwise.
func passing(typ byte) bool { return typ == wire.NoticeResponse || typ == wire.NotificationResponse }

// lost deals with the end of the connection.
func (bc *backendConn) lost(err error) {
	bc.dead = true
	switch {
	case bc.closing:
		bc.closed()
	case bc.session != nil:
		bc.session.backendLost(err)
	case bc.hub != nil:
		bc.hub.lost(err)
	case bc.afterward != nil:
		bc.goOn() // or the cancel request that is under way ends soon and disposes of it
	default:
		bc.lane.pool.Lost(bc.b)
	}
}

// cancel asks Postgres to cancel what runs. done, if not nil, is called on the loop when Postgres has taken note. The
// backend is not lent to anybody else before, and its session sends nothing.
func (bc *backendConn) cancel(done func()) {
	if bc.session != nil {
		bc.session.m.Cancelling()
	}
	bc.cancels++
	bc.lane.done.Add(1)
	go bc.sendCancel(done)
}

func (bc *backendConn) sendCancel(done func()) {
	defer bc.lane.done.Done()
	ctx, stop := context.WithTimeout(context.Background(), cancelTimeout)
	defer stop()
	err := bc.dialer.Cancel(ctx, bc.b.Conn.Identity)
	bc.lane.loop.Post(func() {
		bc.cancels--
		outcome := "sent"
		if err != nil {
			outcome = "failed"
			bc.lane.srv.log.Warn("cancel failed", logPool, bc.lane.key.String(), logBackendPID, bc.b.Conn.PID, logError, err)
		}
		bc.lane.srv.metrics.Cancelled(outcome)
		if done != nil {
			done()
		}
		switch {
		case bc.cancels > 0:
		case bc.afterward != nil:
			bc.goOn()
		case bc.session != nil:
			bc.session.cancelOver()
		}
	})
}

// leave takes the backend away from its session and has f called with it, at once or, so that a late cancel cannot hit
// the next client's query, when no cancel request is under way any more, and no statement speaks of it.
func (bc *backendConn) leave(f func(*backendConn)) {
	bc.session = nil
	bc.conn.Want(true)
	bc.afterward = f
	bc.goOn()
}

// goOn does what is to be done behind a lease, if nothing stands against it any more.
func (bc *backendConn) goOn() {
	f := bc.afterward
	if f == nil || bc.cancels > 0 || bc.visits > 0 && !bc.dead {
		return
	}
	bc.afterward = nil
	f(bc)
}

func (bc *backendConn) release() {
	if bc.dead || bc.set.Worn() || bc.signalled != notSignalled {
		bc.discard()
		return
	}
	bc.b.State = bc.set.State()
	bc.lane.pool.Release(bc.b)
}

func (bc *backendConn) discard() { bc.lane.pool.Discard(bc.b) }

// rejected reports that Postgres has answered and refused, so that trying again is of no use.
func rejected(err error) bool {
	if backend.Unreachable(err) {
		return false
	}
	return !backend.Full(err)
}

// describe returns what a failed attempt to open a backend means for the client.
func describe(err error) *endError {
	r, ok := backend.Rejected(err)
	switch {
	case errors.Is(err, pool.ErrClosed):
		return &endError{reason: ReasonPolicyRevoked, err: err}
	case ok && (r.Code == "28P01" || r.Code == "28000"):
		return &endError{reason: ReasonBackendAuthFailed, err: err}
	case backend.Full(err):
		return &endError{reason: ReasonBackendUnreachable, message: "PostgreSQL has no connection left", err: err,
			hint: "Ask the operator: max_connections of PostgreSQL is smaller than what Sluice may use."}
	case ok && !backend.Unreachable(err):
		raw, encErr := r.Encode(nil)
		if encErr != nil {
			raw = nil
		}
		return &endError{reason: ReasonBackendRefused, raw: raw, err: err}
	case backend.Unreachable(err):
		return &endError{reason: ReasonBackendUnreachable, err: err}
	}
	return &endError{reason: ReasonBackendAuthFailed, err: fmt.Errorf("log in to postgres: %w", err)}
}
