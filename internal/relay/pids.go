package relay

import (
	"encoding/binary"
	"slices"
	"strconv"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// MaxPID is the largest process id that an operating system gives (Linux, pid_max). The pids that clients of shared sessions are told,
// see Identify, lie above it: they are no process's, so that pg_terminate_backend warns instead of hitting a stranger.
//
// Where a text names a function that takes pids, those of clients are replaced by those of the backends that their sessions have: numbers
// in the text, and bound values. It is done in place, so that lengths, and positions in errors, stay; what is left over is blank. A text
// that Postgres keeps (PREPARE, a view) is left alone: by the time it runs the backend may be somebody else's.
const MaxPID = 1 << 22

// maxMentioned bounds how many sessions one message may speak of.
const maxMentioned = 64

// mention is what a message that is still to be sent says of sessions by the pids that their clients know.
type mention struct {
	pids     []uint32
	signals  bool
	backends []uint32 // their pids, 0: there is none; nil: that is not known yet
}

// Mentioned returns, when FromClient has said NeedPIDs, of whom the message speaks, by the pids that their clients know, and whether
// it may send them a signal.
func (m *Machine) Mentioned() (pids []uint32, signals bool) {
	if m.mention == nil {
		return nil, false
	}
	return m.mention.pids, m.mention.signals
}

// Translate says which backends those have: their pids in Postgres, in the order of Mentioned, 0: none that is to be named. They must
// stay with them up to the end of the transaction.
func (m *Machine) Translate(backends []uint32) { m.mention.backends = backends }

// Unmention forgets what Translate has said: nothing keeps the backends any more.
func (m *Machine) Unmention() { m.mention = nil }

// speaksOfProcesses is what a text's signals have in common that may hold pids.
const speaksOfProcesses = sessionstate.Process | sessionstate.Execute

// executed returns the signals of a text with those of what it may run with EXECUTE.
func (m *Machine) executed(s sessionstate.Signals) sessionstate.Signals {
	if s&sessionstate.Execute != 0 {
		if m.doubt != nil && m.doubt.signals {
			s |= sessionstate.Process
		}
		m.names.Named(func(_ string, st *prepared.Statement) { s |= sessionstate.Signals(st.Signals) & sessionstate.Process })
	}
	return s
}

// translates reports whether pids are replaced in a message of a text with these signals.
func (m *Machine) translates(s sessionstate.Signals) bool {
	return m.pid != 0 && m.status != 'E' && m.executed(s)&sessionstate.Process != 0
}

// pidsIn returns what stands for pids in a text with these signals, and whether it may send a signal.
func pidsIn(text string, s sessionstate.Signals) (pids []sessionstate.PID, signals bool) {
	const keeps = sessionstate.Prepare | sessionstate.DDL | sessionstate.Ambiguous
	pids, signals = sessionstate.PIDs(text, MaxPID)
	if s&keeps != 0 {
		pids = nil
	}
	return pids, signals || s&sessionstate.Execute != 0
}

// translateQuery replaces pids in the text of a Query. The result is NeedPIDs if it is not known yet by what.
func (m *Machine) translateQuery(text []byte, s sessionstate.Signals) Next {
	if !m.translates(s) {
		return proceed
	}
	pids, signals := pidsIn(string(text), s)
	found, next := m.resolve(pids, nil, signals)
	if next == proceed {
		replace(text, pids, found)
	}
	return next
}

// bindPIDs replaces pids among the values of a Bind. Where the text of its statement holds some too, another is bound in its place, and the
// Bind has been dealt with; the result is More if it is still to be sent.
func (m *Machine) bindPIDs(c *call, st *prepared.Statement, portal, values []byte) Next {
	s := sessionstate.Signals(st.Signals)
	if !c.whole() || !m.translates(s) {
		return More
	}
	text := st.Query()
	pids, signals := pidsIn(text, s)
	if st.SQL { // Postgres has it
		pids = nil
	}
	bound := boundPIDs(values)
	found, next := m.resolve(pids, bound, signals)
	switch {
	case next != proceed:
		return next
	case found == nil:
		return More
	}
	for _, v := range bound {
		v.put(found(v.pid))
	}
	changed := []byte(text)
	if !replace(changed, pids, found) {
		return More
	}
	return m.bindInstead(c, st, string(changed), portal, values)
}

// resolve returns what finds the pid that is to stand in place of another, 0: that one; nil if there are none, in the text or bound. The
// result is NeedPIDs while that is not known.
func (m *Machine) resolve(inText []sessionstate.PID, bound []boundPID, signals bool) (found func(pid uint32) uint32, next Next) {
	var pids []uint32
	add := func(pid uint32) {
		if len(pids) < maxMentioned && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	for _, p := range inText {
		add(p.Value)
	}
	for _, p := range bound {
		add(p.pid)
	}
	said := m.mention
	switch {
	case len(pids) == 0:
		return nil, proceed
	case said == nil || said.signals != signals || !slices.Equal(said.pids, pids):
		said = &mention{pids: pids, signals: signals}
		m.mention = said
	}
	if said.backends == nil {
		m.unused = true // the backend stays
		return nil, NeedPIDs
	}
	m.mention = nil
	return func(pid uint32) uint32 {
		if i := slices.Index(said.pids, pid); i >= 0 {
			return said.backends[i]
		}
		return 0
	}, proceed
}

// replace puts the real pids in place of those in the text. It reports whether there were any.
func replace(text []byte, pids []sessionstate.PID, found func(pid uint32) uint32) (replaced bool) {
	for _, p := range pids {
		replaced = putDigits(text[p.At:p.At+p.Len], found(p.Value)) || replaced
	}
	return replaced
}

// putDigits writes a pid over digits, with blanks behind it. It reports false if that is 0 or does not fit.
func putDigits(digits []byte, pid uint32) bool {
	written := strconv.Itoa(int(pid))
	if pid == 0 || len(written) > len(digits) {
		return false
	}
	for i := copy(digits, written); i < len(digits); i++ {
		digits[i] = ' '
	}
	return true
}

// boundPID is a value of a Bind that may be a pid of a client's: digits, or a binary integer of four bytes or eight.
type boundPID struct {
	value  []byte
	binary bool
	pid    uint32
}

func (v boundPID) put(pid uint32) {
	switch {
	case pid == 0:
	case v.binary:
		binary.BigEndian.PutUint32(v.value[len(v.value)-4:], pid)
	default:
		putDigits(v.value, pid)
	}
}

// boundPIDs returns what may be pids of clients in what a Bind has behind its names; none if that is malformed.
// Protocol: "Message Formats", Bind.
func boundPIDs(values []byte) (found []boundPID) {
	rest, ok := skipShorts(values)
	if !ok || len(rest) < 2 {
		return nil
	}
	formats := values[2 : len(values)-len(rest)]
	n := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	for i := range n {
		if len(rest) < 4 {
			return nil
		}
		size := max(0, int(int32(binary.BigEndian.Uint32(rest)))) // NULL has none
		if rest = rest[4:]; size > len(rest) {
			return nil
		}
		v := boundPID{value: rest[:size:size], binary: inBinary(formats, i)}
		if v.read() && v.pid > MaxPID {
			found = append(found, v)
		}
		rest = rest[size:]
	}
	return found
}

// inBinary reports whether value i is in binary format: none is, or the formats hold one for all, or one for each.
func inBinary(formats []byte, i int) bool {
	if len(formats) == 2 {
		i = 0
	}
	return 2*i+2 <= len(formats) && binary.BigEndian.Uint16(formats[2*i:]) == 1
}

// read finds the pid, and reports false if there is none.
func (v *boundPID) read() (ok bool) {
	if !v.binary {
		v.pid, ok = sessionstate.ParsePID(v.value)
		return ok
	}
	switch len(v.value) {
	case 4:
		v.pid = binary.BigEndian.Uint32(v.value)
	case 8:
		v.pid = binary.BigEndian.Uint32(v.value[4:])
		return binary.BigEndian.Uint32(v.value) == 0 && v.pid < 1<<31
	}
	return len(v.value) == 4 && v.pid < 1<<31
}

// bindInstead binds another text in place of the client's statement, which keeps its own: it is parsed in front of the Bind, as the
// backend's unnamed statement.
func (m *Machine) bindInstead(c *call, st *prepared.Statement, text string, portal, values []byte) Next {
	m.p.Counters.Binds++
	m.p.Counters.BackendParses++
	m.runsStatement(st)
	m.account(c, st, values)
	b := appendParse(c.toBackend.own(), "", text+st.Body()[len(text):])
	m.push(entry{kind: wire.Parse, do: swallow})
	m.backend.Unnamed = nil
	b = appendRenamed(b, 1+len(portal)+1+len(values), portal, "")
	c.toBackend.set(append(b, values...))
	m.push(entry{kind: wire.Bind})
	return proceed
}

// Excuse says that the backend has not been attached for a message of the client's: it need not stay until one is sent.
func (m *Machine) Excuse() { m.unused = false }

// Prove has the backend say that it lives; m is Free when it has. It has then taken note of all signals that it was sent before.
func (m *Machine) Prove(toBackend *Out) {
	m.push(entry{kind: wire.Sync, do: attempt})
	toBackend.set(wire.AppendHeader(toBackend.own(), wire.Sync, 0))
}
