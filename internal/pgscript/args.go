package pgscript

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"
)

// args takes a line's words one after the other and keeps the first error.
type args struct {
	words []word
	err   error
}

func (a *args) fail(format string, v ...any) {
	if a.err == nil {
		a.err = fmt.Errorf(format, v...)
	}
}

func (a *args) next() word {
	if len(a.words) == 0 {
		a.fail("a word is missing")
		return word{}
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) text() string { return a.next().text }

func (a *args) letter() byte {
	s := a.text()
	if len(s) != 1 {
		a.fail("%q is not one letter", s)
		return 0
	}
	return s[0]
}

func (a *args) number() uint32 {
	s := a.text()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		a.fail("%q is not a number", s)
	}
	return uint32(n)
}

// optional is a number, 0 if there is none.
func (a *args) optional() uint32 {
	if len(a.words) == 0 {
		return 0
	}
	return a.number()
}

func (a *args) numbers() (out []uint32) {
	for len(a.words) > 0 {
		out = append(out, a.number())
	}
	return out
}

func (a *args) values() (out [][]byte) {
	for len(a.words) > 0 {
		if w := a.next(); w.null() {
			out = append(out, nil)
		} else {
			out = append(out, []byte(w.text))
		}
	}
	return out
}

func (a *args) hex() []byte {
	s := a.text()
	b, err := hex.DecodeString(s)
	if err != nil {
		a.fail("%q is not hexadecimal", s)
	}
	return b
}

func (a *args) columns() *pgproto3.RowDescription {
	m := &pgproto3.RowDescription{}
	for len(a.words) > 0 {
		m.Fields = append(m.Fields, column(a.text(), a.number()))
	}
	return m
}

func (a *args) report() *pgproto3.ErrorResponse {
	m := &pgproto3.ErrorResponse{Severity: a.text(), Code: a.text(), Message: a.text()}
	m.SeverityUnlocalized = m.Severity
	if len(a.words) > 0 {
		m.Hint = a.text()
	}
	return m
}

// column describes a column in text format.
func column(name string, oid uint32) pgproto3.FieldDescription {
	return pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1}
}
