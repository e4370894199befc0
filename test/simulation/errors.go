package simulation

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// error deals with an ERROR: it must be one that what is owed can meet, and takes the transaction with it.
func (c *client) error(m *pgproto3.ErrorResponse) {
	if len(c.owed) == 0 {
		c.violation("ERROR %s %s, and nothing is owed", m.Code, m.Message)
		return
	}
	head := c.owed[0]
	c.note("ERROR %s %s", m.Code, m.Message)
	c.w.outcomes.add("error: " + m.Code)
	if !c.expected(head, m) {
		c.violation("ERROR %s %s in answer to %v in block %c", m.Code, m.Message, head, c.block)
	}
	c.copying = nil
	if head.kind == wire.Parse && head.name == "" {
		delete(c.names, "")
	}
	if head.kind == wire.Query {
		c.failed(head.stamps(), m.Code)
		head.statements = nil
		return
	}
	c.skip(m.Code)
}

// skip drops what is owed up to the next Sync.
func (c *client) skip(code string) {
	c.skipping = true
	for len(c.owed) > 0 && c.owed[0].kind != wire.Sync {
		c.failed(c.owed[0].stamps(), code)
		c.owed = c.owed[1:]
	}
	if len(c.owed) > 0 {
		c.skipping = false
	}
}

// stamps returns the stamps of what has not succeeded.
func (o *owed) stamps() (stamps []string) {
	for _, s := range o.statements {
		stamps = append(stamps, s.stamp)
	}
	if o.stamp != "" {
		stamps = append(stamps, o.stamp)
	}
	return stamps
}

// expected reports whether what is owed first can be answered with this error.
func (c *client) expected(o *owed, m *pgproto3.ErrorResponse) bool {
	s := c.current(o)
	switch m.Code {
	case "57014":
		if strings.Contains(m.Message, "COPY from stdin failed: ") {
			return s.verb == verbCopyIn && strings.HasSuffix(m.Message, s.stamp)
		}
		_, stamp, stamped := strings.Cut(m.Message, ": ")
		return c.mayBeCancelled() && (!stamped || stamp == s.stamp)
	case "25P02":
		return c.block == 'E'
	case "22012":
		return s.fails && strings.HasSuffix(m.Message, s.stamp)
	case "42601":
		return o.broken
	case "26000":
		return (o.kind == wire.Bind || o.kind == wire.Describe) && c.names[o.name].verb == ""
	case "42P05":
		return c.block != 'E' && o.kind == wire.Parse && c.names[o.name].verb != "" && strings.Contains(m.Message, `"`+o.name+`"`)
	case "34000":
		return o.portal || o.kind == wire.Execute
	case "58000": // a statement could not be parsed under the settings that it was prepared under
		return strings.HasSuffix(m.Message, ownSetLocal) && o.kind != wire.Query
	}
	return false
}

// mayBeCancelled reports whether a statement of the client may be cancelled.
func (c *client) mayBeCancelled() bool {
	l, _ := c.w.crowd.of(c.life.session)
	limit := c.w.rules.queryLimit()
	return !l.cancelled.IsZero() && time.Since(l.cancelled) <= lateness ||
		limit > 0 && time.Since(l.working) >= limit || !l.slow.IsZero() && time.Since(l.slow) <= lateness
}
