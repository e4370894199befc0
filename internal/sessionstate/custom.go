package sessionstate

import "strings"

// collector gathers what may be the names of settings while a text is scanned; nil gathers nothing.
type collector struct {
	names   []string // identifiers, with those behind a dot joined to those before it, and first arguments of set_config
	params  []int    // parameters ($1) that are first arguments of set_config
	unknown bool     // a setting is set whose name does not stand in the text

	targets bool // of identifiers, only what SET and RESET name is gathered
	target  bool // with targets: in what a SET or RESET names
	reads   bool // with targets: the last word was current_setting
}

// CustomNames returns the names of custom settings (app.user_id) that a text may set. Postgres shows them only to who asks
// for each by its name. It returns too many rather than too few: everything with a dot that may be such a name.
// params are the parameters that are such names, counted from 1. ok is false if the text may set one whose name is neither.
func CustomNames(sql string) (names []string, params []int, ok bool) {
	c := &collector{}
	s := scanner{src: sql, state: starting, collector: c}
	if found := s.run(); found&Ambiguous != 0 || c.unknown {
		return nil, nil, false
	}
	for _, name := range c.names {
		if strings.IndexByte(name, '.') > 0 {
			names = append(names, name)
		}
	}
	return names, c.params, true
}

// MayNameUser reports whether a text may make the session act as another user: it speaks of a role or an authorization, or
// runs code.
func MayNameUser(sql string) bool {
	for i := range len(sql) {
		if rest := sql[i:]; begins(rest, "role") || begins(rest, "authorization") {
			return true
		}
	}
	return false
}

// maxIdentifier is how much of an identifier Postgres keeps (NAMEDATALEN - 1).
const maxIdentifier = 63

// identifier takes an identifier; behind a dot it belongs to the one before.
func (c *collector) identifier(name string, prev token) {
	if c == nil {
		return
	}
	if c.targets {
		c.target = c.target && (prev == tokDot || isName(prev) && prev != kwTo)
		c.reads = is(name, "current_setting")
	}
	switch {
	case c.targets && !c.target:
	case len(name) > maxIdentifier:
		c.unknown = true
	case prev == tokDot && len(c.names) > 0:
		c.names[len(c.names)-1] += "." + name
	default:
		c.names = append(c.names, name)
	}
}

// sets begins what a SET or RESET names.
func (c *collector) sets() {
	if c != nil {
		c.target = true
	}
}

// argument takes the content of a literal that is the first argument of set_config.
func (c *collector) argument(content string) {
	switch {
	case c == nil:
	case strings.IndexByte(content, '\\') >= 0:
		c.unknown = true
	default:
		c.names = append(c.names, content)
	}
}

// parameter takes a parameter that is the first argument of set_config.
func (c *collector) parameter(n int) {
	if c != nil {
		c.params = append(c.params, n)
	}
}

// read takes the content of a literal behind an opening parenthesis, which is the name of a setting in current_setting.
func (c *collector) read(content string) {
	if c != nil && c.reads && strings.IndexByte(content, '.') > 0 {
		c.argument(content)
	}
}

// hidden takes note that a name cannot be seen.
func (c *collector) hidden() {
	if c != nil {
		c.unknown = true
	}
}
