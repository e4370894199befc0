package relay

import (
	"strings"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// missing is the name of a statement that no backend has, or its beginning.
const missing = prepared.Prefix + "?"

// parse deals with Parse: the statement is interned, and the backend asked only if it does not have it yet.
func (m *Machine) parse(c *call) (Next, error) {
	if m.raw {
		if next := m.vacateRaw(c); next != proceed {
			return next, nil
		}
		return m.parseRaw(c), nil
	}
	if c.total > maxScan {
		if next := m.goRaw(c, PinLarge); next != proceed {
			return next, nil
		}
		return m.parseRaw(c), nil
	}
	if !c.whole() {
		return More, nil
	}
	name, rest, ok := wire.CString(c.body())
	if !ok || !wellFormed(rest) {
		return m.send(c, entry{kind: wire.Parse, do: swallow}), nil // Postgres will say what is wrong with it
	}
	st := m.table().Intern(rest)
	if !st.Scanned {
		text, _, _ := wire.CString(rest)
		st.Signals, st.Scanned = uint32(sessionstate.Scan(text)), true
	}
	signals := sessionstate.Signals(st.Signals)
	as := string(name)
	if next := m.judge(c, as, st); next != proceed || m.raw {
		st.Release()
		if next != proceed {
			return next, nil
		}
		return m.parseRaw(c), nil
	}
	if m.unsettled() || signals&(sessionstate.Clock|sessionstate.MaybeClock) != 0 {
		st.Release()
		st = m.private(rest, signals)
	}
	if m.own {
		return m.parseOwn(c, as, st), nil
	}
	return m.define(c, as, st), nil
}

// parseAlone deals with Parse while no backend is attached, if the statement has a name and is known to be good. Many
// clients prepare all that they will need when they connect; they need not wait in line for that.
func (m *Machine) parseAlone(body []byte) bool {
	name, rest, ok := wire.CString(body)
	if !ok || len(name) == 0 || m.names.Lookup(name) != nil || m.pin != "" || m.p.Behind.binds() || m.names.SQL() && reserved(string(name)) {
		return false
	}
	st := m.table().Find(rest)
	if st == nil || !st.Proven || sessionstate.Signals(st.Signals).Sticky() {
		return false
	}
	m.p.Counters.ClientParses++
	st.Retain()
	m.names.Swap(string(name), st)
	return true
}

// define makes the client's name mean st, whose reference it takes, and has it prepared if need be.
func (m *Machine) define(c *call, name string, st *prepared.Statement) Next {
	if name != "" {
		if next := m.certain(c, []byte(name)); next != proceed {
			st.Release()
			return next
		}
	}
	m.p.Counters.ClientParses++
	e := entry{kind: wire.Parse, name: name}
	switch {
	case name == "" && m.planned(st):
		e.prev = m.names.Swap("", st)
		m.backend.Unnamed = nil // should it be st, it is not to be used
		if m.backend.Use(st) {
			e.do = synth
			m.push(e)
			return proceed
		}
		e.stmt = st
		m.prepare(c.toBackend, st, e)
		return proceed
	case name == "":
		e.prev = m.names.Swap("", st)
		m.backend.Unnamed = st
		m.p.Counters.BackendParses++
		return m.send(c, e)
	case m.names.Lookup([]byte(name)) != nil:
		st.Release()
		if m.readies > 0 {
			if next := m.block(c); next != proceed {
				return next
			}
		}
		if m.status == 'E' { // is what Postgres minds first
			m.push(entry{kind: wire.Parse, do: swallow})
			c.toBackend.set(appendParse(c.toBackend.own(), missing, "SELECT 1\x00\x00\x00"))
			return proceed
		}
		m.describeMissing(c.toBackend)
		m.push(entry{kind: wire.Parse, name: name, do: duplicate})
		return proceed
	}
	if m.backend.Use(st) && (!m.backend.Confirmed(st) || m.status == 'E' || m.readies > 0) {
		// Its Parse may still fail; or this one must, in a transaction that has failed, or may have by the time it gets
		// there. Postgres is asked, under another name.
		again := m.table().Private(st.Body())
		again.Signals, again.Scanned = st.Signals, true
		st.Release()
		st = again
	}
	m.names.Swap(name, st)
	if m.backend.Use(st) {
		e.do = synth
		m.push(e)
		return proceed
	}
	e.stmt = st
	m.prepare(c.toBackend, st, e)
	return proceed
}

// tentative reports whether what the name means hangs on answers to an earlier request that are still to come: if that has
// failed, it means something else.
func (m *Machine) tentative(name []byte) bool {
	if m.readies == 0 {
		return false
	}
	st, as := m.names.Lookup(name), string(name)
	earlier := false
	for i := m.q.len() - 1; i >= 0; i-- {
		e := m.q.at(i)
		earlier = earlier || endsWithReady(e.kind)
		if e.defines(as) || st != nil && e.kind == wire.Parse && e.stmt == st {
			return earlier
		}
	}
	return false
}

// certain waits until it is certain what the name means.
func (m *Machine) certain(c *call, name []byte) Next {
	if m.tentative(name) {
		return m.block(c)
	}
	return proceed
}

// planned reports whether st, which the client parses without a name, is to be served by a named statement, so that Postgres
// need not parse and plan it again. That is so from the second time on, but not while settings or definitions may have been
// changed in the transaction, nor where a Parse must fail or may still do.
func (m *Machine) planned(st *prepared.Statement) bool {
	const never = sessionstate.Clock | sessionstate.MaybeClock | sessionstate.DDL
	if !*m.p.PlanUnnamed || m.unsettled() || m.ddl || m.change != ChangedNothing || m.status == 'E' || m.readies > 0 ||
		sessionstate.Signals(st.Signals)&never != 0 {
		return false
	}
	return m.table().SeenBefore(st) && (!m.backend.Use(st) || m.backend.Confirmed(st))
}

// prepare sends a Parse for st under its own name and remembers e as what is answered; the backend's least recently used
// statement makes room.
func (m *Machine) prepare(toBackend *Out, st *prepared.Statement, e entry) {
	m.p.Counters.BackendParses++
	b := toBackend.own()
	if m.backend.Spoilt(st) {
		b = appendClose(b, st.Name)
		m.push(entry{kind: wire.Close, do: swallow, spoilt: st})
	}
	if evicted := m.backend.Add(st); evicted != nil {
		evicted.Retain()
		b = appendClose(b, evicted.Name)
		m.push(entry{kind: wire.Close, do: swallow, stmt: evicted})
	}
	toBackend.set(appendParse(b, st.Name, st.Body()))
	m.push(e)
}

// bind deals with Bind: the name is replaced by the backend's, and a statement that the backend lacks is prepared in front.
func (m *Machine) bind(c *call) (Next, error) {
	e := entry{kind: wire.Bind}
	if m.raw {
		m.p.Counters.Binds++
		return m.send(c, e), nil
	}
	portal, rest, ok := wire.CString(c.body())
	var name []byte
	if ok {
		name, rest, ok = wire.CString(rest)
	}
	switch {
	case !ok && c.whole():
		return m.send(c, e), nil // Postgres will say what is wrong with it
	case !ok && len(c.msg) >= maxNames:
		return More, clientError("names of more than %d bytes in Bind", maxNames)
	case !ok, !c.whole() && c.total <= maxScan && m.bindsMeaning(name):
		return More, nil
	}
	st, next := m.meant(c, name)
	if next != proceed {
		return next, nil
	}
	if st != nil && sessionstate.Signals(st.Signals)&sessionstate.DDL != 0 {
		if next := m.vacate(st.Query()); next != proceed {
			return next, nil
		}
	}
	if st != nil && sessionstate.Signals(st.Signals)&speaksOfProcesses != 0 {
		if next := m.bindPIDs(c, st, portal, rest); next != More {
			return next, nil
		}
	}
	if m.own {
		e, next := m.useOwn(c, wire.Bind, st, name, rest)
		if next != More {
			return next, nil
		}
		m.p.Counters.Binds++
		return m.send(c, e), nil
	}
	if next := m.stillSame(c, st, name, entry{kind: wire.Bind, do: stale}); next != More {
		return next, nil
	}
	m.p.Counters.Binds++
	m.runsStatement(st)
	as, same := m.use(c, name, rest)
	if same {
		return m.send(c, e), nil
	}
	e.stmt = m.names.Lookup(name)
	b := c.toBackend.own()
	m.beginBatch(len(b), e.stmt, name)
	c.toBackend.set(appendRenamed(b, c.total-wire.HeaderLen+len(as)-len(name), portal, as))
	c.toBackend.forward(rest)
	m.push(e)
	return proceed, nil
}

// describe deals with Describe of a portal or a statement.
func (m *Machine) describe(c *call) (Next, error) {
	e := entry{kind: wire.Describe}
	if m.raw {
		return m.send(c, e), nil
	}
	if !c.whole() {
		return More, nil
	}
	name, ok := statementName(c.body())
	if !ok {
		return m.send(c, e), nil
	}
	st, next := m.meant(c, name)
	if next != proceed {
		return next, nil
	}
	if m.own {
		e, next := m.useOwn(c, wire.Describe, st, name, nil)
		if next != More {
			return next, nil
		}
		return m.send(c, e), nil
	}
	if next := m.stillSame(c, st, name, entry{kind: wire.Describe, do: stale}); next != More {
		return next, nil
	}
	as, same := m.use(c, name, nil)
	if same {
		return m.send(c, e), nil
	}
	e.stmt = m.names.Lookup(name)
	b := c.toBackend.own()
	m.beginBatch(len(b), e.stmt, name)
	c.toBackend.set(appendDescribe(b, as))
	m.push(e)
	return proceed, nil
}

// closeMessage deals with Close. Closing a statement only takes the client's name away: the backend keeps what it has
// prepared for whoever comes next.
func (m *Machine) closeMessage(c *call) (Next, error) {
	e := entry{kind: wire.Close}
	if m.raw {
		return m.send(c, e), nil
	}
	if !c.whole() {
		return More, nil
	}
	name, ok := statementName(c.body())
	if !ok {
		return m.send(c, e), nil
	}
	if m.own {
		return m.closeOwn(c, string(name)), nil
	}
	e.do, e.name = synth, string(name)
	e.prev = m.names.Swap(e.name, nil)
	m.push(e)
	return proceed, nil
}

// statementName returns the name in the body of a Close or Describe that speaks of a statement.
func statementName(body []byte) (name []byte, ok bool) {
	if len(body) < 2 || body[0] != 'S' {
		return nil, false
	}
	name, rest, ok := wire.CString(body[1:])
	return name, ok && len(rest) == 0
}

// use sees to it that the statement the client calls name is prepared, and returns what the backend calls it; same is
// true when the message can be sent as it is. values are what a Bind has behind the names, nil if it is none.
func (m *Machine) use(c *call, name, values []byte) (as string, same bool) {
	toBackend, st := c.toBackend, m.names.Lookup(name)
	if st == nil {
		return m.useUnknown(toBackend, name)
	}
	m.account(c, st, values)
	if len(name) == 0 && (m.backend.Unnamed == st || (!*m.p.PlanUnnamed || !m.backend.Use(st)) && m.stepsTo(st) == nil) {
		if m.backend.Unnamed != st {
			m.p.Counters.BackendParses++
			toBackend.set(appendParse(toBackend.own(), "", st.Body()))
			m.push(entry{kind: wire.Parse, do: swallow})
			m.backend.Unnamed = st
			if m.unsettled() {
				m.backend.Unnamed = nil // parsed now, it may come out otherwise than for everybody else
			}
		}
		return "", true
	}
	if m.backend.Use(st) {
		return st.Name, false
	}
	if m.unsettled() { // as above
		st = m.stopgap(string(name), st)
	}
	m.prepareAsOf(toBackend, st, entry{kind: wire.Parse, do: swallow, stmt: st})
	return st.Name, false
}

// useUnknown makes Postgres say that the client has no such statement, whatever other clients have.
func (m *Machine) useUnknown(toBackend *Out, name []byte) (as string, same bool) {
	if len(name) == 0 {
		toBackend.set(appendClose(toBackend.own(), ""))
		m.push(entry{kind: wire.Close, do: swallow})
		m.backend.Unnamed = nil
		return "", true
	}
	if strings.HasPrefix(string(name), prepared.Prefix) || m.backend.Own.Lookup(name) != nil {
		return missing + string(name), false
	}
	return "", true
}

// describeMissing sends a message that fails with 26000 and does nothing else.
func (m *Machine) describeMissing(toBackend *Out) {
	toBackend.set(appendDescribe(toBackend.own(), missing))
}

func appendParse(dst []byte, name, body string) []byte {
	dst = wire.AppendHeader(dst, wire.Parse, len(name)+1+len(body))
	dst = append(append(dst, name...), 0)
	return append(dst, body...)
}

func appendDescribe(dst []byte, name string) []byte {
	dst = wire.AppendHeader(dst, wire.Describe, 1+len(name)+1)
	return append(append(append(dst, 'S'), name...), 0)
}

func appendClose(dst []byte, name string) []byte {
	dst = wire.AppendHeader(dst, wire.Close, 1+len(name)+1)
	return append(append(append(dst, 'S'), name...), 0)
}

// appendRenamed appends the header of a Bind, its portal and the statement's name as the backend knows it.
func appendRenamed(dst []byte, body int, portal []byte, name string) []byte {
	dst = wire.AppendHeader(dst, wire.Bind, body)
	dst = append(append(dst, portal...), 0)
	return append(append(dst, name...), 0)
}
