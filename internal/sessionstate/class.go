package sessionstate

// class says what a byte can begin outside of literals.
type class uint8

const (
	oth class = iota // an operator, or nothing of SQL
	let              // a letter, the underscore, any byte above ASCII: begins an identifier
	dig
	dol
	spc
	sqt // single quote
	dqt // double quote
	opn // ( and [
	cls // ) and ]
	com
	sem
	dot
	das
	sla
)

// symbols are the tokens that consist of one byte, by its class; any other such byte is tokOther.
var symbols = [...]token{opn: tokOpen, cls: tokClose, com: tokComma, sem: tokSemicolon, dot: tokDot, sla: tokOther}

// classes follows Postgres's own lexer. A byte above ASCII is always part of an identifier there, in any encoding.
var classes = [256]class{
	oth, oth, oth, oth, oth, oth, oth, oth, oth, spc, spc, spc, spc, spc, oth, oth, // 0x00
	oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, oth, // 0x10
	spc, oth, dqt, oth, dol, oth, oth, sqt, opn, cls, oth, oth, com, das, dot, sla, // 0x20
	dig, dig, dig, dig, dig, dig, dig, dig, dig, dig, oth, sem, oth, oth, oth, oth, // 0x30
	oth, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0x40
	let, let, let, let, let, let, let, let, let, let, let, opn, oth, cls, oth, let, // 0x50
	oth, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0x60
	let, let, let, let, let, let, let, let, let, let, let, oth, oth, oth, oth, oth, // 0x70
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0x80
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0x90
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xA0
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xB0
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xC0
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xD0
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xE0
	let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, let, // 0xF0
}

// inIdentifier reports whether c continues an identifier.
func inIdentifier(c byte) bool { return classes[c]-let <= dol-let }

// mayBeTrail reports whether c, behind a byte above ASCII, may be the second half of a character in one of the
// encodings that only clients use (SJIS, BIG5, GBK, UHC, GB18030, JOHAB) and yet ends an identifier when read as ASCII.
func mayBeTrail(c byte) bool { return c >= 0x40 && c <= 0x7e && !inIdentifier(c) }

// lower returns c with ASCII capitals made small.
func lower(c byte) byte {
	if c-'A' < 26 {
		return c + ('a' - 'A')
	}
	return c
}

// is reports whether word is want, which is in small letters, in any case.
func is(word, want string) bool { return len(word) == len(want) && begins(word, want) }

// begins reports whether word begins with prefix, which is in small letters, in any case.
func begins(word, prefix string) bool {
	if len(word) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(word[i]) != prefix[i] {
			return false
		}
	}
	return true
}
