package relay

import (
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

const (
	// maxObserved bounds what an Observer tells apart.
	maxObserved = 500
	// maxSeen bounds the texts that it recognises without reading them again.
	maxSeen = 4096
	// shownOfLong is how much of a statement that is too long is waited for, to tell it from others.
	shownOfLong = 4 << 10 // 4 KiB
	// maxApplication is how much of an application_name Postgres keeps (NAMEDATALEN - 1).
	maxApplication = 63
)

// Effect is what a shared session makes of a statement that may change it.
type Effect string

// The effects, from the cheapest on.
const (
	Asks      Effect = "asks"        // what the session holds is asked behind its transaction, and carried
	Pins      Effect = "pins"        // and the backend stays with it until Postgres says that nothing is left
	PinsToEnd Effect = "pins_to_end" // the backend stays with it to its end, and is closed then
)

// Weight orders effects.
func (e Effect) Weight() int {
	switch e {
	case Asks:
		return 1
	case Pins:
		return 2
	case PinsToEnd:
		return 3
	}
	return 0
}

// Observed is a statement of a session of its own that would have an effect in a shared one.
type Observed struct {
	Application string
	Statement   string // its fingerprint; empty for a function called by number
	Reason      string // as that of a pin
	Effect      Effect
}

// Observer collects what machines of sessions of their own see that would have an effect in shared ones. The zero value is
// off and costs nothing. It belongs to a loop; what it keeps is bounded.
type Observer struct {
	seed    maphash.Seed
	seen    map[uint64]*uint64   // counters of rows, by text and application
	rows    map[Observed]*uint64 // nil: it is off
	looked  uint64
	omitted uint64
}

// Start makes it observe; what it has is kept.
func (o *Observer) Start() {
	if o.rows == nil {
		o.seed = maphash.MakeSeed()
		o.seen, o.rows = make(map[uint64]*uint64), make(map[Observed]*uint64)
	}
}

// Stop turns it off and forgets what it has.
func (o *Observer) Stop() { *o = Observer{} }

// Drain passes on what it has seen since it was started or drained last, with how often, and forgets it. looked is the
// number of texts, omitted that of those for which there was no more room.
func (o *Observer) Drain(pass func(Observed, uint64)) (looked, omitted uint64) {
	for row, n := range o.rows {
		pass(row, *n)
	}
	looked, omitted = o.looked, o.omitted
	if o.rows != nil {
		o.Stop()
		o.Start()
	}
	return looked, omitted
}

func (o *Observer) on() bool { return o != nil && o.rows != nil }

// text notes a text whose statement has a name or not. shared says whether others may deliver what shared sessions listen to.
func (o *Observer) text(application string, text []byte, named, shared bool) {
	o.looked++
	s := sessionstate.Scan(text)
	if s.Within(harmless) && (!named || s&sessionstate.Clock == 0) && !(s.Sticky() && mentionsSluice(string(text))) || o.again(application, text, shared) {
		return
	}
	effect, reason := foresee(s, string(text), named, shared)
	counter := o.counter(Observed{applicationName(application), sessionstate.Fingerprint(string(text)), reason, effect})
	*counter++
	if len(o.seen) >= maxSeen {
		clear(o.seen)
	}
	o.seen[o.key(application, text, shared)] = counter
}

// unread notes what is not looked at, with the beginning of its text if it has one.
func (o *Observer) unread(application string, text []byte, reason string) {
	o.looked++
	*o.counter(Observed{applicationName(application), sessionstate.Fingerprint(string(text)), reason, PinsToEnd})++
}

// again counts a text that has been seen before.
func (o *Observer) again(application string, text []byte, shared bool) bool {
	counter := o.seen[o.key(application, text, shared)]
	if counter == nil {
		return false
	}
	*counter++
	return true
}

func (o *Observer) key(application string, text []byte, shared bool) uint64 {
	key := maphash.String(o.seed, application)*31 + maphash.Bytes(o.seed, text)
	if shared {
		return ^key
	}
	return key
}

// counter returns that of the row, or that of what was omitted if there is no room for one more.
func (o *Observer) counter(row Observed) *uint64 {
	counter := o.rows[row]
	if counter == nil && len(o.rows) >= maxObserved {
		return &o.omitted
	}
	if counter == nil {
		counter = new(uint64)
		o.rows[row] = counter
	}
	return counter
}

// applicationName cuts off what Postgres does, so that no client can make rows long.
func applicationName(s string) string {
	if len(s) > maxApplication {
		end := maxApplication
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.ToValidUTF8(s, "?")
}

// foresee returns what a shared session would make of a text with signals that bind it, or with a clock, in a statement that has
// a name or not, where others may deliver what it listens to, or not.
func foresee(s sessionstate.Signals, text string, named, shared bool) (Effect, string) {
	const settings = sessionstate.Set | sessionstate.SetConfig | sessionstate.Do
	asks := s&sessionstate.Sequence != 0
	s &^= sessionstate.Sequence
	switch {
	case named && s&sessionstate.Clock != 0:
		return PinsToEnd, PinClock
	case !s.Within(askable), s&byName != 0 && mentionsSluice(text):
		return PinsToEnd, s.First()
	case s&settings != 0:
		if names, _, ok := sessionstate.CustomNames(text); !ok || len(names) > maxCustom {
			return PinsToEnd, s.First()
		}
	}
	asked := settings | sessionstate.Call | prepares
	if shared {
		asked |= sessionstate.Listen | sessionstate.Unlisten
	}
	switch s &^= harmless; {
	case s&sessionstate.Prepare != 0 && s&sessionstate.Clock != 0:
		return PinsToEnd, PinClock
	case asks: // behind transactions that write
		return Pins, sessionstate.Sequence.First()
	case s.Within(asked):
		return Asks, s.First()
	}
	return Pins, s.First()
}

// observe shows the observer a message of a session of its own. A text has to be held whole for that, as in a shared one.
func (m *Machine) observe(c *call) Next {
	o := m.p.Observer
	switch {
	case c.typ == wire.FunctionCall && len(c.body()) < 4 && !c.whole():
		return More
	case c.typ == wire.FunctionCall && !largeObjectFunction(c.body()):
		o.unread(m.application, nil, PinFunctionCall)
	case c.typ == wire.Query:
		return m.observeText(c, c.body(), false)
	case c.typ == wire.Parse:
		name, text, _ := wire.CString(c.body())
		return m.observeText(c, text, len(name) > 0)
	}
	return proceed
}

func (m *Machine) observeText(c *call, text []byte, named bool) Next {
	long := c.total > maxScan
	if !c.whole() && (!long || len(c.msg) < shownOfLong) {
		return More
	}
	if long {
		m.p.Observer.unread(m.application, text[:min(len(text), shownOfLong)], PinLarge)
	} else if text, _, ok := wire.CString(text); ok { // if not, Postgres will say what is wrong with it
		m.p.Observer.text(m.application, text, named, m.p.Shared != nil && *m.p.Shared)
	}
	return proceed
}
