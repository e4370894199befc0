package sessionstate

// Digest is what tells statements apart whose text is not to be kept.
type Digest struct {
	Print uint64 // the same for texts that differ in numbers, strings, comments, spaces and capitals only
	Inert bool   // it runs no code of the database: it begins or ends a transaction, shows a setting, listens or notifies
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// MakeDigest reads a statement's text. It is no judge of what the text may do: see Scan.
func MakeDigest(sql string) Digest {
	d := digester{src: sql, sum: fnvOffset, inert: true}
	for d.pos < len(sql) {
		d.token()
	}
	return Digest{Print: d.sum, Inert: d.inert}
}

// digester is one pass over a text, cut as Postgres does with its default settings. Where it is cut otherwise it may be
// taken for another statement; what is inert is judged by the first words, and has no literals.
type digester struct {
	src   string
	pos   int
	sum   uint64
	words int // of the statement
	inert bool
}

func (d *digester) token() {
	c := d.src[d.pos]
	switch classes[c] {
	case spc:
		d.pos++
	case let:
		start := d.pos
		d.to(func(c byte) bool { return classes[c]-let <= dig-let })
		d.word(d.src[start:d.pos])
	case dig:
		d.to(func(c byte) bool { return classes[c] == dig || c == '.' })
		d.byte('?')
	case sqt:
		d.quoted(c)
		d.byte('?')
	case sem:
		d.pos++
		d.words = 0
		d.byte(c)
	default:
		d.other(c)
	}
}

// other takes comments, quoted names and symbols.
func (d *digester) other(c byte) {
	var next byte
	if d.pos+1 < len(d.src) {
		next = d.src[d.pos+1]
	}
	switch {
	case c == '-' && next == '-':
		d.to(func(c byte) bool { return c != '\n' && c != '\r' })
		return
	case c == '/' && next == '*', classes[c] == dol:
		s := scanner{src: d.src, pos: d.pos}
		if classes[c] == dol {
			s.dollar()
			d.byte('?')
		} else {
			s.blockComment()
		}
		d.pos = s.pos
	case classes[c] == dqt:
		start := d.pos
		d.quoted(c)
		for _, c := range []byte(d.src[start:d.pos]) {
			d.byte(c)
		}
	default:
		d.pos++
		d.byte(c)
	}
	d.inert = d.inert && (c == '/' || c == '*' || classes[c] == com || classes[c] == dot)
}

// to goes on while the bytes are so.
func (d *digester) to(so func(byte) bool) {
	for d.pos < len(d.src) && so(d.src[d.pos]) {
		d.pos++
	}
}

// quoted goes behind the next quote.
func (d *digester) quoted(quote byte) {
	d.pos++
	d.to(func(c byte) bool { return c != quote })
	d.pos = min(d.pos+1, len(d.src))
	d.inert = false
}

func (d *digester) word(word string) {
	for i := range len(word) {
		d.byte(lower(word[i]))
	}
	d.byte(' ')
	d.words++
	if d.words == 1 {
		d.inert = d.inert && harmless(word)
	}
}

func (d *digester) byte(c byte) { d.sum = (d.sum ^ uint64(c)) * fnvPrime }

// harmless reports whether a statement that begins with the word runs no code, whatever follows. COMMIT runs triggers that
// were put off, but then there was another statement.
func harmless(word string) bool {
	switch {
	case is(word, "begin"), is(word, "start"), is(word, "commit"), is(word, "end"), is(word, "rollback"), is(word, "abort"),
		is(word, "savepoint"), is(word, "release"), is(word, "show"), is(word, "listen"), is(word, "unlisten"), is(word, "notify"):
		return true
	}
	return false
}
