package relay

import (
	"encoding/binary"
	"strings"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// FromClient takes the client's bytes p, whole messages or not, and adds to toBackend and toClient what is to be sent. It
// takes n bytes; the caller keeps the rest and passes it again, with more behind it, as next demands. With the rest of p
// shorter than a message that must be whole, the caller may have to hold up to 1 MiB. Pids in p may be overwritten, see MaxPID.
//
// Errors: ErrClient, wrapped; the session is over.
func (m *Machine) FromClient(p []byte, toBackend, toClient *Out) (n int, next Next, err error) {
	m.batchAt = 0
	for n < len(p) {
		if m.pass == 0 && (m.await || m.cancelling && !m.p.Raw || m.holding() || m.oneByOne() || m.leading > 0 && m.q.last().kind == wire.Sync) {
			return n, Blocked, nil
		}
		if m.pass > 0 {
			k := min(int(m.pass), len(p)-n)
			if !m.passDrop {
				toBackend.forward(p[n : n+k])
			}
			m.pass -= int32(k)
			n += k
			continue
		}
		typ, body, ok, err := wire.Header(p[n:])
		if err == nil && ok {
			err = wire.CheckFrontend(typ, body)
		}
		switch {
		case err != nil:
			return n, More, clientError("%w", err)
		case !ok:
			return n, More, nil
		case typ == wire.Terminate:
			return n, Terminated, nil
		}
		total := wire.HeaderLen + body
		msg := p[n:min(len(p), n+total)]
		if m.refusing {
			m.refuse(typ, toClient)
			n += len(msg)
			m.pass, m.passDrop = int32(total-len(msg)), true
			continue
		}
		if m.backend == nil {
			next, drop := m.alone(typ, msg, total, toClient)
			if !drop {
				return n, next, nil
			}
			n += len(msg)
			m.pass, m.passDrop = int32(total-len(msg)), true
			continue
		}
		c := call{typ: typ, msg: msg, total: total, toBackend: toBackend, toClient: toClient}
		next, err := m.message(&c)
		if err != nil || next != proceed {
			return n, next, err
		}
		n += len(msg)
		if !c.drop {
			m.pass, m.passDrop = int32(total-len(msg)), false
		}
	}
	return n, More, nil
}

// alone deals with a message that comes while no backend is attached. drop says that nobody else need see it: what is left
// of a COPY that failed, and what can be answered here. Otherwise next says what is missing: the rest of the message, or a
// backend; a message that comes slowly holds no backend.
func (m *Machine) alone(typ byte, msg []byte, total int, toClient *Out) (next Next, drop bool) {
	whole := len(msg) == total
	switch {
	case typ == wire.CopyData || typ == wire.CopyDone || typ == wire.CopyFail:
		return proceed, true
	case !whole && total <= maxScan:
		return More, false
	case typ == wire.Flush && total == wire.HeaderLen:
		return proceed, true
	case typ == wire.Sync && total == wire.HeaderLen:
		toClient.set(append(wire.AppendHeader(toClient.own(), wire.ReadyForQuery, 1), 'I'))
		return proceed, true
	}
	if m.raw || !whole {
		return NeedBackend, false
	}
	if name, ok := statementName(msg[wire.HeaderLen:]); ok && typ == wire.Close {
		m.names.Swap(string(name), nil).Release()
		toClient.set(wire.AppendHeader(toClient.own(), wire.CloseComplete, 0))
		return proceed, true
	}
	if typ == wire.Parse && m.parseAlone(msg[wire.HeaderLen:]) {
		toClient.set(wire.AppendHeader(toClient.own(), wire.ParseComplete, 0))
		return proceed, true
	}
	return NeedBackend, false
}

// Refuse answers the client's request, no message of which has been sent to a backend, with an ErrorResponse instead:
// what belongs to the request is dropped when it is passed to FromClient, and its end is answered with ReadyForQuery. To be called
// outside of a transaction, with nothing under way.
func (m *Machine) Refuse(response []byte, toClient *Out) {
	if m.backend != nil && (!m.Quiet() || m.InBlock()) {
		panic("bug: refused in the middle of something")
	}
	toClient.set(append(toClient.own(), response...))
	m.refusing = true
	m.unused, m.vacancy = false, nil
}

// refuse drops a message; the end of the request is a Query, a FunctionCall or, behind anything else, a Sync.
func (m *Machine) refuse(typ byte, toClient *Out) {
	if typ == wire.Sync || !m.refusedSome && endsWithReady(typ) {
		m.refusing, m.refusedSome = false, false
		toClient.set(append(wire.AppendHeader(toClient.own(), wire.ReadyForQuery, 1), 'I'))
		return
	}
	m.refusedSome = true
}

// SaysGoodbye reports whether p is whole messages of a client of which the last is Terminate.
func SaysGoodbye(p []byte) bool {
	for {
		typ, body, ok, err := wire.Header(p)
		switch {
		case err != nil || !ok || len(p) < wire.HeaderLen+body:
			return false
		case typ == wire.Terminate:
			return true
		}
		p = p[wire.HeaderLen+body:]
	}
}

// proceed is the Next of a message that has been dealt with.
const proceed Next = -1

// call is one client message on its way: msg is its beginning, at least the header, and len(msg) == total if it is whole.
type call struct {
	typ       byte
	msg       []byte
	total     int
	drop      bool // the message is not to be sent, and it is whole
	toBackend *Out
	toClient  *Out
}

func (c *call) whole() bool  { return len(c.msg) == c.total }
func (c *call) body() []byte { return c.msg[wire.HeaderLen:] }

// send forwards the message as it is and remembers what answers it.
func (m *Machine) send(c *call, e entry) Next {
	c.toBackend.forward(c.msg)
	m.push(e)
	return proceed
}

func (m *Machine) push(e entry) {
	m.q.push(e)
	m.flushed = false
	m.spoken = m.spoken && e.do.own()
	switch {
	case endsWithReady(e.kind):
		m.open = false
		if !e.do.own() {
			m.readies++
		}
	case extended(e.kind) && !e.do.own():
		m.open = true
	}
}

// message deals with one client message: all of it, or its beginning if the rest can be streamed.
func (m *Machine) message(c *call) (Next, error) {
	m.unused = false
	switch {
	case m.copyIn:
		return m.copyMessage(c), nil
	case m.skipping:
		return m.skippedMessage(c), nil
	}
	if m.q.len() >= maxOutstanding {
		if next := m.block(c); next != proceed {
			return next, nil
		}
	}
	if m.p.Observer.on() && m.p.Raw {
		if next := m.observe(c); next != proceed {
			return next, nil
		}
	}
	if m.names.SQL() && !m.own {
		if next := m.goOwn(c, 0); next != proceed {
			return next, nil
		}
	}
	if m.spokenOf() && c.typ != wire.Query && c.typ != wire.Parse {
		m.speak(c, false)
	}
	switch c.typ {
	case wire.Query:
		return m.query(c), nil
	case wire.Parse:
		return m.parse(c)
	case wire.Bind:
		return m.bind(c)
	case wire.Describe:
		return m.describe(c)
	case wire.Close:
		return m.closeMessage(c)
	case wire.Execute:
		m.p.Counters.Queries++
		if m.raw {
			m.commitSent = true // which statement the portal runs is not known
		}
		m.runBatch()
		return m.send(c, entry{kind: wire.Execute}), nil
	case wire.Sync:
		m.send(c, entry{kind: wire.Sync})
		m.endBatch(c.toBackend)
		return proceed, nil
	case wire.Flush:
		return m.flush(c), nil
	case wire.FunctionCall:
		return m.functionCall(c), nil
	}
	// CopyData, CopyDone, CopyFail: for a COPY of which Postgres has not said yet that it waits for them, or what is left of
	// one that failed; then Postgres drops them.
	c.toBackend.forward(c.msg)
	if c.typ != wire.CopyData && m.q.len() > 0 {
		m.push(entry{kind: c.typ, do: marker})
	}
	return proceed, nil
}

// block makes the client wait while replies are outstanding, and sees to it that the backend does not keep them back.
func (m *Machine) block(c *call) Next {
	if m.settle(c.toClient); m.q.len() == 0 {
		return proceed
	}
	if !m.flushed {
		c.toBackend.set(m.appendFlush(c.toBackend.own()))
	}
	return Blocked
}

// copyMessage deals with a message while the backend waits for CopyData. Postgres leaves that state when it reads
// CopyDone or CopyFail, ignores Flush and Sync in it, and fails the COPY at anything else.
func (m *Machine) copyMessage(c *call) Next {
	switch c.typ {
	case wire.Sync, wire.Flush:
		if !c.whole() {
			return More
		}
		c.drop = true
		return proceed
	case wire.CopyDone, wire.CopyFail:
		m.copyIn = false
	case wire.CopyData:
	default:
		m.copyIn = false
		if head := m.q.head(); head != nil && head.kind == wire.Execute {
			return m.send(c, entry{kind: c.typ, do: swallow}) // is skipped up to the next Sync, like what follows it
		}
	}
	c.toBackend.forward(c.msg)
	return proceed
}

// skippedMessage deals with a message that the backend drops because of an earlier error, up to Sync.
func (m *Machine) skippedMessage(c *call) Next {
	c.toBackend.forward(c.msg)
	if c.typ == wire.Sync {
		m.skipping = false
		m.push(entry{kind: wire.Sync})
	}
	return proceed
}

// query deals with a simple query. It also ends the unnamed statement.
func (m *Machine) query(c *call) Next {
	if !m.raw {
		if next := m.look(c, c.body()); next != proceed {
			return next
		}
	} else {
		if next := m.vacateRaw(c); next != proceed {
			return next
		}
		if m.status != 'I' && !m.commitSent {
			m.commitSent = !c.whole() || sessionstate.Scan(c.body())&sessionstate.Commit != 0
		}
	}
	m.p.Counters.Queries++
	e := entry{kind: wire.Query}
	if !m.raw {
		e.prev = m.swap("", nil)
		m.backend.Unnamed = nil
	}
	return m.send(c, e)
}

// look scans the text of a Query; when it pins the session, the session becomes raw, and the result may be Blocked.
func (m *Machine) look(c *call, text []byte) Next {
	if c.total > maxScan {
		return m.goRaw(c, PinLarge)
	}
	if !c.whole() {
		return More
	}
	if len(text) > 0 {
		text = text[:len(text)-1] // the zero byte
	}
	s := sessionstate.Scan(text)
	if notifies := s&sessionstate.Notify != 0; notifies || m.spokenOf() {
		m.speak(c, notifies)
	}
	if s&sessionstate.Sequence != 0 {
		if next := m.ownNumbers(c); next != proceed {
			return next
		}
		m.numbers.asked = true
		m.blameAsking(c.text())
		s &^= sessionstate.Sequence
	}
	if next := m.meet(c, s); next != proceed {
		return next
	}
	if !m.p.Behind.quiet {
		m.runs(sessionstate.MakeDigest(string(text)))
	}
	if m.note(s) && !m.suspect(s, string(text), nil) {
		return m.goRaw(c, s.First())
	}
	if m.forever {
		if next := m.goRaw(c, m.pin); next != proceed {
			return next
		}
	}
	switch {
	case s&sessionstate.DDL != 0:
		m.saysSet = m.saysSet || strings.Contains(strings.ToLower(string(text)), "set") // or reset
		return m.vacate(string(text))
	case s&speaksOfProcesses != 0:
		return m.translateQuery(text, s)
	}
	return proceed
}

func (m *Machine) flush(c *call) Next {
	if !c.whole() {
		return More
	}
	m.settle(c.toClient)
	switch {
	case c.total != wire.HeaderLen: // Postgres answers it with an error
		return m.send(c, entry{kind: wire.Describe, do: swallow})
	case m.q.len() == 0:
		c.drop = true
		return proceed
	}
	c.toBackend.forward(c.msg)
	m.flushed = true
	return proceed
}

// functionCall deals with a call of a function by its number. Only the functions of large objects, which libpq and
// pgjdbc call so, are known to leave the session alone.
func (m *Machine) functionCall(c *call) Next {
	if !m.raw {
		if len(c.body()) < 4 && !c.whole() {
			return More
		}
		if !largeObjectFunction(c.body()) {
			if next := m.goRaw(c, PinFunctionCall); next != proceed {
				return next
			}
		}
	}
	m.p.Counters.Queries++
	return m.send(c, entry{kind: wire.FunctionCall})
}

func largeObjectFunction(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	switch binary.BigEndian.Uint32(body) {
	case 715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172:
		return true // lo_create, lo_import, lo_export, lo_import with oid, lo_open, lo_close, loread, … lo_truncate64
	}
	return false
}
