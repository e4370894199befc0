package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// owed is the answer to one message.
type owed struct {
	kind       byte        // type of the message
	statements []statement // Query: those that are still to be answered; their stamps are set
	stamp      string      // Execute
	name       string      // Parse, Bind, Close, Describe of a statement
	text       statement   // Parse: what the name is to mean
	broken     bool        // Parse: the text is none
	portal     bool        // Describe

	described bool // the rows of the first statement have been described
	rows      int  // of it, that have come
	copied    strings.Builder
	params    bool // Describe: the parameters have been described
}

func (o *owed) String() string {
	return fmt.Sprintf("%c %s%s %v", o.kind, o.name, o.stamp, o.statements)
}

// conversation is what a client is owed, and what it has that Postgres knows by name.
type conversation struct {
	owed     []*owed
	skipping bool // an error has come, and the Sync that ends that has not been sent
	names    map[string]statement
	bound    statement // the portal
	zone     string
	ended    bool
	pinned   bool // by what it has sent
	pace     time.Duration
	copying  func() error // sends what a COPY waits for

	unanswered bool // something was owed when the connection ended
}

func newConversation() conversation {
	return conversation{names: make(map[string]statement), zone: defaultZone}
}

// push adds what is owed for a message that is to be sent.
func (c *client) push(o *owed) {
	if c.skipping && o.kind != wire.Sync {
		c.failed(o.stamps(), "skipped")
		return
	}
	c.note("asks %v", o)
	c.owed = append(c.owed, o)
	if o.kind == wire.Sync {
		c.skipping = false
	}
}

// collect reads until nothing is owed. It reports false if the session is over.
func (c *client) collect() bool {
	for len(c.owed) > 0 && !c.ended {
		msg, err := c.receive()
		if err != nil {
			c.over(err)
			break
		}
		c.take(msg)
	}
	return !c.ended
}

// take holds a message against what is owed.
func (c *client) take(msg pgproto3.BackendMessage) {
	c.note("gets %T", msg)
	switch m := msg.(type) {
	case *pgproto3.NoticeResponse:
		c.notice(m)
		return
	case *pgproto3.ParameterStatus:
		c.parameter(m)
		return
	case *pgproto3.ErrorResponse:
		if m.Severity == "FATAL" {
			c.fatal(m)
		} else {
			c.error(m)
		}
		return
	}
	if len(c.owed) == 0 {
		c.violation("%T %+v, and nothing is owed", msg, msg)
		return
	}
	head := c.owed[0]
	complete, ok := false, false
	switch head.kind {
	case wire.Query, wire.Execute:
		complete, ok = c.takeResult(head, msg)
	case wire.Parse:
		_, ok = msg.(*pgproto3.ParseComplete)
		complete = true
		c.checkSuccess(ok && (head.name == "" || c.names[head.name].verb == "") && !head.broken && (c.block != 'E' || head.text.ends()), head)
		c.names[head.name] = head.text
	case wire.Bind:
		_, ok = msg.(*pgproto3.BindComplete)
		complete = true
		c.bound = c.names[head.name]
		c.checkSuccess(c.bound.verb != "" && (c.block != 'E' || c.bound.ends()), head)
	case wire.Close:
		_, ok = msg.(*pgproto3.CloseComplete)
		complete = true
		delete(c.names, head.name)
	case wire.Describe:
		complete, ok = c.takeDescription(head, msg)
	case wire.Sync:
		complete, ok = c.takeReady(msg)
	}
	if !ok {
		c.violation("%T %+v in answer to %v", msg, msg, head)
	}
	if complete {
		c.pop()
	}
}

func (c *client) pop() {
	if len(c.owed) > 0 {
		c.owed = c.owed[1:]
	}
}

func (c *client) checkSuccess(ok bool, o *owed) {
	if !ok {
		c.violation("%v has succeeded", o)
	}
}

