// Package prepared interns prepared statements and keeps each client's names apart from each backend's.
//
// A Table belongs to one pool and one baseline (the start-up parameters that its backends were opened with), so all
// statements in it are parsed under the same settings and the text with its parameter types is key enough: Postgres folds
// literals at Parse, hence a statement prepared under one TimeZone must never serve a client with another.
//
// Nothing here is safe for concurrent use: a Table, and the Clients and Backends that use it, belong to one loop.
package prepared

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Prefix starts the name of every statement that Sluice prepares on a backend.
const Prefix = "sluice_"

// Statement is a statement's text and parameter types, with the name under which backends know it.
type Statement struct {
	Name    string // on backends; unique in its Table
	Signals uint32 // what sessionstate.Scan says of the text; valid once Scanned
	Scanned bool
	Proven  bool // some backend has prepared it
	SQL     bool // it is made by running its text, a PREPARE, not by a Parse

	// Print tells the text from others, and Inert says that it runs no code, as in sessionstate.Digest; valid once Digested.
	Print    uint64
	Inert    bool
	Digested bool

	// Result tells apart what clients have been told that it returns: names and types of columns; 0 if they have not asked.
	// Changed says that it returns something else now: Postgres would refuse to run it.
	Result  uint64
	Changed bool

	// Unsettled says that it, which is private, was parsed while settings may have been others than its Table's.
	Unsettled bool
	// Stopgap says that it, which is private, stands in for one of its Table's where settings may have been others.
	Stopgap bool

	seen  bool   // it has been an unnamed statement before, see Table.SeenBefore
	body  string // query, NUL, parameter types: a Parse message without its name
	table *Table
	refs  int
}

// Body returns the body of a Parse message behind the name: query, zero byte, parameter types. That of an SQL statement is no
// such thing, but tells it apart from others just as well.
func (s *Statement) Body() string { return s.body }

// Query returns the statement's text.
func (s *Statement) Query() string {
	for i := 0; i < len(s.body); i++ {
		if s.body[i] == 0 {
			return s.body[:i]
		}
	}
	return s.body
}

// In reports whether s is a statement of t.
func (s *Statement) In(t *Table) bool { return s.table == t }

// ParsedUnder returns the settings under which s is parsed, see Table.Under.
func (s *Statement) ParsedUnder() string { return s.table.key }

// UsedUnder reports whether s is for sessions with these settings, see Table.Under.
func (s *Statement) UsedUnder(now string) bool { return s.table.now == now }

// Settle takes note that s, which is private and Unsettled, was parsed under the settings of t.
func (s *Statement) Settle(t *Table) { s.table, s.Unsettled = t, false }

// Forget has s not shared any more. Clients that have it keep it.
func (s *Statement) Forget() {
	if s.table.byBody[s.body] == s {
		delete(s.table.byBody, s.body)
	}
}

// Retain adds a reference.
func (s *Statement) Retain() { s.refs++ }

// Release takes a reference back; the last one removes s from its Table. A nil s is ignored.
func (s *Statement) Release() {
	if s == nil {
		return
	}
	s.refs--
	if s.refs < 0 {
		panic("bug: prepared statement released twice")
	}
	if s.refs == 0 && s.table.byBody[s.body] == s {
		delete(s.table.byBody, s.body)
	}
}

const (
	// maxRecent is how many unnamed statements are remembered that nobody uses.
	maxRecent = 512
	// maxRecentBody is the longest that is.
	maxRecentBody = 8 << 10 // 8 KiB
)

// Table holds the statements of one pool and baseline.
type Table struct {
	byBody map[string]*Statement
	next   uint64

	recent []*Statement // a ring of unnamed statements that have been seen, with a reference to each
	oldest int

	root     *Table            // which numbers the statements
	key, now string            // of a variant, see Under
	variants map[string]*Table // the root's: for sessions with other settings
}

// maxVariants is how many variants of a Table are kept that hold nothing.
const maxVariants = 256

// NewTable returns an empty Table.
func NewTable() *Table {
	t := &Table{byBody: make(map[string]*Statement)}
	t.root = t
	return t
}

// Variant returns the table of statements that are parsed under settings other than the baseline's, which key tells apart;
// that for the empty one is t itself. Their names differ from those in t.
func (t *Table) Variant(key string) *Table { return t.Under(key, key) }

// Under returns the table of statements that are parsed under some settings and used under others, which they may come to mean
// when Postgres has to look at them again. Both are names with values, each with a zero byte behind it.
func (t *Table) Under(parse, now string) *Table {
	key := now
	if parse != now {
		key = parse + "\x00" + now
	}
	if key == "" {
		return t
	}
	if v := t.variants[key]; v != nil {
		return v
	}
	if t.variants == nil {
		t.variants = make(map[string]*Table)
	}
	if len(t.variants) >= maxVariants {
		maps.DeleteFunc(t.variants, func(_ string, v *Table) bool { return v.Idle() })
	}
	v := &Table{byBody: make(map[string]*Statement), root: t, key: parse, now: now}
	t.variants[key] = v
	return v
}

