package relay

import (
	"slices"
	"strings"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// Check is how far code behind statements (functions, triggers, views) is trusted to leave sessions alone.
type Check uint8

// The checks.
const (
	Strict Check = iota // Postgres is asked after every transaction in which some may have run
	Learn               // it is asked after a sample of them, and after all that have been seen to change something
	Hint                // it is asked only where a text, or what Postgres reports, says that something may have changed
)

// Behind is what machines know of the code behind the statements of a database: the zero value nothing. It belongs to a loop.
type Behind struct {
	check   Check
	code    *sessionstate.Code // nil: not known
	quiet   bool               // statements run no code that is to be asked about
	changes uint32             // how often that has become another

	samples map[uint64]*sample // Learn: by the statement's fingerprint
	others  uint32             // runs of statements that are not in samples
}

// sample is what Learn knows of a statement.
type sample struct {
	runs    uint32
	changes bool // it was seen to change something
}

const (
	// firstRuns is after how many of a statement's first runs Postgres is asked under Learn, and everyRun after which of
	// the later ones.
	firstRuns, everyRun = 16, 64
	// maxSamples bounds the statements that are known one by one.
	maxSamples = 4096
	// maxSuspects bounds the statements of a transaction that are named if it turns out to have changed something.
	maxSuspects = 8
	// maxAnnounced bounds the texts that are kept to tell what they announce; more may announce anything.
	maxAnnounced = 64 << 10 // 64 KiB
)

// Set says what is known now: code is nil while it is not, or is being read again. code is not to be changed any more.
func (b *Behind) Set(check Check, code *sessionstate.Code) {
	if b.check == check && b.code.Equal(code) {
		return
	}
	b.check, b.code = check, code
	b.quiet = check == Hint || code != nil && !code.Opaque
	b.changes++
}

// Known reports whether there is nothing to wait for.
func (b *Behind) Known() bool { return b.code != nil || b.check != Strict }

// binds reports whether code may run that Postgres cannot be asked about.
func (b *Behind) binds() bool { return b.check == Strict && b.code != nil && b.code.Unknown }

// setsAny reports whether code may set more than custom settings, which have no say in how a text is parsed.
func (b *Behind) setsAny() bool {
	return b.code == nil || b.code.Settings || b.code.Identity || b.code.Unknown
}

// defines reports whether a procedure may make code.
func (b *Behind) defines() bool { return b.code == nil || b.code.Defines }

// due reports whether Postgres is to be asked after this run of a statement.
func (b *Behind) due(statement uint64) bool {
	if b.check == Strict {
		return true
	}
	s := b.samples[statement]
	switch {
	case s != nil:
	case len(b.samples) >= maxSamples:
		b.others++
		return b.others%everyRun == 0
	default:
		if b.samples == nil {
			b.samples = make(map[uint64]*sample)
		}
		s = &sample{}
		b.samples[statement] = s
	}
	s.runs++
	return s.changes || s.runs <= firstRuns || s.runs%everyRun == 0
}

// blame takes note that one of these statements has changed something.
func (b *Behind) blame(statements []uint64) {
	for _, statement := range statements {
		if s := b.samples[statement]; s != nil {
			s.changes = true
		}
	}
}

// Surprise is a change of a session's state that no statement's text has announced: it would have reached another client.
type Surprise struct {
	Statements []uint64 // fingerprints of those that may have made it, see sessionstate.Digest
	Names      []string // of the settings that differ, or words for what is held
	Discard    bool     // whose it is cannot be told: nobody gets it, and the backend is not used again
}

// TakeSurprise returns what there has been since the last call, nil if there has been none.
func (m *Machine) TakeSurprise() *Surprise {
	if m.doubt == nil {
		return nil
	}
	s := m.doubt.surprise
	m.doubt.surprise = nil
	return s
}

// runsStatement takes into account what may run behind a prepared statement that is about to be bound.
func (m *Machine) runsStatement(st *prepared.Statement) {
	if st == nil || m.p.Behind.quiet {
		return
	}
	m.runs(digestOf(st))
}

func digestOf(st *prepared.Statement) sessionstate.Digest {
	if !st.Digested {
		d := sessionstate.MakeDigest(st.Query())
		st.Print, st.Inert, st.Digested = d.Print, d.Inert, true
	}
	return sessionstate.Digest{Print: st.Print, Inert: st.Inert}
}

// runs is the same for any statement, where the code is not quiet.
func (m *Machine) runs(d sessionstate.Digest) {
	b := m.p.Behind
	switch {
	case d.Inert || m.forever:
		return
	case b.binds():
		m.pinForever(PinOpaque)
		return
	}
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	m.behind = true
	m.sampled = b.due(d.Print) || m.sampled
	if s := m.doubt.suspects; len(s) < maxSuspects && !slices.Contains(s, d.Print) {
		m.doubt.suspects = append(s, d.Print)
	}
}

// codeMayHaveRun decides at the end of a transaction whether Postgres is to be asked about the code that may have run in it.
// What was not known of it when the transaction ended may have run as well.
func (m *Machine) codeMayHaveRun() {
	if m.raw {
		return
	}
	b := m.p.Behind
	if m.changes != b.changes {
		m.changes = b.changes
		m.behind, m.sampled = m.behind || !b.quiet, true
	}
	unread := m.change == ChangedCode && b.check == Strict
	switch {
	case b.check == Hint:
		m.behind, m.backend.unasked = false, true
	case m.forever || !m.behind && !unread:
	case unread || !b.Known():
		m.Pin(PinOpaque)
		m.ask, m.unread = true, true
	case b.binds():
		m.pinForever(PinOpaque)
	case !m.sampled && !m.ask:
		m.behind, m.backend.unasked = false, true
		m.doubt.suspects = m.doubt.suspects[:0]
	default:
		m.ask = true
	}
}

// Unread reports whether the backend must stay until the code of the database is known, see CodeKnown.
func (m *Machine) Unread() bool { return m.unread }

// CodeKnown is to be called when the code of the database is known after it was not, and when the machine has settled: what
// waited for that is asked now, or when the transaction that is under way is over.
func (m *Machine) CodeKnown(toBackend *Out) {
	if !m.unread || !m.p.Behind.Known() || m.holding() || m.cancelling {
		return
	}
	m.unread = false
	if m.backend == nil || m.gone || !m.Quiet() || m.InBlock() {
		return
	}
	m.behind = true
	m.codeMayHaveRun()
	if m.ask && !m.raw {
		m.question(toBackend)
	}
}

// tell compares what Postgres has answered with what the session was known to have, and takes note of what no text has
// announced. Under Learn and Hint that may be what others have left there unnoticed: then it is not this session's, and the
// backend is not used again.
func (m *Machine) tell(a *answer) {
	d := m.doubt
	shared := m.backend.unasked
	announced := func(name string) bool {
		if !shared {
			return a.announced
		}
		return d.expects(name) || m.reports.isDirty(name)
	}
	var strange []string
	if m.withoutStrangers(a) {
		a.keeps = sessionstate.Prepare.First()
		strange = append(strange, a.keeps)
	} else if a.keeps != "" && a.keeps != d.keeps && !a.announced {
		strange = append(strange, a.keeps)
	}
	if a.keeps == "" || shared {
		strange = append(strange, m.strangeSettings(a, announced, shared)...)
	}
	if a.scope.objects && m.strangeChannels(a, shared) {
		strange = append(strange, pinListen)
	}
	if len(strange) > 0 {
		m.p.Counters.LeaksPrevented++
		m.p.Behind.blame(a.suspects)
		m.backend.tainted = m.backend.tainted || shared
		d.surprise = &Surprise{Statements: a.suspects, Names: strange, Discard: shared}
		if shared {
			a.keeps = d.keeps
		}
	}
	d.keeps = a.keeps
}

// strangeSettings returns the names of the answer's settings that have changed and were not announced. In a shared answer
// they are from now on as the session had them.
func (m *Machine) strangeSettings(a *answer, announced func(name string) bool, shared bool) (strange []string) {
	kept := a.settings[:0]
	for _, s := range a.settings {
		was, had := m.state.Value(s.Name)
		if !had && s.Value == "" && !slices.Contains(m.doubt.custom, s.Name) {
			continue // a custom setting of which only the name is left, of whoever had the backend before
		}
		same := had && was == s.Value || !had && s.Name == "role" && s.Value == "none"
		if !same && !announced(s.Name) {
			strange = append(strange, s.Name)
			switch {
			case shared && !had:
				continue
			case shared:
				s.Value = was
			}
		}
		kept = append(kept, s)
	}
	a.settings = kept
	if a.announced || shared {
		return strange
	}
	for _, s := range m.state.Settings() {
		if !slices.ContainsFunc(kept, func(k sessionstate.Setting) bool { return k.Name == s.Name }) {
			strange = append(strange, s.Name)
		}
	}
	return strange
}

// strangeChannels reports whether the answer's channels have changed and that was not announced. In a shared answer they are
// from now on as the session had them, but for those that were. (Names with escapes are ambiguous: such a session is raw.)
func (m *Machine) strangeChannels(a *answer, shared bool) (strange bool) {
	_, known := m.Listening()
	heard := sessionstate.NewChannels(a.channels)
	switch {
	case heard.Equal(known):
		return false
	case !shared:
		return !a.announced
	}
	a.channels = heard.Common(known)
	for _, name := range heard.Without(known) {
		if m.doubt.expects(strings.ReplaceAll(name, `"`, `""`)) {
			a.channels = append(a.channels, name)
		} else {
			strange = true
		}
	}
	if gone := known.Without(heard); len(gone) > 0 && !m.doubt.expects(pinUnlisten) {
		a.channels, strange = append(a.channels, gone...), true
	}
	return strange
}

// Mistrust takes note that something may have run on the backend that changed it and was not asked about: what it holds may be
// any client's.
func (b *Backend) Mistrust() { b.unasked = true }

// Worn reports whether the backend had better be replaced.
func (b *Backend) Worn() bool { return b.tainted || b.Backend.Worn() }
