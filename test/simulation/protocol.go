package simulation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// Errors of Postgres's own words.
func errAborted() error {
	return &sqlError{"25P02", "current transaction is aborted, commands ignored until end of transaction block"}
}

func errNoStatement(name string) error {
	return &sqlError{"26000", fmt.Sprintf("prepared statement %q does not exist", name)}
}

// take does what a message says.
func (b *backend) take(m message) error {
	if b.skipping && m.typ != wire.Sync && m.typ != wire.Terminate {
		return nil
	}
	switch m.typ {
	case wire.Terminate:
		_ = b.pause(b.pg.moodNow().slowClose + between(b.rng, 0, 40*time.Millisecond))
		return errTerminated
	case wire.Query:
		delete(b.statements, "")
		if err := b.simple(m.body); err != nil {
			return err
		}
		return b.ready()
	case wire.Sync:
		b.skipping = false
		if b.status == 'I' {
			if err := b.commit(); err != nil {
				return err
			}
		}
		return b.ready()
	case wire.Flush:
		return b.flush()
	case wire.CopyData, wire.CopyDone, wire.CopyFail:
		return nil // of a COPY that has failed
	}
	err := b.extended(m)
	if e, ok := errors.AsType[*sqlError](err); ok {
		b.skipping = true
		return b.fail(e)
	}
	return err
}

// fail says at once what went wrong, and rolls back.
func (b *backend) fail(e *sqlError) error {
	b.pending = nil
	if b.status == 'T' {
		b.status = 'E'
	}
	return b.send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: e.code, Message: e.message})
}

// commit commits what is pending, and may take its time to say so, or die.
func (b *backend) commit() error {
	if len(b.pending) == 0 {
		return nil
	}
	b.pg.w.note(b.name(), "commits %v", b.pending)
	b.pg.w.ledger.commit(b.pending)
	b.pending = nil
	switch {
	case chance(b.rng, 2):
		b.kill(death(b.rng.Uint32() % uint32(numDeaths)))
		return errKilled
	case chance(b.rng, 20):
		return b.pause(between(b.rng, 0, 20*time.Millisecond))
	}
	return nil
}

// ready ends the answer to a Query or Sync.
func (b *backend) ready() error {
	if b.status == 'I' {
		clear(b.portals)
		b.owner.free()
		if b.local {
			b.zone, b.local = b.outer, false
		}
	}
	var msgs []wire.Message
	if b.zone != b.reportedZone {
		b.reportedZone = b.zone
		msgs = append(msgs, &pgproto3.ParameterStatus{Name: "TimeZone", Value: b.zone})
	}
	if b.application != b.reportedAppName {
		b.reportedAppName = b.application
		msgs = append(msgs, &pgproto3.ParameterStatus{Name: "application_name", Value: b.application})
	}
	return b.send(append(msgs, &pgproto3.ReadyForQuery{TxStatus: b.status})...)
}

