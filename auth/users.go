package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// LineProblem is what is wrong with one line of a users file. It quotes roles, never secrets.
type LineProblem struct {
	Line    int // from 1
	Problem string
}

// UsersError is a users file with broken lines: all of them, in order.
type UsersError struct {
	Path     string
	Problems []LineProblem
}

func (e *UsersError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "users file %s: ", e.Path)
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "line %d: %s", p.Line, p.Problem)
	}
	return b.String()
}

// Users is the content of a users file. It is immutable once an Authenticator has it, and a Store.
type Users struct{ entries map[string]Entry }

// LoadUsers reads a file in the format of PgBouncer's userlist.txt: a line for each role, with the role and its secret
// (see ParseSecret) in double quotes, where "" stands for a quote. Blank lines, and lines that begin with ; or #, are
// passed over. Unlike in PgBouncer a line that is anything else is an error.
//
// Behind the secret there may be until and a time (RFC 3339) at which it ends. A role may have a second line while its
// password changes; one of the two must have an end.
//
// Errors: *UsersError with every broken line, or what reading the file said.
func LoadUsers(path string) (*Users, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	defer clear(text)
	u, problems := parseUsers(text)
	if problems != nil {
		return nil, &UsersError{Path: path, Problems: problems}
	}
	return u, nil
}

// Lookup implements Store. It does not block.
func (u *Users) Lookup(_ context.Context, role string) (Entry, error) {
	e, ok := u.entries[role]
	if !ok {
		return Entry{}, ErrUnknownRole
	}
	return e, nil
}

// keep implements keeper.
func (u *Users) keep(before Store) {
	old, ok := before.(*Users)
	if !ok {
		return
	}
	for role, e := range u.entries {
		e.keep(old.entries[role])
		u.entries[role] = e
	}
}

// Roles returns the names of all roles, in order.
func (u *Users) Roles() []string { return slices.Sorted(maps.Keys(u.entries)) }

// derive computes the verifiers of all plain passwords, on all cores.
func (u *Users) derive(salt func(role string) []byte) error {
	todo := make(chan Entry)
	errs := make(chan error, runtime.GOMAXPROCS(0))
	for range cap(errs) {
		go deriveAll(todo, salt, errs)
	}
	for _, e := range u.entries {
		todo <- e
	}
	close(todo)
	var all error
	for range cap(errs) {
		all = errors.Join(all, <-errs)
	}
	return all
}

// deriveAll serves todo until it is closed, and then sends the last error or nil.
func deriveAll(todo <-chan Entry, salt func(role string) []byte, result chan<- error) {
	var last error
	defer func() { result <- last }()
	for e := range todo {
		if err := e.derive(salt); err != nil {
			last = err
		}
	}
}

// derive computes the verifiers of those secrets that are plain passwords, as a login does.
func (e Entry) derive(salt func(role string) []byte) (last error) {
	valid := e.valid()
	for _, s := range valid {
		if s.isPlain() {
			by, iterations := commonSalt(valid, salt(s.s.role))
			if _, _, err := s.scramVerifier(by, iterations); err != nil {
				last = err
			}
		}
	}
	return last
}

func parseUsers(text []byte) (*Users, []LineProblem) {
	u := &Users{entries: make(map[string]Entry)}
	seen := make(map[string][]int) // role to lines, those with a broken secret included
	var problems []LineProblem
	number := 0
	for line := range bytes.Lines(text) {
		number++
		s := strings.Trim(string(line), " \t\r\n")
		if s == "" || s[0] == ';' || s[0] == '#' {
			continue
		}
		if err := u.addLine(s, number, seen); err != nil {
			problems = append(problems, LineProblem{Line: number, Problem: err.Error()})
		}
	}
	return u, problems
}

// addLine adds the role of one line that is neither blank nor a comment.
func (u *Users) addLine(line string, number int, seen map[string][]int) error {
	role, rest, err := unquote(line)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	rest = strings.TrimLeft(rest, " \t")
	if rest == "" {
		return errors.New("no secret behind the role") // what is read as a role may be a secret: not quoted
	}
	text, rest, err := unquote(rest)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	switch {
	case role == "":
		return errors.New("empty role")
	case strings.IndexByte(role, 0) >= 0:
		return errors.New("role with a zero byte")
	}
	until, err := parseUntil(rest)
	if err != nil {
		return fmt.Errorf("role %q: %w", role, err)
	}
	if at := seen[role]; len(at) > 1 {
		return fmt.Errorf("role %q is on lines %d and %d already", role, at[0], at[1])
	}
	seen[role] = append(seen[role], number)
	secret, err := ParseSecret(role, text)
	if err != nil {
		return fmt.Errorf("secret of role %q: %w", role, err)
	}
	e, known := u.entries[role]
	if !known {
		u.entries[role] = Entry{Secret: secret, ValidUntil: until}
		return nil
	}
	if e, err = e.With(secret, until); err != nil {
		return fmt.Errorf("role %q is on line %d already: %w", role, seen[role][0], err)
	}
	u.entries[role] = e
	return nil
}

// parseUntil reads what follows a secret: nothing, or until and a time. Its error does not quote it.
func parseUntil(rest string) (until time.Time, err error) {
	words := strings.Fields(rest)
	if len(words) == 0 {
		return until, nil
	}
	if len(words) == 2 && words[0] == "until" && rest[0] != 'u' {
		if until, err = time.Parse(time.RFC3339, words[1]); err == nil && !until.IsZero() {
			return until, nil
		}
	}
	return time.Time{}, errors.New("behind the secret only until and a time can stand, such as until 2026-12-31T18:00:00Z")
}

// unquote reads the quoted string at the start of s and returns it with what follows.
func unquote(s string) (value, rest string, err error) {
	if s == "" || s[0] != '"' {
		return "", s, errors.New("does not begin with a double quote")
	}
	s = s[1:]
	var b strings.Builder
	for {
		part, after, ok := strings.Cut(s, `"`)
		if !ok {
			return "", s, errors.New("no closing double quote")
		}
		b.WriteString(part)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, nil
		}
		b.WriteByte('"')
		s = after[1:]
	}
}
