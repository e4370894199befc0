package sessionstate

import (
	"slices"
	"strings"
)

// Code is what the code of a database may do to a session behind a statement. The zero value may do nothing.
type Code struct {
	Opaque  bool // some of it may change the session
	Unknown bool // in ways that Postgres cannot be asked about afterwards
	Defines bool // some of it may make other code

	// What Postgres is to be asked about.
	Settings bool     // settings other than custom ones
	Identity bool     // who the session acts as
	Locks    bool     // advisory locks of the session
	Objects  bool     // temporary objects, cursors, channels
	Custom   []string // custom settings, by their names in small letters, without doubles
}

// askableCode are the signals of what code can be asked about. PREPARE and DO are not among them: inside of code, what they
// say is not read.
const askableCode = Set | SetConfig | Hold | Temp | AdvisoryLock | Listen | Unlisten | Call

// maxCodeNames bounds the custom settings that are asked about one by one.
const maxCodeNames = 128

// Add adds the source of a function in SQL or PL/pgSQL, or an expression out of the catalogs. It reports whether it may
// change the session.
func (c *Code) Add(source string) (opaque bool) {
	col := &collector{targets: true}
	s := scanner{src: source, state: starting, body: true, collector: col}
	found := s.run()
	c.Defines = c.Defines || found&(DDL|Dynamic|Ambiguous) != 0
	if !found.Sticky() {
		return false
	}
	c.Opaque = true
	c.Unknown = c.Unknown || !found.Within(askableCode) || col.unknown || len(col.params) > 0
	c.Locks = c.Locks || found&AdvisoryLock != 0
	c.Objects = c.Objects || found&(Hold|Temp|Listen|Unlisten) != 0
	if found&(Set|SetConfig) != 0 {
		c.Identity = c.Identity || MayNameUser(source)
		for _, name := range col.names {
			c.name(strings.ToLower(name))
		}
	}
	return true
}

// AddUnreadable adds code of which nothing is known.
func (c *Code) AddUnreadable() { c.Opaque, c.Unknown, c.Defines = true, true, true }

func (c *Code) name(name string) {
	switch {
	case name == "local" || name == "session" || name == "to": // words of SET
	case strings.IndexByte(name, '.') <= 0:
		c.Settings = true
	case slices.Contains(c.Custom, name):
	case len(c.Custom) == maxCodeNames:
		c.Unknown = true
	default:
		c.Custom = append(c.Custom, name)
	}
}

// Equal reports whether both may do the same. nil is code that is not known.
func (c *Code) Equal(other *Code) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.Opaque == other.Opaque && c.Unknown == other.Unknown && c.Defines == other.Defines && c.Settings == other.Settings && c.Identity == other.Identity &&
		c.Locks == other.Locks && c.Objects == other.Objects && slices.Equal(c.Custom, other.Custom)
}
