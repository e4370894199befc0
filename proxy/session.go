package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/internal/backend"
	"sluice/internal/loop"
	"sluice/internal/relay"
)

const (
	// highWater is how much may be unsent on one side before the other is no longer read.
	highWater = 256 << 10 // 256 KiB
	// maxWaiting is how much of a client is read while it waits for a backend or for replies.
	maxWaiting = 64 << 10 // 64 KiB
	// abandonTimeout is how long a backend has to come back from a client that is gone.
	abandonTimeout = 10 * time.Second
)

// session is a client that is logged in, on the loop of its lane: the handler of its connection, the machine that
// understands it, and the backend that it holds. It outlives its client while a backend has to be brought back.
type session struct {
	facts
	lane   *lane
	base   *baseline
	target *backend.Target
	client *loop.Conn
	m      relay.Machine
	chain  *session // with the same pid; guarded by cancels.mu
	pid    uint32   // for cancelling, as keyLen
	place  int32    // among the sessions of the shard
	keyLen uint8    // of the key for cancelling

	phase   phase
	leaving bool       // the client has said goodbye; what it sent before runs to its end
	deaf    bool       // leaving, and it does not read: it is sent nothing more
	ended   bool       // the client is gone, and counted
	broken  bool       // the backend cannot be understood any more
	next    relay.Next // what held waits for

	held    []byte // of the client, not taken by the machine yet
	bc      *backendConn
	turn    *turn     // nil: it does not wait for a backend
	verdict *endError // to end with at the next free moment
	reach   *reach    // nil: its statements speak of nobody

	since      loop.Instant // of the phase
	blockSince loop.Instant // of the transaction; zero: none
	timer      loop.Timer
	life       *loop.Timer // nil: it may live as long as it likes
	pin        *pin        // nil: it gives its backend back behind each transaction
	hearing    *hearing    // nil: no hub listens for it
	cancelling *cancelling // nil: there are no cancel requests to be passed on
	visitors   *visitors   // nil: nobody's statement speaks of it
}

// Place implements bag.Member.
func (s *session) Place() *int32 { return &s.place }

// start makes the session live on its loop, with what its login has got.
func (s *session) start(nc net.Conn, first lease) {
	s.lane.sessions.Add(s)
	if s.base == nil { // the login had nothing to learn
		s.enter(first.key)
	}
	bc := first.bc
	application := s.application
	if s.pooled() {
		application = s.shownApplication()
	}
	s.m = relay.New(s.lane.paramsAs(s.base, first.params), application)
	if s.pooled() {
		s.m.Identify(s.pid)
	}
	s.client = s.lane.loop.Adopt(nc, s)
	t := &s.lane.traffic
	t.Logins++
	t.Clients++
	if s.tls {
		t.TLSClients++
	}
	if bc != nil {
		s.attach(bc)
	}
	s.since = loop.At(s.lane.loop.Now())
	if d := s.lane.settings.timeouts.ClientLifetime; d > 0 {
		s.life = new(loop.Timer)
		s.lane.loop.Start(s.life, d, s.outlived)
	}
	s.phase = numPhases
	s.settle()
	s.lendToVisitors()
	switch {
	case bc != nil && bc.dead:
		s.backendLost(io.EOF)
	case s.lane.srv.draining.Load():
		s.endWhenFree(&endError{reason: ReasonShutdown})
	default:
		s.checkPolicy()
	}
}

// outlived ends a session that is older than it may become.
func (s *session) outlived() { s.endWhenFree(&endError{reason: ReasonClientLifetime}) }

// checkPolicy holds the session against the policy that counts now: a session that it denies ends at its next free moment.
func (s *session) checkPolicy() {
	if err := s.lane.srv.state.Load().policy.Check(s.peer()); err != nil {
		s.endWhenFree(&endError{reason: ReasonPolicyRevoked, err: err})
	}
}

