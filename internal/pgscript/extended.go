package pgscript

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// portal is a bound statement and how far it has been read.
type portal struct {
	sql  string
	args [][]byte
	ran  bool
	done result
	at   int
}

// extended does what a message of the extended protocol says.
func (c *ServerConn) extended(msg pgproto3.FrontendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.Parse:
		if len(splitTop(m.Query, ';')) > 1 {
			return sqlErrorf("42601", "cannot insert multiple commands into a prepared statement")
		}
		sql := strings.TrimRight(strings.TrimSpace(m.Query), ";")
		if err := c.prepare(m.Name, statement{sql: sql, params: parameters(sql, m.ParameterOIDs)}); err != nil {
			return err
		}
		c.be.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		return c.bind(m)
	case *pgproto3.Describe:
		return c.describe(m)
	case *pgproto3.Execute:
		return c.executePortal(m)
	case *pgproto3.Close:
		if m.ObjectType == 'S' {
			delete(c.statements, m.Name)
		} else {
			delete(c.portals, m.Name)
		}
		c.be.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Flush:
		return c.be.Flush()
	default:
		return fatal("08P01", "invalid frontend message: "+Format(msg))
	}
	return nil
}

// prepare keeps a statement, for Parse and for PREPARE.
func (c *ServerConn) prepare(name string, st statement) error {
	switch verb, _, _ := strings.Cut(st.sql, " "); {
	case st.sql == "":
	case !known(verb):
		return syntaxError(verb)
	case c.aborted(verb):
		return abortedError()
	}
	if _, taken := c.statements[name]; taken && name != "" {
		return sqlErrorf("42P05", "prepared statement %q already exists", name)
	}
	c.statements[name] = st
	return nil
}

func (c *ServerConn) bind(m *pgproto3.Bind) error {
	st, err := c.statement(m.PreparedStatement)
	if err != nil {
		return err
	}
	if len(m.Parameters) != len(st.params) {
		return sqlErrorf("08P01", "bind message supplies %d parameters, but prepared statement %q requires %d",
			len(m.Parameters), m.PreparedStatement, len(st.params))
	}
	if _, taken := c.portals[m.DestinationPortal]; taken && m.DestinationPortal != "" {
		return sqlErrorf("42P03", "portal %q already exists", m.DestinationPortal)
	}
	p := &portal{sql: st.sql}
	for _, v := range m.Parameters {
		p.args = append(p.args, slices.Clone(v))
	}
	c.portals[m.DestinationPortal] = p
	c.be.Send(&pgproto3.BindComplete{})
	return nil
}

func (c *ServerConn) statement(name string) (statement, error) {
	st, ok := c.statements[name]
	switch {
	case ok:
		return st, nil
	case name == "":
		return st, sqlErrorf("26000", "unnamed prepared statement does not exist")
	}
	return st, sqlErrorf("26000", "prepared statement %q does not exist", name)
}

func (c *ServerConn) portal(name string) (*portal, error) {
	p, ok := c.portals[name]
	if !ok {
		return nil, sqlErrorf("34000", "portal %q does not exist", name)
	}
	return p, nil
}

func (c *ServerConn) describe(m *pgproto3.Describe) error {
	var sql string
	if m.ObjectType == 'S' {
		st, err := c.statement(m.Name)
		if err != nil {
			return err
		}
		c.be.Send(&pgproto3.ParameterDescription{ParameterOIDs: st.params})
		sql = st.sql
	} else {
		p, err := c.portal(m.Name)
		if err != nil {
			return err
		}
		sql = p.sql
	}
	if columns := outline(sql); columns != nil {
		c.be.Send(describe(columns))
	} else {
		c.be.Send(&pgproto3.NoData{})
	}
	return nil
}

func (c *ServerConn) executePortal(m *pgproto3.Execute) error {
	p, err := c.portal(m.Portal)
	if err != nil {
		return err
	}
	if err := c.pause(c.server.now().QueryDelay); err != nil {
		return err
	}
	if p.sql == "" {
		c.be.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	if !p.ran {
		if p.done, err = c.execute(p.sql, p.args); err != nil {
			return err
		}
		p.ran = true
	}
	p.at, err = c.send(p.done, p.at, int(m.MaxRows))
	return err
}
