package relay

import (
	"strconv"

	"sluice/internal/wire"
)

// A notification carries the pid of the backend that ran NOTIFY, which serves others by the time somebody hears of it. So that those
// who listen for many can tell whose it was, a backend says on a channel of theirs which session speaks from now on: in front of a
// text that may notify, and in front of the first message of the session behind that one, that nobody is known to speak. As Postgres's
// queue has one order for all, what stands behind such a word there is that session's. What code behind a statement notifies is the
// session's that spoke last in the same lease, or nobody's.

// noSpeaker is who speaks where a session has the backend that has notified nobody.
const noSpeaker = 0

// speaker is what a backend has said of who speaks.
type speaker struct {
	pid     uint32 // of the session, as its client knows it; others may know it, or still know an earlier one
	certain bool   // they do: it was said in a transaction of its own
	channel string // on which it was said
}

// speak deals with a message in front of which it may have to be said who speaks: notifies says that it may notify. It may be
// said where nothing of the client's is under way.
func (m *Machine) speak(c *call, notifies bool) {
	channel, said := "", &m.backend.speaker
	if m.p.Speakers != nil {
		channel = m.p.Speakers()
	}
	if channel != said.channel { // nobody heard that, or has forgotten it
		*said = speaker{channel: channel}
	}
	pid := uint32(noSpeaker)
	if notifies {
		pid = m.pid
	}
	switch {
	case channel == "", m.status == 'E', m.open, m.readies > 0:
		return
	case !notifies && (said.pid == m.pid || said.pid == noSpeaker), notifies && said.pid == m.pid && (said.certain || m.spoken):
		return
	}
	said.pid, said.certain = pid, m.status == 'I'
	sql := "NOTIFY " + channel + ", '" + strconv.FormatUint(uint64(pid), 10) + "'"
	if m.status == 'I' || c.typ == wire.Query {
		c.toBackend.set(m.appendQuery(c.toBackend.own(), sql, attempt))
	} else {
		c.toBackend.set(m.appendAside(c.toBackend.own(), sql))
	}
	m.spoken = true
}

// appendAside injects a command into a block, on a portal of its own: a simple query would end the unnamed one, for which the client may
// still have use. The unnamed statement is used.
func (m *Machine) appendAside(b []byte, sql string) []byte {
	m.backend.Unnamed = nil
	b = m.appendOwnParse(b, "", sql, noTypes, attempt)
	return m.appendCarrySync(m.appendRunAside(b, "", attempt))
}

// spokenOf reports whether others may know who speaks on the backend, and it is not this session.
func (m *Machine) spokenOf() bool {
	return m.backend.speaker.pid != noSpeaker && m.backend.speaker.pid != m.pid
}

// Spoke reports whether the backend has said on that channel who speaks.
func (b *Backend) Spoke(channel string) bool { return b.speaker.channel == channel && channel != "" }
