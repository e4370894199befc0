package proxy

import (
	"errors"

	"sluice/internal/relay"
	"sluice/internal/sessionstate"
)

// maxUnheard is how much of what it is sent a client may leave unread while notifications come.
const maxUnheard = 1 << 20 // 1 MiB

var (
	errSlowListener = errors.New("the client is in a transaction, or does not read, while too many notifications come")
	errEncoding     = errors.New("a notification cannot be said in the client_encoding that the client has set since its LISTEN")
)

// hear tells the session's client of notifications, in one write.
func (s *session) hear(from *hub, all []news) {
	for _, n := range all {
		switch {
		case s.ended:
			return
		case !n.ascii && !s.understands(from):
			s.flush()
			s.listenerLost(errEncoding)
			return
		case s.client.Unsent() > maxUnheard || !s.m.Deliver(n.msg, &s.lane.toClient):
			s.flush()
			s.listenerLost(errSlowListener)
			return
		}
	}
	s.flush()
}

// understands reports whether the client's encoding is the hub's, or Postgres does not translate.
func (s *session) understands(h *hub) bool {
	return s.m.Reported("server_encoding") == "SQL_ASCII" || s.m.Reported("client_encoding") == *h.encoding.Load()
}

// listenerLost ends the session, as soon as that is possible: it may miss something. A transaction that is over but for that
// ends first.
func (s *session) listenerLost(err error) {
	e := &endError{reason: ReasonListenerLost, err: err}
	if s.m.MissNews(&s.lane.toClient) {
		s.resume()
	}
	if s.m.Settling() {
		s.end(e)
		return
	}
	s.endWhenFree(e)
}

// listen does what the machine wants done about what the session listens to.
func (s *session) listen(wish relay.Wish) {
	shared, wanted := s.m.Listening()
	switch wish {
	case relay.WishCaughtUp:
		s.catchUp(shared)
	case relay.WishReturn:
		s.handBack(shared)
	case relay.WishShare:
		s.handOver(shared, wanted)
	}
}

// handOver has the hub listen to what the session does.
func (s *session) handOver(shared, wanted *sessionstate.Channels) {
	h := s.hearing
	if gone := shared.Without(wanted); len(gone) > 0 {
		h.atEar(s, func() { h.ear.remove(s, h, gone) })
	}
	added, kept := wanted.Without(shared), sessionstate.NewChannels(shared.Common(wanted))
	if len(added) == 0 {
		s.catchUp(wanted)
		return
	}
	if h == nil {
		e := s.findEar()
		if e == nil {
			s.settleChannels(kept)
			return
		}
		h = &hearing{ear: e}
		s.hearing = h
	}
	h.ear.want(added, func(err error) {
		if err == nil && h.ear.deaf != nil {
			h.ear.unwant(added)
			err = h.ear.deaf
		}
		h.reach(s, func() { s.wanted(added, kept, err) })
	})
}

// wanted goes on with a hand-over: the hub listens to what is new, or does not. The hub has the kept channels already.
func (s *session) wanted(added []string, kept *sessionstate.Channels, err error) {
	h := s.hearing
	switch {
	case s.ended && err == nil:
		h.ear.unwant(added)
	case s.ended:
	case err != nil:
		s.settleChannels(kept)
	case !s.understands(h.ear.hub):
		h.ear.unwant(added)
		s.settleChannels(kept)
	default:
		s.mark(added)
	}
}

// mark has both sides come to a mark, behind which the hub has the channels that are new.
func (s *session) mark(added []string) {
	h := s.hearing
	s.comeToMark(false, func(err error) {
		if err == nil {
			h.ear.add(s, h, added)
		}
		h.reach(s, func() {
			switch {
			case s.ended && err == nil:
				h.atEar(s, func() { h.ear.remove(s, h, added) })
			case s.ended:
			case err != nil:
				s.listenerLost(err)
			default:
				s.m.Marked(&s.lane.toClient)
				s.resume()
			}
		})
	})
}

// handBack has the session's backend listen in place of the hub, from a mark on.
func (s *session) handBack(shared *sessionstate.Channels) {
	h := s.hearing
	s.comeToMark(true, func(err error) {
		if err == nil {
			h.ear.remove(s, h, h.channels.Common(shared)) // nothing, if the session has ended
		}
		h.reach(s, func() {
			switch {
			case s.ended:
			case err != nil:
				s.listenerLost(err)
			default:
				s.hearing = nil
				s.m.Marked(&s.lane.toClient)
				s.resume()
			}
		})
	})
}

// comeToMark has the backend send a mark. there is called on the ear's loop when the hub has come to it, or why it will not.
func (s *session) comeToMark(back bool, there func(err error)) {
	h := s.hearing
	token, payload := newToken()
	h.atEar(s, func() { h.ear.mark(token, there) })
	if s.ended {
		return
	}
	s.m.Mark(h.ear.hub.marker, payload, back, &s.lane.toBackend)
	s.flush()
}

// catchUp waits until the session has been told what was committed up to now; then the hub has the channels.
func (s *session) catchUp(channels *sessionstate.Channels) {
	h := s.hearing
	if channels == nil {
		s.settleChannels(nil)
		return
	}
	h.ear.catchUp(func(err error) {
		h.reach(s, func() {
			switch {
			case s.ended:
			case err != nil:
				s.listenerLost(err)
			default:
				s.settleChannels(channels)
			}
		})
	})
}

// settleChannels lets the session go on; the hub has these channels.
func (s *session) settleChannels(shared *sessionstate.Channels) {
	if shared == nil {
		s.hearing = nil
	}
	s.m.Settle(shared, &s.lane.toClient)
	s.resume()
}

// resume does what has become possible.
func (s *session) resume() {
	s.m.CodeKnown(&s.lane.toBackend)
	s.flush()
	s.afterBackend()
}

// hearNoMore is for a session that has ended.
func (s *session) hearNoMore() {
	if h := s.hearing; h != nil {
		h.atEar(s, func() { h.ear.remove(s, h, h.channels.Names()) })
	}
}
