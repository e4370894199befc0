package sessionstate

import "strings"

// anywhere are the names that count inside of literals and comments too. Others run from there only through
// something that is a signal by itself.
const anywhere = SetConfig | PreparedStatements | Temp | AdvisoryLock | Sequence | Setseed | Dblink | Nextval | sawSettings

// prefixed takes E'…', U&'…' and U&"…", the scanner being behind the letter, and reports whether there was one.
// B'…', X'…' and N'…' are a word and a plain string.
func (s *scanner) prefixed(letter byte) bool {
	rest := s.src[s.pos:]
	switch {
	case lower(letter) == 'e' && rest[0] == '\'':
		s.escapeString()
	case lower(letter) == 'u' && strings.HasPrefix(rest, "&'"):
		s.pos++
		s.plainString()
	case lower(letter) == 'u' && strings.HasPrefix(rest, `&"`):
		s.pos++
		if content, _, _ := strings.Cut(s.src[s.pos+1:], `"`); strings.IndexByte(content, '\\') >= 0 {
			s.found |= Ambiguous // the name is not what it looks like
		}
		s.quotedIdentifier()
	default:
		return false
	}
	return true
}

// plainString takes '…'. A doubled quote comes out as two strings side by side, which ends at the same place. Whether
// a backslash hides the quote behind it hangs on standard_conforming_strings, unless it is itself hidden.
func (s *scanner) plainString() {
	start := s.pos + 1
	n := strings.IndexByte(s.src[start:], '\'')
	if n < 0 {
		s.unterminated(start)
		return
	}
	content := s.src[start : start+n]
	if hidden := backslashes(content); hidden%2 == 1 || halved(content, hidden) {
		s.found |= Ambiguous
	}
	s.pos = start + n + 1
	s.block(content, false)
	s.literal(content)
}

// escapeString takes '…' in which backslashes escape.
func (s *scanner) escapeString() {
	start := s.pos + 1
	for end := start; ; end++ {
		n := strings.IndexByte(s.src[end:], '\'')
		if n < 0 {
			s.unterminated(start)
			return
		}
		content := s.src[end : end+n]
		end += n
		hidden := backslashes(content)
		if halved(content, hidden) {
			s.found |= Ambiguous
		}
		switch {
		case hidden%2 == 1:
		case end+1 < len(s.src) && s.src[end+1] == '\'':
			end++
		default:
			s.pos = end + 1
			s.block(s.src[start:end], false)
			s.literal(s.src[start:end])
			return
		}
	}
}

