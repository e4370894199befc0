package sessionstate

import "unsafe"

// Scan reads the text of a simple Query or a Parse and returns everything in it that could change what the session
// holds. It knows no grammar: it errs to more signals, never to fewer, for all settings and encodings the text may
// run under. It takes one pass, does not allocate, and keeps no reference to sql.
//
// Words that begin a statement count where a statement can begin; names of functions and schemas count wherever
// they stand, in literals and comments too.
func Scan(sql []byte) Signals { return ScanString(view(sql)) }

// ScanString is Scan for a string.
func ScanString(sql string) Signals {
	s := scanner{src: sql, state: starting}
	return s.run()
}

// ScanBody is Scan for the source of a function in SQL or PL/pgSQL (pg_proc.prosrc). Statements begin behind BEGIN,
// THEN, ELSE and LOOP too, END does not commit, and EXECUTE is Dynamic. For other languages, and for SQL bodies that
// are kept parsed (prosrc is empty), it says nothing.
func ScanBody(prosrc []byte) Signals {
	s := scanner{src: view(prosrc), state: starting, body: true}
	return s.run()
}

// view is b as a string, without a copy; it lives no longer than the scan that asked for it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// scanner is one pass over a text: the functions in this file and literal.go cut it into tokens, those in
// statement.go judge them.
type scanner struct {
	src   string
	pos   int
	body  bool // the text is a function's source
	found Signals

	updates bool // there is an UPDATE
	state   state
	lead    token // the first token of the statement
	prev    token // the token before this one
	call    configCall

	stringEnd int  // where the last string ended
	language  bool // the last token is the LANGUAGE of a DO
	collector *collector
}

func (s *scanner) run() Signals {
	for s.pos < len(s.src) {
		switch classes[s.src[s.pos]] {
		case spc:
			s.pos++
		case let:
			s.word()
		case dig:
			s.number()
		case sqt:
			s.plainString()
		case dqt:
			s.quotedIdentifier()
		case dol:
			s.dollar()
		case das, sla:
			s.operatorOrComment()
		default:
			s.symbol()
		}
	}
	s.feed(tokSemicolon)
	if s.updates && s.found&sawSettings != 0 {
		s.found |= SetConfig
		s.collector.hidden()
	}
	return s.found &^ sawSettings
}

// symbol takes one byte that is a token.
func (s *scanner) symbol() {
	t := symbols[classes[s.src[s.pos]]]
	s.pos++
	s.feed(t)
}

// word takes an identifier or keyword, or the literal that a single letter introduces.
func (s *scanner) word() {
	src, start, end := s.src, s.pos, s.pos+1
	for end < len(src) && inIdentifier(src[end]) {
		end++
	}
	s.pos = end
	if end < len(src) {
		switch next := src[end]; {
		case next == ' ':
			s.pos++
		case end-start == 1 && (next == '\'' || next == '&') && s.prefixed(src[start]):
			return
		case src[end-1] >= 0x80 && mayBeTrail(next) && s.splits(end+1):
			s.found |= Ambiguous
		}
	}
	s.bareWord(src[start:end])
}

// splits reports whether it matters that the identifier that ended before at may go on in another encoding: what
// stands there would be a quote's beginning, or not, for that.
func (s *scanner) splits(at int) bool {
	end := at
	for ; end < len(s.src) && inIdentifier(s.src[end]); end++ {
		if s.src[end] == '$' {
			return true
		}
	}
	return end > at && end < len(s.src) && (s.src[end] == '\'' || s.src[end] == '&')
}

// bareWord judges an unquoted word: as a keyword, unless a dot makes it a column's or a function's name, and as a name.
func (s *scanner) bareWord(word string) {
	s.collector.identifier(word, s.prev)
	s.seeds(word, s.lead == kwSet)
	s.languageOf(is(word, "plpgsql"))
	s.language = s.lead == kwDo && is(word, "language")
	t := tokWord
	if s.prev != tokDot {
		t = keyword(word)
	}
	if mayBeName(word) {
		names := mentioned(word)
		if names == SetConfig && is(word, "set_config") {
			t = tokSetConfig
		} else {
			s.found |= names
		}
	}
	s.feed(t)
}

// seeds takes what may be the name of a setting: to set seed, if only for a transaction, is setseed.
func (s *scanner) seeds(name string, sets bool) {
	if sets && is(name, "seed") {
		s.found |= Setseed
	}
}

// languageOf takes what follows LANGUAGE in a DO: a body in a language that the scanner does not know may do anything.
func (s *scanner) languageOf(known bool) {
	if s.language && !known {
		s.found |= Dynamic
	}
	s.language = false
}

// number takes digits and dots. What follows them begins a new token even if it is a letter: old Postgres reads
// 1INTO as two.
func (s *scanner) number() {
	for s.pos++; s.pos < len(s.src); s.pos++ {
		if c := s.src[s.pos]; classes[c] != dig && c != '.' {
			break
		}
	}
	s.feed(tokOther)
}

// operatorOrComment is at a dash or slash. Two dashes, or a slash and a star, begin a comment even inside an operator.
func (s *scanner) operatorOrComment() {
	var next byte
	if s.pos+1 < len(s.src) {
		next = s.src[s.pos+1]
	}
	switch c := s.src[s.pos]; {
	case c == '-' && next == '-':
		s.lineComment()
	case c == '/' && next == '*':
		s.blockComment()
	default:
		s.symbol()
	}
}