// Idle reports whether nobody but t knows its statements: they are those that SeenBefore remembers.
func (t *Table) Idle() bool { return len(t.byBody) == len(t.recent) }

// Len returns how many shared statements are interned.
func (t *Table) Len() int { return len(t.byBody) }

// Intern returns the statement with this body (see Statement.Body), one reference added for the caller. body is copied
// only if it has not been seen.
func (t *Table) Intern(body []byte) *Statement {
	if s, ok := t.byBody[string(body)]; ok {
		s.refs++
		return s
	}
	s := t.newStatement(string(body))
	t.byBody[s.body] = s
	return s
}

// sqlMark ends the body of an SQL statement. No Parse message ends so: behind the query's zero byte the number of types takes
// two bytes and each of them four.
const sqlMark = "\x00SQL"

// SQLBody returns the body of the SQL statement that the clause prepares.
func SQLBody(clause string) string { return clause + sqlMark }

// Find returns the statement with this body if it is shared, nil if not, without a reference.
func (t *Table) Find(body []byte) *Statement { return t.byBody[string(body)] }

// Private returns a statement with this body that no other client will ever share, one reference added for the caller.
// It is for text that is parsed under settings which differ from the baseline's, or that must be parsed anew.
func (t *Table) Private(body string) *Statement {
	return t.newStatement(body)
}

// Age has no statement shared that is known now: after a change of the schema the same text may mean something else.
// Clients that have one keep it.
func (t *Table) Age() {
	for _, s := range t.recent {
		s.Release()
	}
	t.recent, t.oldest = nil, 0
	clear(t.byBody)
	for _, v := range t.variants {
		v.Age()
	}
}

// SeenBefore takes note that s, which is shared, is a client's unnamed statement, and reports whether it has been one
// before. Statements that nobody uses are forgotten when as many others have been seen since.
func (t *Table) SeenBefore(s *Statement) bool {
	if s.seen || len(s.body) > maxRecentBody {
		return s.seen
	}
	s.seen = true
	s.Retain()
	if len(t.recent) < maxRecent {
		t.recent = append(t.recent, s)
		return false
	}
	t.recent[t.oldest].Release()
	t.recent[t.oldest] = s
	t.oldest = (t.oldest + 1) % maxRecent
	return false
}

func (t *Table) newStatement(body string) *Statement {
	t.root.next++
	s := &Statement{Name: Prefix + strconv.FormatUint(t.root.next, 10), body: body, table: t, refs: 1}
	s.SQL = len(s.Query())+len(sqlMark) == len(body)
	return s
}

// Client keeps the names of one client's statements. The zero value is ready to use. It holds a reference to each.
type Client struct {
	named   map[string]*Statement
	unnamed *Statement
	sql     int // of named: SQL statements
}

// Lookup returns what the name means to the client, nil if nothing. The empty name is the unnamed statement.
func (c *Client) Lookup(name []byte) *Statement {
	if len(name) == 0 {
		return c.unnamed
	}
	return c.named[string(name)]
}

// Swap makes name mean s (nil: nothing) and returns what it meant before. References move with the statements: that of s
// from the caller to c, that of the result from c to the caller.
func (c *Client) Swap(name string, s *Statement) (before *Statement) {
	if name == "" {
		before, c.unnamed = c.unnamed, s
		return before
	}
	before = c.named[name]
	if before != nil && before.SQL {
		c.sql--
	}
	if s != nil && s.SQL {
		c.sql++
	}
	switch {
	case s == nil:
		delete(c.named, name)
	case c.named == nil:
		c.named = map[string]*Statement{name: s}
	default:
		c.named[name] = s
	}
	return before
}

// NameOf returns a name by which the client knows s; that of the unnamed statement, which is empty, before others, and if it
// has none.
func (c *Client) NameOf(s *Statement) string {
	if c.unnamed == s {
		return ""
	}
	for name, other := range c.named {
		if other == s {
			return name
		}
	}
	return ""
}

// Named calls f for each named statement, in no order.
func (c *Client) Named(f func(name string, s *Statement)) {
	for name, s := range c.named {
		f(name, s)
	}
}

// Names returns the names of the named statements, the shorter ones first and those of a length in alphabetical order: names that
// are numbered come as their numbers do.
func (c *Client) Names() []string {
	return slices.SortedFunc(maps.Keys(c.named), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
}

// Len returns how many named statements the client has.
func (c *Client) Len() int { return len(c.named) }

// SQL reports whether some of them are SQL statements.
func (c *Client) SQL() bool { return c.sql > 0 }

// ClearNamed forgets the named statements.
func (c *Client) ClearNamed() {
	for _, s := range c.named {
		s.Release()
	}
	*c = Client{unnamed: c.unnamed}
}

// Clear forgets all and releases the references.
func (c *Client) Clear() {
	c.ClearNamed()
	c.unnamed.Release()
	*c = Client{}
}
