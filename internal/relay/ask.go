package relay

import (
	"encoding/binary"
	"slices"
	"strings"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// Statements that Sluice keeps prepared on a backend for itself.
const (
	setName    = prepared.Prefix + "set"
	beginName  = prepared.Prefix + "begin"
	commitName = prepared.Prefix + "commit"
	askName    = prepared.Prefix + "ask"
)

const (
	setText = "SELECT pg_catalog.set_config($1, $2, false)"
	// Whatever a session has made the default must not have Sluice's own transaction wait.
	beginText  = "BEGIN ISOLATION LEVEL READ COMMITTED"
	commitText = "COMMIT"
	// askText asks what a session holds past its transactions: rows of s, a setting, its value and its default, of l and a
	// channel that it listens to, of k and why the session must keep its backend, or of q and p, a statement prepared with
	// SQL or by the protocol, its text and its parameters' types. $1 is the names of custom settings, the others say what
	// else to look for, none of which is cheap: $2 settings, $3 another user, $4 advisory locks, $5 temporary objects,
	// cursors, channels and the like, $6 statements prepared by name. All names are qualified, for a client's search_path
	// may hold a lying operator.
	askText = `SELECT 's', s.name, s.setting, s.reset_val FROM pg_catalog.pg_settings s WHERE $2 AND s.source OPERATOR(pg_catalog.=) 'session'
 AND s.name OPERATOR(pg_catalog.<>) ALL ('{application_name,transaction_isolation,transaction_read_only,transaction_deferrable}'::pg_catalog.text[])
UNION ALL SELECT 's', 'role', pg_catalog.current_setting('role'), NULL WHERE $3
UNION ALL SELECT 's', 'session_authorization', pg_catalog.current_setting('session_authorization'), pg_catalog.pg_get_userbyid(a.usesysid)::pg_catalog.text
 FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a WHERE $3
UNION ALL SELECT 's', n, pg_catalog.current_setting(n, true), NULL FROM pg_catalog.unnest($1) n WHERE pg_catalog.current_setting(n, true) IS NOT NULL
UNION ALL SELECT 'k', 'hold_cursor', NULL, NULL FROM pg_catalog.pg_cursor() c WHERE $5 AND c.is_holdable
UNION ALL SELECT 'l', c, NULL, NULL FROM pg_catalog.pg_listening_channels() c WHERE $5
UNION ALL SELECT CASE WHEN p.from_sql THEN 'q' ELSE 'p' END, p.name, p.statement, p.parameter_types::pg_catalog.oid[]::pg_catalog.text
 FROM pg_catalog.pg_prepared_statement() p WHERE $6 AND NOT pg_catalog.starts_with(p.name, '` + prepared.Prefix + `')
UNION ALL SELECT 'k', 'advisory_lock', NULL, NULL FROM pg_catalog.pg_lock_status() l WHERE $4
 AND l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
UNION ALL SELECT 'k', 'temp', NULL, NULL WHERE $5 AND EXISTS (SELECT FROM pg_catalog.pg_depend d
 WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())`
)

// Types of the parameters.
const (
	noTypes  = "\x00\x00"
	setTypes = "\x00\x02\x00\x00\x00\x19\x00\x00\x00\x19"                                                                 // text, text
	askTypes = "\x00\x06\x00\x00\x03\xf1\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x10" // text[], five booleans
)

// maxCustom bounds the custom settings that a session is asked for.
const maxCustom = 32

// askable are the signals of what Postgres can be asked about afterwards. What a client holds because of others stays
// unknown, so they tie it to its backend to its end. DO and CALL are among them because the code that they reach does
// nothing of its own: where it may, Opaque is set.
const askable = sessionstate.Set | sessionstate.SetConfig | sessionstate.Hold | sessionstate.Temp | sessionstate.AdvisoryLock |
	sessionstate.Listen | sessionstate.Unlisten | sessionstate.Do | sessionstate.Call | byName

// harmless are those of texts that leave nothing behind but what they run does.
const harmless = sessionstate.Execute | sessionstate.PreparedStatements

// prepares are the signals of what may change which statements the client has prepared.
const prepares = sessionstate.Prepare | sessionstate.Deallocate | sessionstate.Discard

// doubt is what is to be asked about a session, kept from its first signal on.
type doubt struct {
	custom   []string // names of custom settings
	locks    bool     // it may hold advisory locks
	listens  bool     // what it listens to may change in the transaction
	more     bool     // and something else
	identity bool     // it may have become another user
	parsed   bool     // statements have been parsed, under settings that are not known
	prepared bool     // it may have prepared statements by name, or dropped some
	mixed    bool     // and that under other settings than those that it is known to have
	signals  bool     // and what it has prepared may speak of processes

	announced bool     // a text has told of a change
	texts     string   // those that have, where that matters
	anything  bool     // or they may have told of any
	suspects  []uint64 // fingerprints of statements behind which code may have run, the first of them
	keeps     string   // of the last answer

	blamed string // the text that pins, or may
	mild   bool   // which only sets or prepares something
	asking string // the text that asks for a number of a sequence

	missing map[string][]byte // why statements could not be prepared, by name: bodies of ErrorResponses
	retried bool              // they have been tried again for the message that waits

	answer   answer // to the question under way
	failures int    // questions in a row that have failed
	surprise *Surprise
}

// answer is what Postgres says that a session holds.
type answer struct {
	settings   []sessionstate.Setting
	channels   []string
	statements []statement // that it has prepared by name
	keeps      string      // why the session must keep its backend; empty: it need not
	timeout    *string     // statement_timeout, where it was taken off for the question
	brief      bool        // only of channels
	failed     bool

	// The question: what it was about.
	scope     scope
	behind    bool // code may have run
	announced bool
	suspects  []uint64
}

// scope is what a question is about, beside custom settings.
type scope struct{ settings, identity, locks, objects, prepared bool }

// suspect takes note that a text with the signals s may leave something behind. values are those of a Bind, as it has them; nil
// if there is none, when parameters set nothing yet. It reports false if Postgres could not be asked what.
func (m *Machine) suspect(s sessionstate.Signals, text string, values []byte) bool {
	if !s.Within(askable) || s&byName != 0 && mentionsSluice(text) {
		return false
	}
	if s &^= harmless; !s.Sticky() {
		return true
	}
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	if s&prepares != 0 {
		m.doubt.prepared, m.doubt.signals = true, m.doubt.signals || s&sessionstate.Process != 0
	}
	if m.local || m.behind && m.p.Behind.setsAny() || !s.Within(prepares) {
		m.doubt.mixed = true
	}
	if s&(sessionstate.Set|sessionstate.SetConfig|sessionstate.Do) != 0 {
		names, params, ok := sessionstate.CustomNames(text)
		if !ok {
			return false
		}
		m.doubt.identity = m.doubt.identity || sessionstate.MayNameUser(text)
		for _, n := range params {
			name, ok := boundValue(values, n)
			if !ok && values != nil {
				return false
			}
			m.doubt.identity = m.doubt.identity || sessionstate.MayNameUser(name)
			if strings.IndexByte(name, '.') > 0 {
				names = append(names, name)
			}
		}
		for _, name := range names {
			if !slices.Contains(m.doubt.custom, name) {
				m.doubt.custom = append(m.doubt.custom, name)
			}
		}
		if len(m.doubt.custom) > maxCustom {
			return false
		}
	}
	if s&sessionstate.AdvisoryLock != 0 {
		m.doubt.locks = true
	}
	m.doubt.announced = true
	m.doubt.announce(s, text)
	m.mayListen(s)
	m.blame(s, text)
	m.Pin(s.First())
	m.ask = true
	return true
}

// question asks Postgres what the session holds. The client has its answer already; it is the backend's release that waits.
// What the client sends meanwhile stands behind the question: it must not leave a transaction open, whatever comes of it.
// Behind nothing but code it waits, so that a busy client does not keep the backend from the others, and where the backend may
// turn out to hold what others have left.
func (m *Machine) question(toBackend *Out) {
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	d := m.doubt
	names, sc := m.about()
	d.answer = answer{scope: sc, brief: m.brief(), behind: m.behind, announced: d.announced, suspects: d.suspects}
	d.suspects, d.listens, d.more = nil, false, false
	m.await = m.pin == "" || m.backend.unasked || d.failures > 0
	m.ask, m.behind, m.sampled, m.asking = false, false, false, true
	m.p.Counters.Questions++
	if d.answer.brief {
		m.askChannels(toBackend)
		return
	}
	b := toBackend.own()
	if d.failures > 0 {
		b = m.appendCalm(b)
	}
	if !m.backend.asked {
		b = appendClose(b, askName) // should an earlier question have failed
		m.push(entry{kind: wire.Close, do: question})
		b = m.appendOwnParse(b, askName, askText, askTypes, question)
		m.backend.asked = true
	}
	b = m.appendOwnRun(b, askName, question, arrayText(names), boolText(sc.settings), boolText(sc.identity), boolText(sc.locks),
		boolText(sc.objects), boolText(sc.prepared))
	m.push(entry{kind: wire.Sync, do: question})
	toBackend.set(wire.AppendHeader(b, wire.Sync, 0))
}

// about returns what is to be asked: all that a text may have done, or only what code may do.
func (m *Machine) about() (custom []string, sc scope) {
	d, b := m.doubt, m.p.Behind
	if m.brief() {
		return nil, scope{objects: true}
	}
	sc = scope{settings: true, identity: d.identity, locks: d.locks, objects: true, prepared: d.prepared || m.behind && b.check != Strict}
	if !m.behind || b.code == nil {
		return d.custom, sc
	}
	custom = slices.Clone(d.custom)
	for _, name := range b.code.Custom {
		if !slices.ContainsFunc(custom, func(known string) bool { return strings.EqualFold(known, name) }) {
			custom = append(custom, name)
		}
	}
	if m.pin == "" && b.check == Strict {
		sc.settings, sc.objects = b.code.Settings, b.code.Objects
	}
	sc.identity, sc.locks = sc.identity || b.code.Identity, sc.locks || b.code.Locks
	return custom, sc
}

// row takes a row of the answer; a whole one, or it is not understood.
func (m *Machine) row(body []byte, whole bool) {
	a := &m.doubt.answer
	fields, ok := textRow(body)
	if !whole || !ok || len(fields) != 4 || fields[0] == nil || fields[1] == nil {
		a.failed = true
		return
	}
	name, value, usual := *fields[1], fields[2], fields[3]
	if name == "statement_timeout" && a.timeout != nil {
		value = a.timeout
	}
	switch {
	case *fields[0] == "t":
		if value == nil {
			a.failed = true
			return
		}
		was, ok := milliseconds(*value)
		a.timeout, a.failed = &was, a.failed || !ok
	case *fields[0] == "k":
		a.keeps = name
	case *fields[0] == "l":
		a.channels = append(a.channels, name)
	case *fields[0] == "q", *fields[0] == "p":
		a.statement(*fields[0] == "q", name, value, usual)
	case value == nil, usual != nil && *value == *usual: // as by default
	case name == "temp_buffers", // cannot be set where there have been temporary tables
		name == "search_path" && strings.Contains(*value, "pg_temp"): // CREATE TABLE makes temporary ones
		a.keeps = "temp"
	case slices.ContainsFunc(a.settings, func(s sessionstate.Setting) bool { return strings.EqualFold(s.Name, name) }):
	default:
		a.settings = append(a.settings, sessionstate.Setting{Name: name, Value: *value})
	}
}

// answered draws the conclusions. What the client has sent meanwhile is asked about again.
func (m *Machine) answered() {
	d := m.doubt
	a := d.answer
	d.answer = answer{}
	m.asking = false
	if a.failed || m.q.len() > 0 && m.ask {
		d.more, m.behind = true, m.behind || a.behind
		d.suspects = append(a.suspects, d.suspects...)
		if a.failed {
			m.failed(&a)
		}
		return
	}
	d.failures = 0
	m.conclude(&a)
}

// conclude takes the answer for what the session holds.
func (m *Machine) conclude(a *answer) {
	d := m.doubt
	m.notAsked(a)
	m.tell(a)
	listens := a.scope.objects && m.hears(a.channels)
	if d.prepared && a.scope.prepared {
		m.learn(a.statements)
		d.prepared, d.signals = false, false
	}
	switch {
	case m.forever: // for a statement that cannot be prepared elsewhere
		return
	case a.keeps != "":
		if m.pin = a.keeps; a.keeps == sessionstate.Prepare.First() {
			m.pinForever(a.keeps)
		}
		return
	}
	d.announced, d.texts, d.anything, d.mixed = false, "", false, false
	if listens {
		m.pin = pinListen
	} else {
		m.unpin()
	}
	if a.brief {
		return
	}
	m.backend.unasked = false
	d.custom = customOf(a.settings)
	if state := sessionstate.NewState(a.settings); !state.Equal(m.state) {
		m.state, m.proven = state, false
	}
	m.backend.state = m.state
	m.settleNames()
	m.settleReports()
}

// notAsked adds to the answer what the session is known to have and was not asked about.
func (m *Machine) notAsked(a *answer) {
	for _, s := range m.state.Settings() {
		identity, custom := s.Name == "role" || s.Name == "session_authorization", strings.IndexByte(s.Name, '.') > 0
		if !custom && (identity && !a.scope.identity || !identity && !a.scope.settings) {
			a.settings = append(a.settings, s)
		}
	}
}

// mentionsSluice reports whether a text may speak of a statement of Sluice's by its name.
func mentionsSluice(text string) bool {
	return strings.Contains(strings.ToLower(text), prepared.Prefix)
}

// customOf returns the names of custom settings; of the others that were asked about there are none.
func customOf(settings []sessionstate.Setting) (names []string) {
	for _, s := range settings {
		if strings.IndexByte(s.Name, '.') > 0 {
			names = append(names, s.Name)
		}
	}
	return names
}

// textRow returns the values of a DataRow in text; nil is NULL.
func textRow(body []byte) (fields []*string, ok bool) {
	if len(body) < 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		if len(body) < 4 {
			return nil, false
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if size < 0 {
			fields = append(fields, nil)
			continue
		}
		if size > len(body) {
			return nil, false
		}
		value := string(body[:size])
		fields, body = append(fields, &value), body[size:]
	}
	return fields, len(body) == 0
}

// arrayText is a text[] as Postgres reads it.
func arrayText(elements []string) *string {
	quoted := make([]string, len(elements))
	for i, e := range elements {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(e) + `"`
	}
	s := "{" + strings.Join(quoted, ",") + "}"
	return &s
}

func boolText(b bool) *string {
	s := "f"
	if b {
		s = "t"
	}
	return &s
}
