package proxy

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"sluice/internal/sessionstate"
)

// ear is a hub's part on one loop, for the sessions that began to listen there. It is touched on that loop only.
type ear struct {
	hub   *hub
	shard *shard

	sessions map[string]map[*session]*hearing // by channel
	marks    map[uint64]func(err error)       // of hand-overs that are under way, by token
	deaf     error                            // why it hears nothing any more

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

// hearing is what a session hears with an ear. A session that has moved to another loop keeps its ear, and is reached by post.
type hearing struct {
	ear *ear

	// Touched on the ear's loop only.
	channels *sessionstate.Channels
	away     bool // the session has left the loop, once

	mu    sync.Mutex // guards below
	inbox []news     // for a session that is away
}

// findEar returns what hears for the session, made if there is none; nil if nothing can.
func (s *session) findEar() *ear {
	h := s.hub()
	if h == nil {
		return nil
	}
	e := s.lane.ears[h]
	if e == nil {
		e = &ear{hub: h, shard: s.lane.shard, sessions: make(map[string]map[*session]*hearing), marks: make(map[uint64]func(error))}
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

// newToken returns the token of a new mark, and the payload that says it.
func newToken() (n uint64, payload string) {
	n = rand.Uint64()
	return n, strconv.FormatUint(n, 10)
}

// mark has done called when the hub has come to the mark with this token, or why it will not.
func (e *ear) mark(token uint64, done func(err error)) {
	if e.deaf != nil {
		done(e.deaf)
		return
	}
	e.marks[token] = done
}

// add has the session told what comes on the channels, for which want has been answered.
func (e *ear) add(s *session, h *hearing, channels []string) {
	h.channels = sessionstate.NewChannels(slices.Concat(channels, h.channels.Names()))
	for _, name := range channels {
		of := e.sessions[name]
		if of == nil {
			of = make(map[*session]*hearing)
			e.sessions[name] = of
		}
		of[s] = h
	}
}

// remove takes add, and want, back.
func (e *ear) remove(s *session, h *hearing, channels []string) {
	h.channels = sessionstate.NewChannels(h.channels.Without(sessionstate.NewChannels(channels)))
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
	for len(all) > 0 {
		run := slices.IndexFunc(all, func(n news) bool { return n.msg == nil })
		if run < 0 {
			run = len(all)
		}
		e.pass(all[:run])
		if all = all[run:]; len(all) == 0 {
			return
		}
		n := all[0]
		all = all[1:]
		switch {
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

// pass tells the sessions of notifications, each of those that it wants at once, as Postgres does.
func (e *ear) pass(all []news) {
	if len(all) == 1 {
		for s, h := range e.sessions[all[0].channel] {
			h.pass(s, all)
		}
		return
	}
	of := make(map[*session][]news)
	for _, n := range all {
		for s := range e.sessions[n.channel] {
			of[s] = append(of[s], n)
		}
	}
	for _, n := range all {
		for s, h := range e.sessions[n.channel] {
			if wanted := of[s]; wanted != nil {
				delete(of, s)
				h.pass(s, wanted)
			}
		}
	}
}

// lost tells all who listen that they may miss something from now on.
func (e *ear) lost(err error) {
	e.deaf = err
	delete(e.shard.ears, e.hub)
	for _, done := range e.marks {
		done(err)
	}
	e.marks = nil
	listening := make(map[*session]*hearing)
	for _, of := range e.sessions {
		for s, h := range of {
			listening[s] = h
		}
	}
	for s, h := range listening {
		h.reach(s, func() { s.listenerLost(err) })
	}
}

// pass tells the session of notifications. To be called on the ear's loop.
func (h *hearing) pass(s *session, all []news) {
	if !h.away {
		s.hear(h.ear.hub, all)
		return
	}
	h.mu.Lock()
	first := len(h.inbox) == 0
	h.inbox = append(h.inbox, all...)
	h.mu.Unlock()
	if first {
		h.reach(s, func() {})
	}
}

// reach has f called where the session is, behind all that was passed to it before. To be called on the ear's loop.
func (h *hearing) reach(s *session, f func()) {
	if !h.away {
		f()
		return
	}
	h.ear.shard.srv.cancels.post(s, func() {
		h.mu.Lock()
		inbox := h.inbox
		h.inbox = nil
		h.mu.Unlock()
		s.hear(h.ear.hub, inbox)
		f()
	})
}

// atEar has f called on the ear's loop, now if the session is there. To be called where the session is.
func (h *hearing) atEar(s *session, f func()) {
	if s.lane.shard == h.ear.shard {
		f()
		return
	}
	h.ear.post(f)
}

// depart is called when the session is about to leave its loop.
func (h *hearing) depart(s *session) {
	if s.lane.shard == h.ear.shard {
		h.away = true
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