// takeResult deals with the answer to a Query or an Execute.
func (c *client) takeResult(o *owed, msg pgproto3.BackendMessage) (complete, ok bool) {
	if m, is := msg.(*pgproto3.ReadyForQuery); is && o.kind == wire.Query {
		if len(o.statements) > 0 {
			return true, false
		}
		delete(c.names, "")
		return c.takeReady(m)
	}
	s := c.current(o)
	if s.verb == "" {
		return false, false
	}
	if c.block == 'E' && !s.ends() {
		c.violation("%T for %s in a transaction that has failed", msg, s.stamp)
	}
	switch m := msg.(type) {
	case *pgproto3.RowDescription:
		ok = o.kind == wire.Query && s.returnsRows() && !o.described
		o.described = true
	case *pgproto3.DataRow:
		ok = (o.described || o.kind == wire.Execute) && c.row(s, o.rows, m.Values)
		o.rows++
	case *pgproto3.CopyInResponse:
		ok = s.verb == verbCopyIn
		if send := c.copying; ok && send != nil {
			c.copying = nil
			_ = send() // if it fails the session is over, and reading says so
		}
	case *pgproto3.CopyOutResponse:
		ok = s.verb == verbCopyOut
	case *pgproto3.CopyData:
		ok = s.verb == verbCopyOut
		o.copied.Write(m.Data)
	case *pgproto3.CopyDone:
		ok = s.verb == verbCopyOut && o.copied.String() == copyText(s, s.stamp)
	case *pgproto3.CommandComplete:
		ok = c.completes(o, s, string(m.CommandTag))
		c.done(s, s.stamp, string(m.CommandTag))
		complete = o.kind == wire.Execute
		if !complete {
			o.statements, o.described, o.rows = o.statements[1:], false, 0
			o.copied.Reset()
		}
	}
	return complete, ok
}

// current returns the statement that is being answered.
func (c *client) current(o *owed) statement {
	switch {
	case o.kind == wire.Execute:
		s := c.bound
		s.stamp = o.stamp
		return s
	case len(o.statements) > 0:
		return o.statements[0]
	}
	return statement{}
}

// completes checks the tag and that everything has come before it.
func (c *client) completes(o *owed, s statement, tag string) bool {
	want := s.tag()
	if s.verb == verbCommit && c.block == 'E' {
		want = verbRollback
	}
	rows := 0
	switch s.verb {
	case verbSelect:
		rows = s.rows
	case verbShow:
		rows = 1
	}
	if s.verb == verbSet {
		c.zone = s.zone
	}
	return tag == want && o.rows == rows && !s.fails
}

// row checks one row.
func (c *client) row(s statement, i int, values [][]byte) bool {
	if len(values) != 2 || string(values[0]) != s.stamp {
		return false
	}
	if s.verb == verbShow {
		return string(values[1]) == c.zone+" "+c.who.application
	}
	return string(values[1]) == s.row(i)
}

func (c *client) takeDescription(o *owed, msg pgproto3.BackendMessage) (complete, ok bool) {
	s := c.names[o.name]
	if o.portal {
		s = c.bound
	}
	switch m := msg.(type) {
	case *pgproto3.ParameterDescription:
		ok = !o.portal && !o.params && s.verb != "" && len(m.ParameterOIDs) == 1
		o.params = true
		return false, ok
	case *pgproto3.RowDescription:
		return true, s.returnsRows() && o.params != o.portal && c.block != 'E'
	case *pgproto3.NoData:
		return true, s.verb != "" && !s.returnsRows() && o.params != o.portal
	}
	return true, false
}

// takeReady deals with ReadyForQuery: what was done outside of a block is committed now.
func (c *client) takeReady(msg pgproto3.BackendMessage) (complete, ok bool) {
	m, ok := msg.(*pgproto3.ReadyForQuery)
	if !ok {
		return true, false
	}
	if m.TxStatus == 'I' {
		c.resolve(toldCommitted, "its answer")
		c.commitSent = false
	}
	return true, m.TxStatus == c.block
}

// notice checks that a notice is the client's.
func (c *client) notice(m *pgproto3.NoticeResponse) {
	if m.Message == unasked {
		return
	}
	if len(c.owed) > 0 {
		if s := c.current(c.owed[0]); s.note && m.Message == "note of "+s.stamp {
			return
		}
	}
	c.violation("a notice that is not ours: %s", m.Message)
}

// parameter checks a setting that Postgres reports.
func (c *client) parameter(m *pgproto3.ParameterStatus) {
	want := map[string]string{"TimeZone": c.zone, "application_name": c.who.application}
	if value, known := want[m.Name]; known && value != m.Value {
		c.violation("%s is reported to be %q, not %q", m.Name, m.Value, value)
	}
}
