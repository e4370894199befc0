package relay

import (
	"bytes"
	"fmt"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// FromBackend takes the backend's bytes p, whole messages or not, and adds to toClient what the client is to see and to
// toBackend what Sluice has to add. It takes n bytes; the caller keeps the rest, never more than 64 KiB, and passes it
// again with more behind it.
//
// Errors: ErrBackend or ErrCarry, wrapped. The backend is of no more use; what toClient holds may still be sent.
func (m *Machine) FromBackend(p []byte, toBackend, toClient *Out) (n int, err error) {
	for n < len(p) {
		if m.backPass > 0 {
			k := min(int(m.backPass), len(p)-n)
			if !m.backDrop {
				toClient.forward(p[n : n+k])
			}
			m.backPass -= int32(k)
			n += k
			continue
		}
		typ, body, ok, err := wire.Header(p[n:])
		if err != nil {
			return n, backendError("%w", err)
		}
		if !ok {
			return n, nil
		}
		total := wire.HeaderLen + body
		msg := p[n:min(len(p), n+total)]
		if len(msg) < total && total <= maxReply && (understood(typ) || m.answering(typ)) {
			return n, nil
		}
		drop, err := m.reply(typ, msg, len(msg) == total, toBackend, toClient)
		if err != nil {
			return n, err
		}
		if !drop {
			toClient.forward(msg)
		}
		n += len(msg)
		m.backPass, m.backDrop = int32(total-len(msg)), drop
		if m.backPass == 0 {
			m.settle(toClient)
		}
	}
	return n, nil
}

// understood reports whether messages of this type are looked into.
func understood(typ byte) bool {
	switch typ {
	case wire.ReadyForQuery, wire.ErrorResponse, wire.CommandComplete, wire.ParameterStatus, wire.NotificationResponse:
		return true
	}
	return false
}

// answering reports whether the next message is to be understood as the answer to a question: of Sluice's about the session,
// or of the client's about a statement.
func (m *Machine) answering(typ byte) bool {
	head := m.q.head()
	return head != nil && (head.do == question || typ == wire.RowDescription && head.kind == wire.Describe && head.stmt != nil)
}

// settle makes up the replies whose turn has come.
func (m *Machine) settle(toClient *Out) {
	if m.backPass > 0 {
		return // in the middle of a message
	}
	for e := m.q.head(); e != nil && (e.do == synth || e.do == marker); e = m.q.head() {
		if !m.gone && e.do == synth {
			typ := byte(wire.ParseComplete)
			if e.kind == wire.Close {
				typ = wire.CloseComplete
			}
			toClient.set(wire.AppendHeader(toClient.own(), typ, 0))
		}
		m.complete(e)
		m.q.pop()
	}
}

// reply deals with the beginning of one backend message, or all of it if it is understood. drop says that the client is
// not to see it.
func (m *Machine) reply(typ byte, msg []byte, whole bool, toBackend, toClient *Out) (drop bool, err error) {
	body := msg[wire.HeaderLen:]
	switch typ {
	case wire.NotificationResponse:
		return m.notification(msg, whole, toClient), nil
	case wire.NoticeResponse:
		head := m.q.head()
		return m.gone || head != nil && head.do.own(), nil
	case wire.ParameterStatus:
		return m.parameterStatus(body, toClient), nil
	}
	m.settle(toClient)
	head := m.q.head()
	switch {
	case typ == wire.ErrorResponse:
		return m.errorResponse(head, msg, toBackend, toClient)
	case head == nil:
		return true, backendError("message %q that nobody asked for", typ)
	case typ == wire.ReadyForQuery:
		return m.readyForQuery(head, body, toBackend, toClient)
	}
	ok, last := expects(head.kind, typ)
	if !ok {
		return true, backendError("message %q in answer to %q", typ, head.kind)
	}
	drop = m.gone || head.do == swallow || head.do == compare || head.do.own()
	switch typ {
	case wire.DataRow:
		if head.do == question {
			m.row(body, whole)
		}
	case wire.RowDescription, wire.NoData:
		if head.stmt != nil && whole {
			m.returns(head, body)
		}
	case wire.CopyInResponse:
		m.startCopyIn(toBackend)
	case wire.CommandComplete:
		if tag, _, ok := wire.CString(body); ok && !drop {
			m.tag(tag)
		}
	}
	if last {
		m.complete(head)
		m.q.pop()
	}
	return drop, nil
}

// readyForQuery ends the answer to a Sync, Query or FunctionCall.
func (m *Machine) readyForQuery(head *entry, body []byte, toBackend, toClient *Out) (drop bool, err error) {
	if len(body) != 1 || body[0] != 'I' && body[0] != 'T' && body[0] != 'E' {
		return true, backendError("ReadyForQuery with status %q", body)
	}
	if !endsWithReady(head.kind) {
		return true, backendError("ReadyForQuery in answer to %q", head.kind)
	}
	m.status = body[0]
	m.copyIn = false
	drop = m.gone || head.do.own()
	if m.status == 'I' && !drop {
		m.p.Counters.Transactions++
	}
	if m.redefines != redefinesNothing && m.status == 'I' {
		m.redefined()
	}
	do, own := head.do, head.do.own()
	if !own {
		m.readies--
		m.served++
	}
	m.complete(head)
	m.q.pop()
	for next := m.q.head(); next != nil && next.do == marker; next = m.q.head() {
		m.q.pop() // for a COPY that there was not
	}
	if own && m.q.len() == 0 {
		m.await = false
	}
	if do == question && !m.gone {
		m.answered()
	}
	switch {
	case do == tuning:
		m.backend.untuned = false
	case do == marking && !m.gone:
		m.marked(toClient)
	}
	if m.q.len() > 0 {
		return drop, nil
	}
	m.commitSent = false
	if m.status == 'I' {
		m.local, m.ddl = false, false
		if m.reports != nil && len(m.reports.dirty) > 0 && !m.raw && !m.forever {
			m.Pin(PinParameter)
			m.mayListen(sessionstate.Set)
			m.ask = true
		}
		switch {
		case own && do == question && m.askAgain(toBackend):
		case own:
			m.goOn(toClient)
		default:
			drop = m.endTransaction(toBackend, toClient)
		}
	}
	if m.gone {
		m.tidy(toBackend)
	}
	return drop, nil
}

// endTransaction draws the conclusions when a transaction of the client's is over and nothing is outstanding. drop says that
// its ReadyForQuery is not for the client, or is held back.
func (m *Machine) endTransaction(toBackend, toClient *Out) (drop bool) {
	if m.numbers != (numbers{}) {
		m.settleNumbers()
	}
	m.codeMayHaveRun()
	if m.gone || m.pass > 0 {
		return m.gone
	}
	drop = m.holdReady()
	m.follow(toBackend)
	if !drop {
		m.flushPending(toClient)
	}
	return drop
}

// errorResponse ends the answer that is outstanding; behind a message of the extended query protocol the backend then
// skips to the next Sync.
func (m *Machine) errorResponse(head *entry, msg []byte, toBackend, toClient *Out) (drop bool, err error) {
	f := parseError(msg[wire.HeaderLen:])
	if f.fatal {
		m.fatal = true
	}
	switch {
	case head == nil, f.fatal: // that the session is over the client is to know, whoever was served
		m.countError(f.code)
		return m.gone, nil
	case head.do.vital():
		if head.do == lead { // Postgres drops what has been sent behind it
			m.forgetAll()
		}
		return true, fmt.Errorf("%w: %s %s", ErrCarry, f.code, f.message)
	}
	drop = m.gone || head.do.own()
	if f.code == "0A000" && head.stmt != nil && m.mayRepeat(head) {
		m.repeat(head, toBackend)
		return true, nil
	}
	if head.do == attempt && head.name != "" {
		m.missed(head.name, msg[wire.HeaderLen:])
	}
	if f.code == "26000" && !drop && !m.raw {
		f.code, drop = m.unknown(head, msg, toClient)
	}
	if head.do == question {
		m.doubt.answer.failed = true
		m.backend.asked = false // some of its statements may be missing
	}
	if head.do == calming {
		m.backend.tainted = true
	}
	if !head.do.own() {
		m.countError(f.code)
		if f.code == "55000" && m.numbers.across {
			m.undefinedNumber()
		}
	}
	m.copyIn = false
	if endsWithReady(head.kind) {
		return drop, nil
	}
	if !drop && !m.raw && head.stmt != nil {
		drop = m.rename(msg, head.stmt, toClient)
	}
	m.spoil(head, f.code)
	m.skip()
	return drop, nil
}

// rename sends the client an error that speaks of a statement by the name that only the backend knows, with the client's own.
// It reports false if the error does not.
func (m *Machine) rename(msg []byte, st *prepared.Statement, toClient *Out) bool {
	return m.restate(msg, `"`+st.Name+`"`, `"`+m.names.NameOf(st)+`"`, toClient)
}

// restate sends the client an error with other words in place of those that it should not see. It reports false if they are
// not in it.
func (m *Machine) restate(msg []byte, words, others string, toClient *Out) bool {
	if !bytes.Contains(msg, []byte(words)) {
		return false
	}
	body := bytes.ReplaceAll(msg[wire.HeaderLen:], []byte(words), []byte(others))
	toClient.set(append(wire.AppendHeader(toClient.own(), wire.ErrorResponse, len(body)), body...))
	return true
}

// spoil has a statement prepared anew that could not be used, perhaps because the schema has changed since.
func (m *Machine) spoil(head *entry, code string) {
	if m.raw || head.stmt == nil || head.kind != wire.Bind && head.kind != wire.Describe {
		return
	}
	switch code[:min(2, len(code))] {
	case "0A": // the result of a cached plan has changed
		m.outdated(head.stmt)
	case "42", "XX": // undefined or ambiguous names, lookups in the cache
		m.backend.Spoil(head.stmt)
	}
}

func (m *Machine) countError(code string) {
	if m.gone || len(code) < 2 {
		return
	}
	if m.p.Counters.Errors == nil {
		m.p.Counters.Errors = make(map[string]uint64)
	}
	m.p.Counters.Errors[code[:2]]++
}

// skip deals with an error of the extended query protocol: the head has failed, and the backend skips all that follows it
// up to the next Sync.
func (m *Machine) skip() {
	n := 1
	for n < m.q.len() && m.q.at(n).kind != wire.Sync {
		n++
	}
	m.skipping = n == m.q.len()
	if do := m.q.head().do; do != attempt && do != calming { // what others return is still to come
		m.await = false
	}
	for i := n - 1; i > 0; i-- { // in reverse: what was done last is undone first
		m.undo(m.q.at(i), n)
	}
	m.fail(m.q.head(), n)
	for range n {
		m.q.pop()
	}
}

// startCopyIn takes note that the backend waits for CopyData. What has been sent behind the COPY already is read in that
// state: Sync is ignored, CopyDone and CopyFail end it, anything else ends it with an error.
func (m *Machine) startCopyIn(toBackend *Out) {
	for m.q.len() > 1 {
		e := m.q.at(1)
		switch {
		case e.do == marker:
			m.q.cut(1)
			return
		case e.kind == wire.Sync:
			m.forget(e)
			m.q.cut(1)
			continue
		case m.q.head().kind == wire.Query:
			m.undo(e, 2)
			m.forget(e)
			m.q.cut(1)
		}
		return
	}
	m.copyIn = true
	m.open = m.q.head().kind == wire.Execute // its Sync is still to come
	if m.gone {                              // nobody will send anything
		toBackend.set(m.appendCopyFail(toBackend.own()))
	}
}