// pooled reports whether the session shares backends with others: transaction mode.
func (s *session) pooled() bool { return s.mode == modeTransaction }

// Readable implements loop.Handler for the client.
func (s *session) Readable() {
	if s.leaving && s.client != nil && s.client.Broken() { // it has not waited for what it asked for, so nobody does
		s.end(&endError{reason: ReasonClientDisconnected})
		return
	}
	for s.client != nil && !s.leaving {
		buf := s.lane.loop.Buffer()
		if len(s.held) >= len(buf)/2 {
			if !s.readLong() {
				return
			}
			continue
		}
		held := copy(buf, s.held)
		n, err := s.client.Read(buf[held:])
		if err != nil {
			s.readError(err)
			return
		}
		s.lane.traffic.BytesIn += uint64(n)
		s.held = nil
		s.fromClient(buf[:held+n])
		if !s.interest() {
			return
		}
	}
}

// readLong reads on behind a message that is too long for the loop's buffer and must be held whole. It reports whether
// there may be more to read now.
func (s *session) readLong() (more bool) {
	n, err := s.client.Read(s.lane.loop.Buffer())
	if err != nil {
		s.readError(err)
		return false
	}
	s.lane.traffic.BytesIn += uint64(n)
	p := append(s.held, s.lane.loop.Buffer()[:n]...)
	s.held = nil
	s.fromClient(p)
	return s.interest()
}

func (s *session) readError(err error) {
	switch {
	case errors.Is(err, loop.ErrAgain):
	case (s.waits() || s.next == relay.Blocked || s.next == relay.NeedPIDs) && relay.SaysGoodbye(s.held):
		s.leaving = true // what was sent before the goodbye runs when its turn comes
		s.client.Want(false)
	case errors.Is(err, io.EOF):
		s.end(&endError{reason: ReasonClientDisconnected})
	default:
		s.end(&endError{reason: ReasonClientDisconnected, err: err})
	}
}

// Drained implements loop.Handler: the client has taken everything, so the backend may send more.
func (s *session) Drained() {
	if s.bc != nil {
		s.bc.conn.Want(true)
	}
	s.interest()
}

// Panicked implements loop.Handler.
func (s *session) Panicked(v any, stack []byte) {
	s.lane.srv.metrics.Panicked()
	s.lane.srv.log.Error("panic in a session", append(s.attrs(), logPanic, v, logStack, string(stack))...)
	if s.bc != nil {
		s.bc.dead = true // nothing is known of it any more
	}
	if s.ended {
		if s.bc != nil {
			s.giveUp()
		}
		return
	}
	s.end(&endError{reason: ReasonInternalError, err: fmt.Errorf("panic: %v", v)})
}

// clientFull reports whether the client takes so little that its backend must wait.
func (s *session) clientFull() bool {
	return s.client != nil && !s.leaving && s.client.Unsent() >= highWater
}

// interest decides whether the client is read, and reports it.
func (s *session) interest() (reading bool) {
	if s.client == nil {
		return false
	}
	reading = !s.leaving && !s.clientFull() &&
		(s.bc == nil || s.bc.conn.Unsent() < highWater) &&
		(s.next == relay.More || len(s.held) < maxWaiting)
	s.client.Want(reading)
	return reading
}

// fromClient has the machine understand what the client has sent, and sends on what comes of it. p is the loop's or the
// session's; what is not taken is copied.
func (s *session) fromClient(p []byte) {
	if s.waits() {
		s.held = append([]byte(nil), p...)
		return
	}
	for !s.ended {
		n, next, err := s.m.FromClient(p, &s.lane.toBackend, &s.lane.toClient)
		s.flush()
		p = p[n:]
		s.next = next
		switch {
		case err != nil:
			s.end(&endError{reason: ReasonProtocolViolation, err: err})
			return
		case next == relay.NeedBackend && s.acquire(p), next == relay.NeedVacancy && s.vacate(), next == relay.NeedPIDs && s.reachOut():
			continue
		case next == relay.Terminated:
			s.terminated()
			return
		}
		break
	}
	if s.ended {
		return
	}
	if len(p) > 0 {
		s.held = append([]byte(nil), p...)
	}
	s.rest()
}

