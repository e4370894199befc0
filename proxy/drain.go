package proxy

import (
	"context"
	"time"
)

// drainEvery is how often a drain looks whether it is done.
const drainEvery = 20 * time.Millisecond

// Shutdown drains the server: new clients are refused with 57P03, sessions end between two transactions, with 57P01; then
// listeners and backends are closed. Until then cancel requests are honoured. It blocks until that is done, or ctx is: then
// what is left is ended at once, and ctx's cause returned.
func (s *Server) Shutdown(ctx context.Context) error {
	if !s.beginDrain() {
		return ErrServerClosed
	}
	for _, sh := range s.shards {
		sh.loop.Post(sh.endFreeSessions)
	}
	err := s.await(ctx, func() bool { return s.clients() == 0 })
	s.finish()
	return err
}

// Close ends the server at once: what runs is cancelled, clients are told what may be lost.
func (s *Server) Close() error {
	s.beginDrain()
	s.finish()
	return nil
}

// beginDrain reports false if somebody has done so before.
func (s *Server) beginDrain() bool {
	s.mu.Lock() // not in the middle of a reload
	defer s.mu.Unlock()
	return !s.draining.Swap(true)
}

// endFreeSessions has all sessions of the shard end at their next free moment.
func (sh *shard) endFreeSessions() {
	for s := range sh.sessions.All() {
		s.endWhenFree(&endError{reason: ReasonShutdown})
	}
}

// await waits until cond holds.
func (s *Server) await(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// finish ends what is left: sessions, backends, loops, and everything that runs in the background.
func (s *Server) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	for _, ln := range s.listeners {
		ln.close()
	}
	s.cancel() // logins under way, too
	for _, sh := range s.shards {
		sh.loop.Do(sh.endAllSessions)
	}
	st := s.state.Load() // nil: New has failed
	if st != nil {
		for _, ts := range st.tenants {
			ts.retireHubs(nil)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.await(ctx, s.poolsEmpty)
	last, stop := context.WithTimeout(context.Background(), lastCalls)
	defer stop()
	_ = s.await(last, s.allTold)
	for _, sh := range s.shards { // all, before any is waited for: connections may have moved
		sh.loop.Stop()
	}
	for _, sh := range s.shards {
		sh.done.Wait()
	}
	if st != nil {
		for _, ts := range st.tenants {
			if ts.svc != nil {
				ts.svc.close()
			}
		}
	}
	s.workers.Wait()
	if st != nil {
		s.writeBans()
		s.writeHistory()
	}
	s.audit.use(nil)
	close(s.closed)
}

// endAllSessions ends all sessions of the shard, wherever they are, and closes its pools.
func (sh *shard) endAllSessions() {
	for s := range sh.sessions.All() {
		s.endNow()
	}
	for l := range sh.lanes {
		l.pool.Close(func() {})
	}
}

// endNow ends the session in the middle of whatever it does, and tells the client what may be lost.
func (s *session) endNow() {
	e := &endError{reason: ReasonShutdown}
	if s.bc != nil && !s.m.Quiet() {
		e.detail = "A statement was under way; it is cancelled, and whether it took effect is unknown."
	}
	s.end(e)
	if s.bc != nil {
		s.giveUp()
	}
}

// allTold reports whether clients have been sent all that they are told.
func (s *Server) allTold() bool {
	unsent := 0
	for _, sh := range s.shards {
		sh.loop.Do(func() { unsent += sh.loop.Unsent() })
	}
	return unsent == 0
}

// poolsEmpty reports whether no backend is left.
func (s *Server) poolsEmpty() bool {
	left := 0
	for _, sh := range s.shards {
		sh.loop.Do(func() {
			for l := range sh.lanes {
				st := l.pool.Stats()
				left += st.Idle + st.Active + st.Login + st.Closing
			}
		})
	}
	return left == 0
}

// remove ends what is left of a tenant that a reload has removed.
func (t *tenant) remove() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, l := range t.all() {
		l.loop.Post(func() { l.pool.Close(func() {}) })
	}
}

// databaseMoved is what clients are told whose database is not the one any more that they logged in to.
const databaseMoved = "the database of this connection is another one now"

// drop forgets a lane whose database clients now call something else: its sessions end at their next free moment.
func (t *tenant) drop(l *lane) {
	t.mu.Lock()
	t.removePart(l)
	t.mu.Unlock()
	l.loop.Post(func() {
		l.dropped = true
		for s := range l.sessions.All() {
			if s.lane == l {
				s.endWhenFree(&endError{reason: ReasonPolicyRevoked, message: databaseMoved})
			}
		}
		l.pool.Close(func() {})
	})
}
