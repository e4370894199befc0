package simulation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Verbs of the statements that the model Postgres knows.
const (
	verbSelect   = "SELECT"
	verbInsert   = "INSERT"
	verbBegin    = "BEGIN"
	verbCommit   = "COMMIT"
	verbRollback = "ROLLBACK"
	verbCopyIn   = "COPYIN"
	verbCopyOut  = "COPYOUT"
	verbShow     = "SHOW"
	verbSet      = "SET"
	verbOwn      = "" // Sluice's
)

// held begins the time zones that stand for something that cannot be carried to another backend.
const held = "Held/"

// statement is a statement of a client: what it does stands in its text, so that both sides know.
type statement struct {
	verb  string
	stamp string // names the client's session and the statement; empty: it is the first parameter
	mark  string // of a text that clients share
	rows  int
	width int // of each row, beside the stamp
	sleep time.Duration
	fails bool // in the middle of its rows
	note  bool // it raises a notice
	zone  string
	text  string // of verbOwn
}

// stamp makes the stamp of the n-th statement of a session.
func stamp(session string, n int) string { return "t" + session + "n" + strconv.Itoa(n) }

// sessionOf returns the session that a stamp names.
func sessionOf(stamp string) string {
	session, _, _ := strings.Cut(strings.TrimPrefix(stamp, "t"), "n")
	return session
}

// String returns the SQL.
func (s statement) String() string {
	stamp := "$1"
	if s.stamp != "" {
		stamp = "'" + s.stamp + "'"
	}
	notes := s.notes()
	switch s.verb {
	case verbSelect:
		return "SELECT " + stamp + notes
	case verbInsert:
		return "INSERT INTO ledger VALUES (" + stamp + ")" + notes
	case verbCopyIn:
		return "COPY ledger FROM STDIN /* " + stamp + " */" + notes
	case verbCopyOut:
		return "COPY ledger TO STDOUT /* " + stamp + " */" + notes
	case verbShow:
		return "SHOW state /* " + stamp + " */" + notes
	case verbSet:
		return "SET TimeZone = " + s.zone + " /* " + stamp + " */"
	case verbOwn:
		return s.text
	}
	return s.verb + " /* " + stamp + " */"
}

func (s statement) notes() string {
	notes := fmt.Sprintf(" /* mark=%s rows=%d width=%d sleep=%d", s.mark, s.rows, s.width, s.sleep.Microseconds())
	if s.fails {
		notes += " fails"
	}
	if s.note {
		notes += " note"
	}
	return notes + " */"
}

// parseStatement understands what String has written; what it does not know is Sluice's own.
func parseStatement(text string) (s statement) {
	words := strings.Fields(text)
	if len(words) < 2 || text == ownBegin || strings.HasPrefix(text, ownCalm) {
		return statement{text: text}
	}
	switch {
	case strings.HasPrefix(text, "SELECT 't"), strings.HasPrefix(text, "SELECT $1"):
		s.verb = verbSelect
	case strings.HasPrefix(text, "COPY ledger FROM"):
		s.verb = verbCopyIn
	case strings.HasPrefix(text, "COPY ledger TO"):
		s.verb = verbCopyOut
	case words[0] == verbSet:
		s.verb, s.zone = verbSet, words[3]
	case words[0] == verbInsert, words[0] == verbShow, words[0] == verbBegin, words[0] == verbCommit,
		words[0] == verbRollback && words[1] == "/*":
		s.verb = words[0]
	default:
		return statement{text: text}
	}
	if _, rest, ok := strings.Cut(text, "'"); ok {
		s.stamp, _, _ = strings.Cut(rest, "'")
	}
	for _, word := range words {
		s.takeNote(word)
	}
	return s
}

// garbled reports whether the text is not, byte for byte, what String has written. Sluice's own statements never are.
func (s statement) garbled(text string) bool { return s.verb != verbOwn && s.String() != text }

func (s *statement) takeNote(word string) {
	name, value, _ := strings.Cut(word, "=")
	n, _ := strconv.Atoi(value)
	switch name {
	case "mark":
		s.mark = value
	case "rows":
		s.rows = n
	case "width":
		s.width = n
	case "sleep":
		s.sleep = time.Duration(n) * time.Microsecond
	case "fails":
		s.fails = true
	case "note":
		s.note = true
	}
}

// returnsRows reports whether the statement has a result.
func (s statement) returnsRows() bool { return s.verb == verbSelect || s.verb == verbShow }

// row returns what the second column of a result, or a line of a COPY, says.
func (s statement) row(i int) string {
	return s.mark + "/" + strconv.Itoa(i) + strings.Repeat("x", s.width)
}

// tag returns what ends the statement when it succeeds.
func (s statement) tag() string {
	switch s.verb {
	case verbSelect:
		return "SELECT " + strconv.Itoa(s.rows)
	case verbInsert:
		return "INSERT 0 1"
	case verbCopyIn, verbCopyOut:
		return "COPY " + strconv.Itoa(s.rows)
	}
	return s.verb
}

// ends reports whether the statement ends a transaction block.
func (s statement) ends() bool { return s.verb == verbCommit || s.verb == verbRollback }

// changes reports whether something is in the ledger when the statement is committed.
func (s statement) changes() bool { return s.verb == verbInsert || s.verb == verbCopyIn }