// flush writes what the machine has collected.
func (s *session) flush() {
	sh := s.lane.shard
	if !sh.toBackend.Empty() {
		s.bc.conn.Write(sh.toBackend.Bytes())
		sh.toBackend.Reset()
	}
	if !sh.toClient.Empty() {
		s.toClient(sh.toClient.Bytes())
		sh.toClient.Reset()
	}
}

// toClient writes to the client, if there is one that still listens.
func (s *session) toClient(p []byte) {
	s.deaf = s.deaf || s.leaving && s.client != nil && s.client.Unsent() >= highWater
	if s.client == nil || s.deaf {
		return
	}
	s.lane.traffic.BytesOut += uint64(len(p))
	s.client.Write(p)
}

// fromBackend has the machine understand what the backend has sent.
func (s *session) fromBackend(p []byte) {
	bc := s.bc
	n, err := s.m.FromBackend(p, &s.lane.toBackend, &s.lane.toClient)
	s.flush()
	bc.timeQuestion(s.m.Asking())
	if err != nil {
		s.backendBroken(err)
		return
	}
	bc.hold(p[n:])
	s.afterBackend()
}

// afterBackend does what has become possible with the backend's answer.
func (s *session) afterBackend() {
	if s.ended {
		s.comeBack()
		return
	}
	if wish := s.m.Wish(); wish != relay.WishNothing {
		s.settle()
		s.listen(wish)
		return
	}
	s.rest()
	if s.ended {
		return
	}
	if s.leaving && s.over() && len(s.held) == 0 {
		s.end(&endError{reason: ReasonClientTerminated})
		return
	}
	if s.verdict != nil && s.free() {
		s.end(s.verdict)
		return
	}
	if len(s.held) > 0 && s.next != relay.More && !s.waits() {
		p := s.held
		s.held = nil
		s.fromClient(p)
	}
	s.interest() // the backend that was too full to read the client may be gone
	s.settle()
}

// rest does what is due when the backend owes nothing: it is given back, if it is not the client's for longer.
func (s *session) rest() {
	if s.visitors != nil {
		s.attend()
	}
	if s.bc != nil && s.m.Free() {
		s.endVacancy()
		s.endReach(true)
		if change := s.m.TakeChange(); change != relay.ChangedNothing {
			s.lane.schemaChanged(change)
		}
		if surprise := s.m.TakeSurprise(); surprise != nil {
			s.logSurprise(surprise)
		}
		if s.pooled() && !s.m.Unread() && !s.stay() && s.visitors == nil && !s.m.Fatal() {
			if s.m.Calm(&s.lane.toBackend) || s.prove() {
				s.flush()
				return
			}
			s.giveBack()
		}
	}
	s.settle()
}

// over reports whether a client that has said goodbye is owed nothing more: nothing runs, or what does cannot end without it.
func (s *session) over() bool { return s.bc == nil || s.m.Quiet() || s.m.Stuck() }

// free reports whether the session is between two transactions.
func (s *session) free() bool {
	return !s.waits() && (s.bc == nil || s.m.Quiet() && !s.m.InBlock()) && (len(s.held) == 0 || s.next == relay.More)
}

// endWhenFree ends the session now if it is between two transactions, else as soon as it is. To be called on the loop.
func (s *session) endWhenFree(e *endError) {
	if s.ended {
		return
	}
	if s.free() || s.waits() {
		s.end(e)
		return
	}
	if s.verdict == nil {
		s.verdict = e
	}
}

func count(m *map[string]uint64, key string) {
	if *m == nil {
		*m = make(map[string]uint64)
	}
	(*m)[key]++
}
