package sessionstate

// defaultTemplate is what CREATE DATABASE copies if it does not say.
const defaultTemplate = "template1"

// MayVacate reports whether sql may begin with a statement for which Vacates returns something. It looks at the first word only.
func MayVacate(sql []byte) bool {
	if len(sql) == 0 || !MayBeginVacating(sql[0]) {
		return false // without a scanner
	}
	c := newCutter(view(sql))
	for p, ok := c.next(); ok; p, ok = c.next() {
		if p.token != tokSemicolon {
			return p.token == kwDrop || p.token == kwAlter || p.token == kwCreate
		}
	}
	return false
}

// MayBeginVacating reports whether a text for which MayVacate is true can begin with c.
func MayBeginVacating(c byte) bool {
	switch lower(c) {
	case 'a', 'c', 'd':
		return true
	}
	return classes[c] != let
}

// Vacates returns the databases to which nobody else may be connected while the statement sql runs: the one that is dropped,
// renamed or moved, or that is copied. Postgres does not run such a statement together with others.
func Vacates(sql string) (databases []string) {
	c := newCutter(sql)
	for range 2 { // most texts end here
		if p, ok := c.next(); !ok || p.token == tokWord && !p.word("database") {
			return nil
		}
	}
	all, ok := statements(sql)
	if !ok || len(all) != 1 || len(all[0]) < 3 || !all[0][1].word("database") {
		return nil
	}
	switch rest := all[0][2:]; all[0][0].token {
	case kwDrop:
		if len(rest) > 2 && rest[0].word("if") && rest[1].word("exists") {
			rest = rest[2:]
		}
		return database(rest)
	case kwAlter:
		_, n := name(rest)
		if behind := rest[n:]; len(behind) > 1 && (behind[0].word("rename") || behind[0].token == kwSet && behind[1].word("tablespace")) {
			return database(rest)
		}
	case kwCreate:
		return templates(rest)
	}
	return nil
}

// database returns the name of a database with which the pieces begin.
func database(pieces []piece) []string {
	as, n := name(pieces)
	if n == 0 {
		return nil
	}
	return []string{clipped(as)}
}

// templates returns what a CREATE DATABASE copies; rest begins with the name of the new one. It rather returns too many: an
// option's value may be called template too.
func templates(rest []piece) (found []string) {
	_, n := name(rest)
	for i := n; i < len(rest); i++ {
		if !rest[i].word("template") {
			continue
		}
		value := rest[i+1:]
		if len(value) > 0 && value[0].text == "=" {
			value = value[1:]
		}
		switch {
		case len(value) == 0 || value[0].word("default"):
		case value[0].token == tokString && value[0].text[0] == '\'':
			found = append(found, clipped(quoted(value, tokString, `'`)))
		default:
			found = append(found, database(value)...)
		}
	}
	if len(found) == 0 {
		found = []string{defaultTemplate}
	}
	return found
}

// clipped returns as much of a name as Postgres keeps.
func clipped(s string) string { return s[:min(len(s), maxIdentifier)] }
