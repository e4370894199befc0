package sessionstate

import (
	"strings"
	"unicode/utf8"
)

const (
	// maxFingerprint bounds a fingerprint in bytes.
	maxFingerprint = 240
	// maxFingerprinted is how much of a text is looked at.
	maxFingerprinted = 4 << 10 // 4 KiB
	// cutOff ends a fingerprint that is not that of the whole text.
	cutOff = " …"
)

// Fingerprint returns a text without what differs from one run to the next, for logs: literals, numbers and the values of SET
// are a question mark each, and so is a list of them; white space is one space, comments are gone. It is valid UTF-8, at
// most 240 bytes long, and holds nothing of a literal: where it cannot be told without the settings of the session where one
// ends, the fingerprint does.
func Fingerprint(sql string) string {
	f := fingerprint{src: sql}
	if len(sql) > maxFingerprinted {
		f.src, f.cut = sql[:maxFingerprinted], true
	}
	f.out.Grow(min(len(f.src), maxFingerprint+len(cutOff)))
	for f.pos < len(f.src) && f.out.Len() <= maxFingerprint {
		f.step()
	}
	return f.finish()
}

type fingerprint struct {
	src   string
	pos   int
	out   strings.Builder
	cut   bool // there was more
	words int  // of the statement so far
	alter bool // it is an ALTER
	set   bool // it is a SET, or has one, whose value is still to come
	muted bool // what comes is that value
	marks int  // 1: a question mark was written last, 2: and a comma behind it
	gap   bool // white space is still to be written
}

func (f *fingerprint) step() {
	c := f.src[f.pos]
	rest := f.src[f.pos:]
	switch {
	case classes[c] == spc:
		f.pos++
		f.gap = true
	case strings.HasPrefix(rest, "--"):
		f.skip(strings.IndexAny(rest, "\r\n"), 0)
		f.gap = true
	case strings.HasPrefix(rest, "/*"):
		f.comment()
	case c == '\'':
		f.literal(false)
	case c == '"':
		f.quoted()
	case c == '$':
		f.dollar()
	case classes[c] == dig, c == '.' && len(rest) > 1 && classes[rest[1]] == dig:
		f.number()
	case classes[c] == let:
		f.word()
	default:
		f.symbol()
	}
}

// skip goes on n bytes and what is behind them, or to the end of the text if n is negative.
func (f *fingerprint) skip(n, behind int) {
	if n < 0 {
		f.pos = len(f.src)
		return
	}
	f.pos += n + behind
}

// stop ends the fingerprint here.
func (f *fingerprint) stop() { f.pos, f.cut = len(f.src), true }

func (f *fingerprint) comment() {
	depth := 0
	for f.pos < len(f.src) {
		switch rest := f.src[f.pos:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			f.pos += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			f.pos += 2
			if depth == 0 {
				f.gap = true
				return
			}
		default:
			f.pos++
		}
	}
}

// literal takes '…'. Behind a backslash it hangs on settings where one ends that is not marked with an E, and on the encoding
// behind one that may be half a character.
func (f *fingerprint) literal(escapes bool) {
	for f.pos++; f.pos < len(f.src); f.pos++ {
		switch f.src[f.pos] {
		case '\\':
			if !escapes || f.src[f.pos-1] >= 0x80 {
				f.mark()
				f.stop()
				return
			}
			f.pos++
		case '\'':
			if f.pos++; f.pos < len(f.src) && f.src[f.pos] == '\'' {
				continue
			}
			f.mark()
			return
		}
	}
	f.mark()
}

// quoted takes "…", which is a name; one without an end is not known to be.
func (f *fingerprint) quoted() {
	n := strings.IndexByte(f.src[f.pos+1:], '"')
	if n < 0 {
		f.stop()
		return
	}
	name := f.src[f.pos : f.pos+n+2]
	f.pos += len(name)
	f.write(name)
}

