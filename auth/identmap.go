package auth

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// IdentLine is a line of an ident map, as in PostgreSQL's pg_ident.conf: whose identity is Identity may log in as Role.
//
// An Identity that begins with / is a regular expression (RE2), which must match the whole identity; \1 in Role is then
// what its first group has matched. Everything else is compared byte for byte.
type IdentLine struct{ Identity, Role string }

// IdentMap says as which roles those may log in who have proved who they are. A nil IdentMap lets everybody in as
// himself: the identity must be the role. It is immutable.
type IdentMap struct{ lines []identLine }

type identLine struct {
	identity string
	expr     *regexp.Regexp // nil: the identity itself
	role     string
}

// firstGroup is what stands in a role for what the first group has matched.
const firstGroup = `\1`

// NewIdentMap compiles lines. One without any lets nobody in. Errors name the line, from 1.
func NewIdentMap(lines []IdentLine) (*IdentMap, error) {
	m := &IdentMap{}
	for i, l := range lines {
		compiled, err := compileLine(l)
		if err != nil {
			return nil, fmt.Errorf("line %d of the ident map: %w", i+1, err)
		}
		m.lines = append(m.lines, compiled)
	}
	return m, nil
}

func compileLine(l IdentLine) (identLine, error) {
	if l.Identity == "" || l.Role == "" {
		return identLine{}, errors.New("no identity, or no role")
	}
	text, is := strings.CutPrefix(l.Identity, "/")
	if !is {
		if strings.Contains(l.Role, firstGroup) {
			return identLine{}, fmt.Errorf("role %q needs an identity that is a regular expression", l.Role)
		}
		return identLine{identity: l.Identity, role: l.Role}, nil
	}
	alone, err := regexp.Compile(text) // by itself first: what it leaves open must not be closed by what is put around it
	if err != nil {
		return identLine{}, err
	}
	if strings.Contains(l.Role, firstGroup) && alone.NumSubexp() == 0 {
		return identLine{}, fmt.Errorf("role %q needs a group in the regular expression", l.Role)
	}
	expr, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return identLine{}, err
	}
	return identLine{identity: l.Identity, expr: expr, role: l.Role}, nil
}

// Allows reports whether who has the identity may log in as role.
func (m *IdentMap) Allows(identity, role string) bool {
	if identity == "" || role == "" {
		return false
	}
	if m == nil {
		return identity == role
	}
	for i := range m.lines {
		if m.lines[i].allows(identity, role) {
			return true
		}
	}
	return false
}

func (l *identLine) allows(identity, role string) bool {
	if l.expr == nil {
		return l.identity == identity && l.role == role
	}
	at := l.expr.FindStringSubmatchIndex(identity)
	switch {
	case at == nil:
		return false
	case !strings.Contains(l.role, firstGroup):
		return l.role == role
	case at[2] < 0: // the first group takes no part in the match
		return false
	}
	return strings.ReplaceAll(l.role, firstGroup, identity[at[2]:at[3]]) == role
}
