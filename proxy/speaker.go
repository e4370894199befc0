package proxy

import (
	"encoding/binary"
	"slices"
	"strconv"
	"sync/atomic"

	"sluice/internal/wire"
)

// The hub of a database hears, on a channel of its own, which session speaks on a backend from now on, and tells those who listen
// that session's pid in place of the backend's: see relay/speaker.go. A backend of which nothing was said speaks for itself.

// speaking returns where the channel stands on which the backends of a database say who speaks: nil or empty while nobody listens.
// The tenant is locked.
func (t *tenant) speaking(database string) *atomic.Pointer[string] {
	p := t.speakers[database]
	if p == nil {
		p = new(atomic.Pointer[string])
		t.speakers[database] = p
	}
	return p
}

// forgetSpeaking forgets that of a database without a pool or a hub, which need not even exist. The tenant is locked.
func (t *tenant) forgetSpeaking(database string) {
	if t.hubs[database] != nil {
		return
	}
	for _, ps := range t.pools {
		if slices.ContainsFunc(ps.lanes, func(l *lane) bool { return l.code == database }) {
			return
		}
	}
	delete(t.speakers, database)
}

// speakers returns that channel, empty while nobody listens.
func (l *lane) speakers() string {
	if channel := l.speaking.Load(); channel != nil {
		return *channel
	}
	return ""
}

// heedSpeakers is called when the hub listens to who speaks, or does so no more.
func (h *hub) heedSpeakers(channel string) {
	h.speaking.Store(&channel)
	if channel == "" {
		clear(h.speakers)
	}
}

// spoke takes what a backend has said of who speaks.
func (h *hub) spoke(msg []byte, payload string) {
	pid := binary.BigEndian.Uint32(msg[wire.HeaderLen:])
	switch speaker, err := strconv.ParseUint(payload, 10, 32); {
	case err != nil || speaker == 0:
		delete(h.speakers, pid)
	default:
		h.speakers[pid] = uint32(speaker)
	}
}

// attribute puts the pid of the session into a notification that one is known to have sent.
func (h *hub) attribute(msg []byte) {
	if speaker, known := h.speakers[binary.BigEndian.Uint32(msg[wire.HeaderLen:])]; known {
		binary.BigEndian.PutUint32(msg[wire.HeaderLen:], speaker)
	}
}

// fallsSilent has the hub forget who spoke on a backend that has ended: another process may get its pid.
func (bc *backendConn) fallsSilent() {
	channel := bc.lane.speakers()
	if !bc.set.Spoke(channel) {
		return
	}
	t := bc.lane.tenant
	t.mu.Lock()
	h := t.hubs[bc.lane.code]
	t.mu.Unlock()
	if h != nil {
		h.lane.loop.Post(func() { delete(h.speakers, bc.b.Conn.PID) })
	}
}
