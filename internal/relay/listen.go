package relay

import (
	"encoding/binary"
	"strings"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// A session that listens needs no backend for it: others, who listen for many, deliver what it is to hear. While it has a
// backend, that listens to the same channels, so that LISTEN, UNLISTEN and pg_listening_channels() mean what they mean on a
// direct connection; what it delivers of these is dropped, as the others have it too.
//
// What changes hands does so at a mark, a notification on a channel of its own that the backend sends to both: what stands
// before it in Postgres's queue comes from one side, what stands behind it from the other. Until then the client's
// ReadyForQuery is held back.

// maxPending bounds what waits for a client that is in a transaction.
const maxPending = 1 << 20 // 1 MiB

// pinListen is why a session keeps its backend that listens to what nobody else delivers, or may do so; pinUnlisten, that it
// may do so no more. They are the words of the signals.
const (
	pinListen   = "listen"
	pinUnlisten = "unlisten"
)

// channelsText is the part of askText that tells of channels.
const channelsText = `SELECT 'l', c, NULL, NULL FROM pg_catalog.pg_listening_channels() c`

// Wish is what a machine that holds the client's ReadyForQuery back wants to be done.
type Wish uint8

// The wishes.
const (
	WishNothing  Wish = iota
	WishCaughtUp      // when all that has been committed till now has been passed to Deliver: Settle
	WishShare         // what Listening says is to be delivered by others: Mark, or Settle if nothing is new or it cannot be
	WishReturn        // nothing is to be delivered by others any more: Mark
)

// hold is what the client's next messages, and its ReadyForQuery if that has come, wait for.
type hold uint8

const (
	holdNothing hold = iota
	holdAnswer       // to the question what the session holds
	holdWish         // for the wish to come true: what it listens to changes hands
	holdNews         // for what others have to deliver of what was committed before
)

// listening is what a machine knows of a session that listens, kept from its first LISTEN on.
type listening struct {
	shared *sessionstate.Channels // what others deliver
	wanted *sessionstate.Channels // what it listens to, by Postgres's last answer

	pending [][]byte // delivered by others while the client could not be told
	late    [][]byte // delivered by the backend behind the mark of a return
	size    int      // of both
	own     int      // notifications of its own on shared channels that others are to deliver yet

	hold   hold
	wish   Wish
	ready  bool   // a ReadyForQuery is held back
	back   bool   // the mark is that of a return
	mark   string // channel of the mark; empty: there is none
	passed bool   // the backend has delivered the mark
	marks  int    // sides that have not come to it
}

// Identify says which pid the client was given, in place of its backend's.
func (m *Machine) Identify(pid uint32) { m.pid = pid }

// Listens reports whether the session listens to anything.
func (m *Machine) Listens() bool {
	return m.listen != nil && (m.listen.shared != nil || m.listen.wanted != nil)
}

// Listening returns what others are taken to deliver, and what the session listens to.
func (m *Machine) Listening() (shared, wanted *sessionstate.Channels) {
	if m.listen == nil {
		return nil, nil
	}
	return m.listen.shared, m.listen.wanted
}

// Wish returns what is to be done now, once.
func (m *Machine) Wish() Wish {
	if m.listen == nil || m.cancelling && m.listen.wish != WishCaughtUp { // a mark might be hit
		return WishNothing
	}
	wish := m.listen.wish
	m.listen.wish = WishNothing
	return wish
}

// Mark has the backend mark on a channel where what it delivers ends and what others deliver begins, for WishShare, or the
// reverse, for WishReturn. Marked is to be called when the others come to it; what they have from there on is passed to
// Deliver, for WishReturn what they have up to there. The rest settles itself.
func (m *Machine) Mark(channel, token string, back bool, toBackend *Out) {
	l := m.listen
	l.mark, l.back, l.passed, l.marks = channel, back, false, 2
	name := sessionstate.QuoteIdentifier(channel)
	b := m.appendQuery(toBackend.own(), "LISTEN "+name+"; NOTIFY "+name+", '"+token+"'", carry)
	toBackend.set(m.appendQuery(b, "UNLISTEN "+name, marking))
}

// Marked says that the others have come to the mark.
func (m *Machine) Marked(toClient *Out) { m.marked(toClient) }

// marked takes note that one side has come to the mark.
func (m *Machine) marked(toClient *Out) {
	l := m.listen
	if l == nil || l.mark == "" {
		return
	}
	if l.marks--; l.marks > 0 {
		return
	}
	shared := l.wanted
	if l.back {
		shared = nil
	}
	m.Settle(shared, toClient)
}

// Settle says what others deliver from now on, and lets the client go on. What of its channels they do not deliver keeps the
// session on its backend.
func (m *Machine) Settle(shared *sessionstate.Channels, toClient *Out) {
	l := m.listen
	l.shared, l.mark, l.passed = shared, "", false
	if m.pin == pinListen && !m.forever && l.wanted.Equal(shared) {
		m.unpin()
	}
	m.release(toClient)
}

// release ends the hold: the client is told what has waited, then that it may go on.
func (m *Machine) release(toClient *Out) {
	l := m.listen
	l.hold, l.wish = holdNothing, WishNothing
	for i := len(l.pending) - 1; i >= 0 && l.own > 0 && m.backend != nil; i-- { // the session's own are the last of its backend
		if pid, _, ok := readNotification(l.pending[i]); ok && (pid == m.backend.PID || pid == m.pid) {
			l.pending[i] = renumber(nil, l.pending[i], m.pid)
			l.own--
		}
	}
	l.own = 0
	m.flushPending(toClient)
	if l.ready {
		l.ready = false
		toClient.set(append(wire.AppendHeader(toClient.own(), wire.ReadyForQuery, 1), 'I'))
	}
}

// Deliver passes a NotificationResponse on to the client, now, or if it is in a transaction behind that. The machine may
// keep msg. It reports false if too much waits already.
func (m *Machine) Deliver(msg []byte, toClient *Out) (ok bool) {
	l := m.listen
	if l == nil {
		return true
	}
	if m.atEase() {
		toClient.set(append(toClient.own(), msg...))
		return true
	}
	l.pending = append(l.pending, msg)
	l.size += len(msg)
	return l.size <= maxPending
}

// atEase reports whether a notification may reach the client now: it waits for nothing, and is in no transaction.
func (m *Machine) atEase() bool {
	return !m.holding() && (m.backend == nil ||
		m.q.own() && !m.InBlock() && !m.unused && !m.skipping && !m.copyIn && m.pass == 0 && m.Boundary())
}

// flushPending tells the client what has waited for the end of its transaction.
func (m *Machine) flushPending(toClient *Out) {
	l := m.listen
	if l == nil || l.size == 0 {
		return
	}
	b := toClient.own()
	for _, msg := range l.pending {
		b = append(b, msg...)
	}
	for _, msg := range l.late {
		b = append(b, msg...)
	}
	toClient.set(b)
	l.pending, l.late, l.size = nil, nil, 0
}

// holding reports whether the client has to wait.
func (m *Machine) holding() bool { return m.listen != nil && m.listen.hold != holdNothing }

// Settling reports whether the client has to wait until what it listens to has changed hands, or it is caught up.
func (m *Machine) Settling() bool { return m.holding() }

// MissNews lets the client go on, and reports that, if it waits for nothing but what others have to deliver: they will not.
func (m *Machine) MissNews(toClient *Out) bool {
	if m.listen == nil || m.listen.hold != holdNews {
		return false
	}
	m.release(toClient)
	return true
}

// stopHolding is for a client that is gone.
func (m *Machine) stopHolding() {
	if m.listen != nil {
		m.listen.hold, m.listen.wish, m.listen.mark = holdNothing, WishNothing, ""
	}
}

// mayListen takes note that what the session listens to, by the signals of a text or tag, or something else may change in its
// transaction.
func (m *Machine) mayListen(s sessionstate.Signals) {
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	const channels = sessionstate.Listen | sessionstate.Unlisten
	m.doubt.listens = m.doubt.listens || s&(channels|sessionstate.Discard) != 0
	m.doubt.more = m.doubt.more || !s.Within(channels)
}

// brief reports whether nothing but LISTEN and UNLISTEN were there: then channels alone are asked about.
func (m *Machine) brief() bool {
	return m.doubt.listens && !m.doubt.more && !m.behind && (m.pin == pinListen || m.pin == pinUnlisten)
}

// askChannels is question where that is brief: it takes but a moment.
func (m *Machine) askChannels(toBackend *Out) {
	toBackend.set(m.appendQuery(toBackend.own(), channelsText, question))
}

// mayShare reports whether others may deliver what the session listens to.
func (m *Machine) mayShare() bool { return !m.raw && m.p.Shared != nil && *m.p.Shared }

// lags reports whether others have, or may have, to deliver what was committed before now: Postgres tells a client of that
// in front of its ReadyForQuery.
func (l *listening) lags() bool { return l != nil && (l.own > 0 || l.shared != nil) }

// oneByOne reports whether the client's next message has to wait for a ReadyForQuery: others may have news to deliver in front of it,
// for which it cannot be held when the next transaction is under way.
func (m *Machine) oneByOne() bool {
	return m.listen != nil && m.listen.shared != nil && m.readies > 0 && !m.copyIn
}

// holdReady is asked about the client's ReadyForQuery at the end of a transaction, with nothing outstanding. It reports
// whether that is to be held back: what the session listens to has to be asked, or others may have news for it. Where Postgres can
// only be asked later, the backend stays, and delivers what is new.
func (m *Machine) holdReady() bool {
	l := m.listen
	switch {
	case m.ask && !m.unread && m.mayShare() && (l.lags() || m.doubt != nil && m.doubt.listens):
		if l == nil {
			l = &listening{}
			m.listen = l
		}
		l.hold = holdAnswer
	case l == nil:
		return false
	case m.raw && l.shared != nil: // its backend is its own from now on, and listens
		l.hold, l.wish = holdWish, WishReturn
	case l.lags():
		l.hold, l.wish = holdNews, WishCaughtUp
	default:
		return false
	}
	l.ready = true
	return true
}

// hears takes note of what the session listens to. It reports whether its backend delivers that, or something of it.
func (m *Machine) hears(channels []string) bool {
	heard := sessionstate.NewChannels(channels)
	m.backend.channels = heard
	if m.listen == nil {
		if heard == nil {
			return false
		}
		m.listen = &listening{}
	}
	l := m.listen
	l.wanted = heard
	switch {
	case heard.Equal(l.shared):
		return false
	case !m.mayShare():
	case m.q.len() > 0: // the next transaction is under way
		m.doubt.listens, m.doubt.more, m.ask = true, true, true
	default:
		l.hold, l.wish = holdWish, WishShare
	}
	return true
}

// goOn lets the client go on when the question has been answered and nothing is to be done, or when only news is missing.
func (m *Machine) goOn(toClient *Out) {
	l := m.listen
	switch {
	case l == nil || l.hold != holdAnswer:
	case l.lags():
		l.hold, l.wish = holdNews, WishCaughtUp
	default:
		m.release(toClient)
	}
}

// retune has the backend that has just been attached listen to what the session does, and to nothing else.
func (m *Machine) retune(toBackend *Out) {
	b := m.backend
	var want *sessionstate.Channels
	if m.listen != nil {
		want = m.listen.shared
	}
	if b.channels.Equal(want) {
		return
	}
	var sql strings.Builder
	sql.WriteString("UNLISTEN *")
	for _, name := range want.Names() {
		sql.WriteString("; LISTEN " + sessionstate.QuoteIdentifier(name))
	}
	b.channels, b.untuned = want, true
	toBackend.set(m.appendQuery(toBackend.own(), sql.String(), tuning))
}

// notification deals with one that the backend delivers.
func (m *Machine) notification(msg []byte, whole bool, toClient *Out) (drop bool) {
	if m.gone || m.p.Raw {
		return m.gone
	}
	if m.backend.untuned {
		return true // for somebody else
	}
	pid, channel, ok := readNotification(msg)
	if !whole || !ok {
		return false
	}
	own := pid == m.backend.PID && pid != 0
	if l := m.listen; l != nil {
		switch {
		case l.mark != "" && string(channel) == l.mark:
			l.passed = true
			return true
		case l.passed && l.back:
			l.late = append(l.late, m.ownNumber(nil, msg, own))
			l.size += len(msg)
			return true
		case l.shared.Has(channel) || l.passed:
			if own {
				l.own++
			}
			return true
		}
	}
	toClient.set(m.ownNumber(toClient.own(), msg, own))
	return true
}

// ownNumber appends the notification, with the client's pid if it is its own.
func (m *Machine) ownNumber(dst, msg []byte, own bool) []byte {
	if !own || m.pid == 0 {
		return append(dst, msg...)
	}
	return renumber(dst, msg, m.pid)
}

// readNotification reads the beginning of a NotificationResponse.
func readNotification(msg []byte) (pid uint32, channel []byte, ok bool) {
	if len(msg) < wire.HeaderLen+4 {
		return 0, nil, false
	}
	channel, _, ok = wire.CString(msg[wire.HeaderLen+4:])
	return binary.BigEndian.Uint32(msg[wire.HeaderLen:]), channel, ok
}

// renumber appends the NotificationResponse msg as if it came from another process.
func renumber(dst, msg []byte, pid uint32) []byte {
	dst = append(dst, msg[:wire.HeaderLen]...)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, msg[wire.HeaderLen+4:]...)
}
