package proxy

import (
	"math/rand/v2"
	"slices"
	"strconv"

	"sluice/internal/sessionstate"
)

// ear is a hub's part on one loop: the sessions there that listen. It is touched on that loop only.
type ear struct {
	hub   *hub
	shard *shard

	sessions map[string]map[*session]struct{} // by channel
	marks    map[uint64]func(err error)       // of hand-overs that are under way, by token
	deaf     bool                             // the hub's connection was lost

	news []news // for the loop; touched on the hub's
}

// news is what the hub tells an ear: a notification, a mark, or an answer.
type news struct {
	channel string
	msg     []byte // NotificationResponse
	ascii   bool

	token uint64
	done  func(err error)
}

// findEar returns what hears for the session, made if there is none; nil if nothing can.
func (s *session) findEar() *ear {
	if s.hearing != nil {
		return s.hearing.ear
	}
	h := s.hub()
	if h == nil {
		return nil
	}
	e := s.lane.ears[h]
	if e == nil {
		e = &ear{hub: h, shard: s.lane.shard, sessions: make(map[string]map[*session]struct{}), marks: make(map[uint64]func(error))}
		s.lane.ears[h] = e
	}
	return e
}

// post has f called on the ear's loop.
func (e *ear) post(f func()) { e.shard.loop.Post(f) }

// want has the hub listen to the channels; done is called when it does, or why it does not: then nothing is to be taken back.
func (e *ear) want(channels []string, done func(err error)) {
	e.hub.lane.loop.Post(func() { e.hub.want(request{e, channels, done}) })
}

// unwant takes want back.
func (e *ear) unwant(channels []string) {
	if len(channels) > 0 {
		e.hub.lane.loop.Post(func() { e.hub.unwant(e, channels) })
	}
}

// catchUp has done called when all has been heard that was committed before.
func (e *ear) catchUp(done func(err error)) {
	e.hub.lane.loop.Post(func() { e.hub.catchUp(request{ear: e, done: done}) })
}

// mark returns the token of a new mark; done is called when the hub has come to it, or why it will not.
func (e *ear) mark(done func(err error)) (token string) {
	n := rand.Uint64()
	e.marks[n] = done
	return strconv.FormatUint(n, 10)
}

// hearing is what a session hears of a hub.
type hearing struct {
	ear      *ear
	channels *sessionstate.Channels
}

// add has the session told what comes on the channels, for which want has been answered.
func (e *ear) add(s *session, channels []string) {
	if s.hearing == nil {
		s.hearing = &hearing{ear: e}
	}
	s.hearing.channels = sessionstate.NewChannels(slices.Concat(channels, s.hearing.channels.Names()))
	for _, name := range channels {
		of := e.sessions[name]
		if of == nil {
			of = make(map[*session]struct{})
			e.sessions[name] = of
		}
		of[s] = struct{}{}
	}
}

// remove takes add, and want, back.
func (e *ear) remove(s *session, channels []string) {
	s.hearing.channels = sessionstate.NewChannels(s.hearing.channels.Without(sessionstate.NewChannels(channels)))
	if s.hearing.channels == nil {
		s.hearing = nil
	}
	for _, name := range channels {
		delete(e.sessions[name], s)
		if len(e.sessions[name]) == 0 {
			delete(e.sessions, name)
		}
	}
	e.unwant(channels)
}

// hear takes what the hub has to tell, in its order.
func (e *ear) hear(all []news) {
	for _, n := range all {
		switch {
		case n.msg != nil:
			for s := range e.sessions[n.channel] {
				s.hear(e, n)
			}
		case n.done != nil:
			n.done(nil)
		default:
			if done := e.marks[n.token]; done != nil {
				delete(e.marks, n.token)
				done(nil)
			}
		}
	}
}

// lost tells all who listen that they may miss something from now on.
func (e *ear) lost(err error) {
	e.deaf = true
	delete(e.shard.ears, e.hub)
	marks := e.marks
	e.marks = nil
	for _, done := range marks {
		done(err)
	}
	listening := make(map[*session]struct{})
	for _, of := range e.sessions {
		for s := range of {
			listening[s] = struct{}{}
		}
	}
	for s := range listening {
		s.listenerLost(err)
	}
}

func isASCII(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
