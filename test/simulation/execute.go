package simulation

import (
	"bytes"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// execute runs a statement with its stamp up to its CommandComplete. described says that the rows are described first, as
// in the answer to a Query.
func (b *backend) execute(s statement, stamp string, described bool) error {
	if s.verb == verbOwn {
		return b.executeOwn(portal{statement: s})
	}
	b.owner.use(sessionOf(stamp))
	if b.status == 'E' && !s.ends() {
		return errAborted()
	}
	b.pg.w.note(b.name(), "runs %s %s", s.verb, stamp)
	b.pg.w.ledger.run(stamp)
	if err := b.linger(s, stamp); err != nil {
		return err
	}
	if s.note {
		if err := b.send(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "note of " + stamp}); err != nil {
			return err
		}
	}
	switch s.verb {
	case verbSelect, verbShow:
		return b.query(s, stamp, described)
	case verbInsert:
		b.pending = append(b.pending, stamp)
	case verbBegin:
		b.status = 'T'
	case verbCommit:
		if b.status == 'T' {
			b.status = 'I'
			return b.commit()
		}
	case verbSet:
		b.owner.kept = true
		b.zone, b.local = s.zone, false
	case verbCopyIn:
		return b.copyIn(s, stamp)
	case verbCopyOut:
		return b.copyOut(s, stamp)
	}
	return nil
}

// tag returns the tag of a statement that has been run, and ends the transaction block if that is what it does.
func (b *backend) tag(s statement) string {
	if s.verb == verbOwn {
		return "SELECT 1" // nobody looks
	}
	if !s.ends() {
		return s.tag()
	}
	failed := b.status == 'E'
	b.status, b.pending = 'I', nil
	if failed || s.verb == verbRollback {
		return verbRollback
	}
	return verbCommit
}

// linger takes the time that the statement takes; sometimes it takes much longer, or the backend dies.
func (b *backend) linger(s statement, stamp string) error {
	d := s.sleep
	switch {
	case s.ends():
		return nil
	case chance(b.rng, 0.3):
		b.kill(death(b.rng.Uint32() % uint32(numDeaths)))
		return errKilled
	case chance(b.rng, 0.3):
		d = between(b.rng, time.Second, 6*time.Second)
	}
	if d == 0 {
		return nil
	}
	return b.work(stamp, func(interrupted <-chan struct{}) error {
		select {
		case <-time.After(d):
			return nil
		case <-b.killed:
			return errKilled
		case <-interrupted:
			return &sqlError{"57014", "canceling statement due to user request: " + stamp}
		}
	})
}

// query sends rows.
func (b *backend) query(s statement, stamp string, described bool) error {
	if described {
		if err := b.put(columns()); err != nil {
			return err
		}
	}
	if s.verb == verbShow {
		return b.put(&pgproto3.DataRow{Values: [][]byte{[]byte(stamp), []byte(b.zone + " " + b.application)}})
	}
	for i := range s.rows {
		if s.fails && i >= s.rows/2 {
			break
		}
		if err := b.put(&pgproto3.DataRow{Values: [][]byte{[]byte(stamp), []byte(s.row(i))}}); err != nil {
			return err
		}
	}
	if s.fails {
		return &sqlError{"22012", "failed as it was told: " + stamp}
	}
	return nil
}

// copyIn takes lines, each of which must be one of the statement's.
func (b *backend) copyIn(s statement, stamp string) error {
	if err := b.put(&pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0, 0}}); err != nil {
		return err
	}
	if err := b.flush(); err != nil {
		return err
	}
	var data []byte
	err := b.work(stamp, func(interrupted <-chan struct{}) error {
		for {
			m, err := b.next(interrupted)
			if err != nil {
				return err
			}
			switch m.typ {
			case wire.CopyData:
				data = append(data, m.body...)
			case wire.CopyDone:
				return nil
			case wire.CopyFail:
				return &sqlError{"57014", "COPY from stdin failed: " + stamp}
			case wire.Flush, wire.Sync:
			default:
				return &sqlError{"08P01", "unexpected message during COPY from stdin: " + stamp}
			}
		}
	})
	if err != nil {
		return err
	}
	if want := copyText(s, stamp); !bytes.Equal(data, []byte(want)) {
		b.pg.w.violation("%s: COPY of %s got %d bytes %.80q, want %d bytes %.80q", b.name(), stamp, len(data), data, len(want), want)
	}
	b.pending = append(b.pending, stamp)
	return nil
}

