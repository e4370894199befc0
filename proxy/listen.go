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

// hear tells the session's client of a notification.
func (s *session) hear(e *ear, n news) {
	switch {
	case s.ended:
	case !n.ascii && !s.understands(e.hub):
		s.listenerLost(errEncoding)
	case s.client.Unsent() > maxUnheard || !s.m.Deliver(n.msg, &s.lane.toClient):
		s.lane.toClient.Reset()
		s.listenerLost(errSlowListener)
	default:
		s.flush()
	}
}

// understands reports whether the client's encoding is the hub's, or Postgres does not translate.
func (s *session) understands(h *hub) bool {
	return s.m.Reported("server_encoding") == "SQL_ASCII" || s.m.Reported("client_encoding") == *h.encoding.Load()
}

// listenerLost ends the session, as soon as that is possible: it may miss something.
func (s *session) listenerLost(err error) {
	e := &endError{reason: ReasonListenerLost, err: err}
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
	if gone := shared.Without(wanted); len(gone) > 0 {
		s.hearing.ear.remove(s, gone)
	}
	added, kept := wanted.Without(shared), sessionstate.NewChannels(shared.Common(wanted))
	if len(added) == 0 {
		s.catchUp(wanted)
		return
	}
	e := s.findEar()
	if e == nil {
		s.settleChannels(kept)
		return
	}
	e.want(added, func(err error) {
		switch {
		case err != nil && !s.ended:
			s.settleChannels(kept)
		case err != nil:
		case s.ended:
			e.unwant(added)
		case e.deaf || !s.understands(e.hub):
			e.unwant(added)
			s.settleChannels(kept)
		default:
			s.mark(e, added)
		}
	})
}

// mark has both sides come to a mark, behind which the hub has the channels that are new.
func (s *session) mark(e *ear, added []string) {
	token := e.mark(func(err error) {
		switch {
		case s.ended:
			e.unwant(added)
		case err != nil:
			s.listenerLost(err)
		default:
			e.add(s, added)
			s.m.Marked(&s.lane.toClient)
			s.resume()
		}
	})
	s.m.Mark(e.hub.marker, token, false, &s.lane.toBackend)
	s.flush()
}

// handBack has the session's backend listen in place of the hub, from a mark on.
func (s *session) handBack(shared *sessionstate.Channels) {
	e := s.hearing.ear
	token := e.mark(func(err error) {
		switch {
		case s.ended:
		case err != nil:
			s.listenerLost(err)
		default:
			e.remove(s, shared.Names())
			s.m.Marked(&s.lane.toClient)
			s.resume()
		}
	})
	s.m.Mark(e.hub.marker, token, true, &s.lane.toBackend)
	s.flush()
}

// catchUp waits until the session has been told what was committed up to now; then the hub has the channels.
func (s *session) catchUp(channels *sessionstate.Channels) {
	if channels == nil {
		s.settleChannels(nil)
		return
	}
	s.hearing.ear.catchUp(func(err error) {
		switch {
		case s.ended:
		case err != nil:
			s.listenerLost(err)
		default:
			s.settleChannels(channels)
		}
	})
}

// settleChannels lets the session go on; the hub has these channels.
func (s *session) settleChannels(shared *sessionstate.Channels) {
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
	if s.hearing != nil {
		s.hearing.ear.remove(s, s.hearing.channels.Names())
	}
}