// simple runs the statements of a Query.
func (b *backend) simple(body []byte) error {
	text, rest, ok := wire.CString(body)
	if !ok || len(rest) > 0 {
		b.pg.w.violation("%s was sent a malformed Query %q", b.name(), body)
	}
	parts := strings.Split(string(text), "; ")
	for i, part := range parts {
		err := b.simpleOne(part, i == len(parts)-1)
		if e, ok := errors.AsType[*sqlError](err); ok {
			return b.fail(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) simpleOne(text string, last bool) error {
	s := parseStatement(text)
	if s.garbled(text) {
		b.pg.w.violation("%s was sent %q, which no client has sent", b.name(), text)
	}
	err := b.execute(s, s.stamp, true)
	if err == nil && last && b.status == 'I' {
		err = b.commit()
	}
	if err != nil {
		return err
	}
	return b.put(&pgproto3.CommandComplete{CommandTag: []byte(b.tag(s))})
}

// extended deals with a message of the extended query protocol.
func (b *backend) extended(m message) error {
	switch m.typ {
	case wire.Parse:
		var p pgproto3.Parse
		return errors.Join(p.Decode(m.body), b.parse(&p))
	case wire.Bind:
		var p pgproto3.Bind
		if err := p.Decode(m.body); err != nil {
			return err
		}
		return b.bind(&p)
	case wire.Describe:
		var p pgproto3.Describe
		return errors.Join(p.Decode(m.body), b.describe(&p))
	case wire.Execute:
		var p pgproto3.Execute
		return errors.Join(p.Decode(m.body), b.runPortal(&p))
	case wire.Close:
		var p pgproto3.Close
		if err := p.Decode(m.body); err != nil {
			return err
		}
		if p.ObjectType == 'S' {
			delete(b.statements, p.Name)
		} else {
			delete(b.portals, p.Name)
		}
		return b.put(&pgproto3.CloseComplete{})
	}
	b.pg.w.violation("%s was sent a message %q", b.name(), m.typ)
	return errTerminated
}

func (b *backend) parse(p *pgproto3.Parse) error {
	s := parseStatement(p.Query)
	if s.garbled(p.Query) {
		b.pg.w.violation("%s was sent %q to parse, which no client has sent", b.name(), p.Query)
	}
	if p.Name == "" {
		delete(b.statements, "")
	}
	_, taken := b.statements[p.Name]
	switch {
	case strings.HasPrefix(p.Query, "SYNTAX"):
		return &sqlError{"42601", "syntax error in " + p.Query}
	case b.status == 'E' && !s.ends():
		return errAborted()
	case taken && p.Name != "":
		return &sqlError{"42P05", fmt.Sprintf("prepared statement %q already exists", p.Name)}
	}
	b.statements[p.Name] = s
	return b.put(&pgproto3.ParseComplete{})
}

func (b *backend) bind(p *pgproto3.Bind) error {
	s, ok := b.statements[p.PreparedStatement]
	switch {
	case !ok:
		return errNoStatement(p.PreparedStatement)
	case b.status == 'E' && !s.ends():
		return errAborted()
	}
	b.portals[p.DestinationPortal] = portal{s, p.Parameters}
	return b.put(&pgproto3.BindComplete{})
}

func (b *backend) describe(p *pgproto3.Describe) error {
	s, ok := b.statements[p.Name]
	if p.ObjectType == 'P' {
		var at portal
		if at, ok = b.portals[p.Name]; !ok {
			return &sqlError{"34000", fmt.Sprintf("portal %q does not exist", p.Name)}
		}
		s = at.statement
	}
	switch {
	case !ok:
		return errNoStatement(p.Name)
	case b.status == 'E' && s.returnsRows():
		return errAborted()
	}
	var msgs []wire.Message
	if p.ObjectType == 'S' {
		msgs = append(msgs, &pgproto3.ParameterDescription{ParameterOIDs: []uint32{25}})
	}
	if !s.returnsRows() {
		return b.put(append(msgs, &pgproto3.NoData{})...)
	}
	return b.put(append(msgs, columns())...)
}

// runPortal runs a portal.
func (b *backend) runPortal(p *pgproto3.Execute) error {
	at, ok := b.portals[p.Portal]
	if !ok {
		return &sqlError{"34000", fmt.Sprintf("portal %q does not exist", p.Portal)}
	}
	stamp := at.stamp
	if stamp == "" && len(at.params) > 0 {
		stamp = string(at.params[0])
	}
	if at.verb == verbOwn {
		if err := b.executeOwn(at); err != nil {
			return err
		}
	} else if err := b.execute(at.statement, stamp, false); err != nil {
		return err
	}
	return b.put(&pgproto3.CommandComplete{CommandTag: []byte(b.tag(at.statement))})
}

// columns describes every result: the stamp, and what the row says.
func columns() *pgproto3.RowDescription {
	return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{Name: []byte("stamp"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1},
		{Name: []byte("row"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1},
	}}
}
