package sessionstate

import "strings"

// piece is a token of a text and where it stands in it.
type piece struct {
	token
	text string
	from int
}

func (p piece) to() int { return p.from + len(p.text) }

// word reports whether p is the unquoted word want, which is in small letters, in any case.
func (p piece) word(want string) bool { return p.token >= tokWord && is(p.text, want) }

// cutter cuts a text into pieces, as the scanner reads it.
type cutter struct{ scanner }

func newCutter(sql string) *cutter { return &cutter{scanner{src: sql, state: starting}} }

// next returns the next piece; ok is false at the end of the text. White space and comments are none.
func (c *cutter) next() (p piece, ok bool) {
	for c.pos < len(c.src) {
		from := c.pos
		c.take()
		text := c.src[from:c.pos]
		if classes[text[0]] == spc || strings.HasPrefix(text, "--") || strings.HasPrefix(text, "/*") {
			continue
		}
		return piece{c.prev, strings.TrimSuffix(text, " "), from}, true // a word takes the blank behind it along
	}
	return piece{}, false
}

// take is the body of the loop in run, which has it in place because a call costs a tenth of a scan.
func (c *cutter) take() {
	switch classes[c.src[c.pos]] {
	case spc:
		c.pos++
	case let:
		c.word()
	case dig:
		c.number()
	case sqt:
		c.plainString()
	case dqt:
		c.quotedIdentifier()
	case dol:
		c.dollar()
	case das, sla:
		c.operatorOrComment()
	default:
		c.symbol()
	}
}

// statements returns the pieces of the statements in sql that are not empty. ok is false if it is not certain where they end.
func statements(sql string) (all [][]piece, ok bool) {
	c := newCutter(sql)
	var one []piece
	depth := 0
	for p, more := c.next(); more; p, more = c.next() {
		switch {
		case p.token == tokOpen:
			depth++
		case p.token == tokClose:
			depth--
		case p.word("atomic"):
			return nil, false // a function's body may follow, with statements of its own
		}
		if p.token == tokSemicolon && depth == 0 {
			if len(one) > 0 {
				all = append(all, one)
			}
			one = nil
			continue
		}
		one = append(one, p)
	}
	if len(one) > 0 {
		all = append(all, one)
	}
	return all, depth == 0 && c.found&Ambiguous == 0
}

// name returns the name that the first pieces are, as Postgres reads it, and how many pieces those are; 0 if they are none.
func name(pieces []piece) (name string, n int) {
	switch {
	case len(pieces) == 0 || !isName(pieces[0].token):
		return "", 0
	case pieces[0].token != tokQuoted:
		return lowered(pieces[0].text), 1
	case pieces[0].text[0] != '"':
		return "", 0 // U&"…"
	}
	return quoted(pieces, tokQuoted, `"`), adjacent(pieces, tokQuoted)
}

// adjacent returns how many pieces of that kind stand at the beginning with nothing between them: one literal, as a doubled
// quote in it stands between two pieces.
func adjacent(pieces []piece, kind token) (n int) {
	for n < len(pieces) && pieces[n].token == kind && (n == 0 || pieces[n].from == pieces[n-1].to()) {
		n++
	}
	return n
}

// quoted returns what the literal says with which the pieces begin.
func quoted(pieces []piece, kind token, quote string) string {
	var text strings.Builder
	for _, p := range pieces[:adjacent(pieces, kind)] {
		text.WriteString(p.text)
	}
	inner := text.String()
	return strings.ReplaceAll(inner[1:len(inner)-1], quote+quote, quote)
}

// lowered returns a name as Postgres folds it: ASCII letters are made small, others as the encoding has it.
func lowered(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}

// PrepareClause returns the PREPARE in sql that gives a statement that name: all of sql if there is nothing else in it. ok is
// false if that is not certain.
func PrepareClause(sql, statement string) (clause string, ok bool) {
	all, ok := statements(sql)
	if !ok {
		return "", false
	}
	found := 0
	for _, pieces := range all {
		if as, n := name(pieces[1:]); pieces[0].token != kwPrepare || n == 0 || as != statement ||
			pieces[1].token == kwTransaction && len(pieces) == 3 && pieces[2].token == tokString {
			continue
		}
		found++
		clause = sql[pieces[0].from:pieces[len(pieces)-1].to()]
	}
	if found == 1 && len(all) == 1 {
		clause = sql
	}
	return clause, found == 1
}