// dollar takes a dollar-quoted string, or a parameter as it is.
func (f *fingerprint) dollar() {
	end := f.pos + 1
	for end < len(f.src) && classes[f.src[end]]-let <= dig-let {
		end++
	}
	if end == len(f.src) || f.src[end] != '$' || end > f.pos+1 && classes[f.src[f.pos+1]] == dig {
		f.write(f.src[f.pos:end])
		f.pos = end
		return
	}
	tag := f.src[f.pos : end+1]
	f.pos = end + 1
	f.skip(strings.Index(f.src[f.pos:], tag), len(tag))
	f.mark()
}

// number takes digits with what may belong to them: 1.5e-3, 0x1F, 1_000.
func (f *fingerprint) number() {
	for ; f.pos < len(f.src); f.pos++ {
		c := f.src[f.pos]
		sign := (c == '-' || c == '+') && lower(f.src[f.pos-1]) == 'e' && f.pos+1 < len(f.src) && classes[f.src[f.pos+1]] == dig
		if !inIdentifier(c) && c != '.' && !sign {
			break
		}
	}
	f.mark()
}

func (f *fingerprint) word() {
	end := f.pos + 1
	for end < len(f.src) && inIdentifier(f.src[end]) {
		end++
	}
	word := f.src[f.pos:end]
	quote := end < len(f.src) && f.src[end] == '\''
	f.pos = end
	switch {
	case quote && len(word) == 1: // E'…', B'…', X'…', N'…'
		f.literal(is(word, "e"))
		return
	case len(word) == 1 && is(word, "u") && strings.HasPrefix(f.src[end:], "&'"):
		f.pos++
		f.literal(false)
		return
	case f.set && is(word, "to"):
		f.value(word)
		return
	}
	f.words++
	f.alter = f.alter || f.words == 1 && is(word, "alter")
	f.set = f.set || is(word, "set") && (f.words == 1 || f.alter)
	f.write(word)
	if word[len(word)-1] >= 0x80 && end < len(f.src) && mayBeTrail(f.src[end]) {
		f.stop() // in another encoding the word goes on
	}
}

// symbol takes anything else, byte by byte.
func (f *fingerprint) symbol() {
	c := f.src[f.pos]
	f.pos++
	switch {
	case c == ';':
		f.gap = f.gap && !f.muted
		f.words, f.alter, f.set, f.muted = 0, false, false, false
	case c == '=' && f.set:
		f.value("=")
		return
	case f.muted:
		return
	case c == ',' && f.marks == 1:
		f.marks, f.gap = 2, false
		return
	case c < ' ' || c == 0x7f:
		c = '?'
	}
	f.write(string(rune(c)))
}

// value writes what is in front of the value of a SET, and a mark for all of that: it may be bare words.
func (f *fingerprint) value(behind string) {
	f.write(behind)
	f.gap = true
	f.mark()
	f.set, f.muted = false, true
}

// mark writes a question mark for a literal; in a list of them there is one.
func (f *fingerprint) mark() {
	if f.muted {
		return
	}
	if f.marks == 0 {
		f.write("?")
	}
	f.marks, f.gap = 1, false
}

func (f *fingerprint) write(s string) {
	if f.muted {
		return
	}
	if f.marks == 2 {
		f.marks = 0
		f.out.WriteByte(',')
	}
	if f.gap && f.out.Len() > 0 {
		f.out.WriteByte(' ')
	}
	f.marks, f.gap = 0, false
	f.out.WriteString(s)
}

func (f *fingerprint) finish() string {
	s := strings.ToValidUTF8(f.out.String(), "?")
	if len(s) > maxFingerprint-len(cutOff) && (f.cut || f.pos < len(f.src) || len(s) > maxFingerprint) {
		end := maxFingerprint - len(cutOff)
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s, f.cut = s[:end], true
	}
	if f.cut {
		return s + cutOff
	}
	return s
}