func (b *backend) copyOut(s statement, stamp string) error {
	if err := b.put(&pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0, 0}}); err != nil {
		return err
	}
	for l := range strings.Lines(copyText(s, stamp)) {
		if err := b.put(&pgproto3.CopyData{Data: []byte(l)}); err != nil {
			return err
		}
	}
	return b.put(&pgproto3.CopyDone{})
}

// copyText is what a COPY carries, in whichever direction.
func copyText(s statement, stamp string) string {
	var text strings.Builder
	for i := range s.rows {
		text.WriteString(stamp + "\t" + s.row(i) + "\n")
	}
	return text.String()
}

// executeOwn runs what Sluice has injected.
func (b *backend) executeOwn(p portal) error {
	b.pg.w.note(b.name(), "runs for Sluice: %.50s %q", p.text, p.params)
	b.owner.inject(p.text)
	if b.pg.moodNow().sabotage {
		return &sqlError{"58000", "sabotage of " + p.text}
	}
	switch {
	case p.text == "ROLLBACK":
		b.status, b.pending = 'I', nil
	case p.text == "DISCARD ALL":
		b.zone, b.application = defaultZone, b.startApplication
		clear(b.statements)
	case p.text == ownBegin:
		b.pg.w.outcomes.add("backend: state carried in the client's write")
		b.status = 'T'
	case p.text == ownCommit:
		b.status = 'I'
	case p.text == ownSet && len(p.params) == 2:
		b.local = false
		return b.set(string(p.params[0]), p.params[1])
	case p.text == ownSetLocal && len(p.params) == 2:
		if !b.local {
			b.local, b.outer = true, b.zone
		}
		return b.set(string(p.params[0]), p.params[1])
	case strings.HasPrefix(p.text, ownCalm):
		b.pg.w.outcomes.add("backend: asked again without a timeout")
		return b.put(&pgproto3.DataRow{Values: [][]byte{[]byte("t"), []byte("statement_timeout"), []byte("0"), []byte("0")}})
	case strings.HasPrefix(p.text, ownAsk):
		return b.confess()
	default:
		return errTerminated // what is it?
	}
	return nil
}

// set is set_config; nil is the default.
func (b *backend) set(name string, value []byte) error {
	setting, byDefault := &b.zone, defaultZone
	if name == "application_name" {
		setting, byDefault = &b.application, b.startApplication
	} else if name != "TimeZone" {
		b.pg.w.violation("%s was asked to set %q to %q, which no client does", b.name(), name, value)
	}
	if *setting = byDefault; value != nil {
		*setting = string(value)
	}
	return b.put(&pgproto3.DataRow{Values: [][]byte{[]byte(*setting)}})
}

// confess says what the session has left: its time zone, which can be carried elsewhere, and what cannot.
func (b *backend) confess() error {
	rows := []wire.Message{&pgproto3.DataRow{Values: [][]byte{[]byte("s"), []byte("role"), []byte("none"), []byte("none")}}}
	if b.zone != defaultZone {
		rows = append(rows, &pgproto3.DataRow{Values: [][]byte{[]byte("s"), []byte("TimeZone"), []byte(b.zone), []byte(defaultZone)}})
	}
	if b.owner.kept = strings.HasPrefix(b.zone, held); b.owner.kept {
		rows = append(rows, &pgproto3.DataRow{Values: [][]byte{[]byte("k"), []byte("advisory_lock"), nil, nil}})
	}
	return b.put(rows...)
}