// backslashes counts those at the end of content.
func backslashes(content string) int {
	return len(content) - len(strings.TrimRight(content, `\`))
}

// halved reports whether the first of the n backslashes at the end of content may be the second half of a character
// in another encoding: the byte before it is not ASCII.
func halved(content string, n int) bool {
	before := len(content) - n - 1
	return n > 0 && before >= 0 && content[before] >= 0x80
}

// quotedIdentifier takes "…"; a doubled quote comes out as two side by side.
func (s *scanner) quotedIdentifier() {
	start := s.pos + 1
	n := strings.IndexByte(s.src[start:], '"')
	if n < 0 {
		s.unterminated(start)
		return
	}
	content := s.src[start : start+n]
	s.pos = start + n + 1
	s.collector.identifier(content, s.prev)
	s.seeds(content, s.lead == kwSet)
	s.languageOf(content == "plpgsql")
	if is(content, "set_config") {
		s.feed(tokSetConfig)
		return
	}
	s.names(content, ^Signals(0))
	s.feed(tokQuoted)
}

// dollar takes a parameter like $1, a dollar-quoted string, or a stray dollar sign.
func (s *scanner) dollar() {
	end := s.pos + 1
	if end < len(s.src) && classes[s.src[end]] == dig {
		s.pos = end
		s.parameter()
		return
	}
	for end < len(s.src) && classes[s.src[end]]-let <= dig-let {
		end++
	}
	if end == len(s.src) || s.src[end] != '$' {
		if end < len(s.src) && s.src[end-1] >= 0x80 && mayBeTrail(s.src[end]) {
			s.found |= Ambiguous // a tag that goes on, in another encoding
		}
		s.symbol()
		return
	}
	tag, start := s.src[s.pos:end+1], end+1
	n := strings.Index(s.src[start:], tag)
	if n < 0 {
		s.unterminated(start)
		return
	}
	s.pos = start + n + len(tag)
	s.block(s.src[start:start+n], true)
	s.literal(s.src[start : start+n])
}

// block takes a literal that may be the body of a DO: what it says is done by the statement. verbatim is false if quotes or
// escapes may stand in it for something else.
func (s *scanner) block(content string, verbatim bool) {
	switch {
	case s.lead != kwDo || s.body || s.state == starting:
	case s.prev == tokString, !verbatim && strings.ContainsAny(content, `'\`):
		s.found |= Dynamic
	default:
		body := scanner{src: content, state: starting, body: true, collector: s.collector}
		s.found |= body.run()
	}
}

// literal takes the string that has been read; pos is behind it. One that stands some way behind another may be its
// continuation.
func (s *scanner) literal(content string) {
	s.names(content, anywhere)
	s.languageOf(false)
	if s.call.open && s.call.depth == 1 && s.call.commas == 0 {
		s.seeds(content, true)
		s.collector.argument(content)
	} else if s.prev == tokOpen {
		s.collector.read(content)
	}
	switch continued := s.prev == tokString && s.stringEnd+len(content)+len("''") != s.pos; {
	case readsClock(content):
		s.found |= Clock
	case continued || strings.IndexByte(content, '\\') >= 0:
		s.found |= MaybeClock
	}
	s.stringEnd = s.pos
	s.feed(tokString)
}

// readsClock reports whether content holds one of the words that stand for a time that passes. Postgres splits the text of
// a date at everything that is not a letter.
func readsClock(content string) bool {
	for i := 0; i < len(content); i++ {
		start := i
		for i < len(content) && lower(content[i])-'a' < 26 {
			i++
		}
		switch word := content[start:i]; len(word) {
		case len("now"), len("today"), len("tomorrow"), len("yesterday"):
			if is(word, "now") || is(word, "today") || is(word, "tomorrow") || is(word, "yesterday") {
				return true
			}
		}
	}
	return false
}

// maxParameter is the highest that Bind can have.
const maxParameter = 1<<16 - 1

func (s *scanner) parameter() {
	n := 0
	for s.pos < len(s.src) && classes[s.src[s.pos]] == dig {
		n = min(n*10+int(s.src[s.pos]-'0'), maxParameter+1)
		s.pos++
	}
	if s.call.open && s.call.commas == 0 && n <= maxParameter {
		s.call.param = n
	}
	s.feed(tokOther)
}

func (s *scanner) lineComment() {
	start := s.pos
	for s.pos < len(s.src) && s.src[s.pos] != '\n' && s.src[s.pos] != '\r' {
		s.pos++
	}
	s.names(s.src[start:s.pos], anywhere)
}

// blockComment takes a comment with the comments inside it.
func (s *scanner) blockComment() {
	start := s.pos
	depth := 1
	for i := start + 2; i+1 < len(s.src); i++ {
		switch {
		case s.src[i] == '/' && s.src[i+1] == '*':
			depth++
			i++
		case s.src[i] == '*' && s.src[i+1] == '/':
			depth--
			i++
		}
		if depth == 0 {
			s.pos = i + 1
			s.names(s.src[start:s.pos], anywhere)
			return
		}
	}
	s.unterminated(start)
}

// unterminated ends the scan inside of something that began before start and never ends.
func (s *scanner) unterminated(start int) {
	s.found |= Ambiguous
	s.names(s.src[start:], anywhere)
	s.pos = len(s.src)
}

// names looks for the names in content, a literal or comment, and notes those in mask. It splits words wider than
// the lexer does, at the dollar signs of an inner quote and behind a backslash, which may be part of an escape.
func (s *scanner) names(content string, mask Signals) {
	for i := 0; i < len(content); {
		if classes[content[i]] != let {
			i++
			continue
		}
		start := i
		for i++; i < len(content) && classes[content[i]]-let <= dig-let; i++ {
		}
		if i-start < minName {
			continue
		}
		var found Signals
		if mayBeName(content[start:i]) {
			found = mentioned(content[start:i])
		}
		if start > 0 && content[start-1] == '\\' {
			found |= mentioned(content[start+1 : i])
		}
		s.found |= found & mask
		if found&mask&SetConfig != 0 && s.lead != kwDo { // the body of a DO is scanned by itself
			s.collector.hidden()
		}
	}
}
