package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
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

// Users is the content of a users file. It is immutable, and a Store.
type Users struct{ secrets map[string]Secret }

// LoadUsers reads a file in the format of PgBouncer's userlist.txt: a line for each role, with the role and its secret
// (see ParseSecret) in double quotes, where "" stands for a quote. Blank lines, and lines that begin with ; or #, are
// passed over. Unlike in PgBouncer a line that is anything else is an error, and so is a role that comes twice.
//
// Errors: *UsersError with every broken line, or what reading the file said.
func LoadUsers(path string) (*Users, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	u, problems := parseUsers(text)
	if problems != nil {
		return nil, &UsersError{Path: path, Problems: problems}
	}
	return u, nil
}

// Lookup implements Store. It does not block.
func (u *Users) Lookup(_ context.Context, role string) (Entry, error) {
	s, ok := u.secrets[role]
	if !ok {
		return Entry{}, ErrUnknownRole
	}
	return Entry{Secret: s}, nil
}

// derive computes the verifiers of all plain passwords, on all cores.
func (u *Users) derive(salt func(role string) []byte) error {
	todo := make(chan Secret)
	errs := make(chan error, runtime.GOMAXPROCS(0))
	for range cap(errs) {
		go deriveAll(todo, salt, errs)
	}
	for _, s := range u.secrets {
		todo <- s
	}
	close(todo)
	var all error
	for range cap(errs) {
		all = errors.Join(all, <-errs)
	}
	return all
}

// deriveAll serves todo until it is closed, and then sends the last error or nil.
func deriveAll(todo <-chan Secret, salt func(role string) []byte, result chan<- error) {
	var last error
	defer func() { result <- last }()
	for s := range todo {
		if s.isPlain() {
			if _, _, err := s.scramVerifier(salt(s.s.role)); err != nil {
				last = err
			}
		}
	}
}

func parseUsers(text []byte) (*Users, []LineProblem) {
	u := &Users{secrets: make(map[string]Secret)}
	seen := make(map[string]int) // role to line, those with a broken secret included
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
func (u *Users) addLine(line string, number int, seen map[string]int) error {
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
	case rest != "":
		return fmt.Errorf("text behind the secret of role %q", role)
	case role == "":
		return errors.New("empty role")
	case strings.IndexByte(role, 0) >= 0:
		return errors.New("role with a zero byte")
	case seen[role] != 0:
		return fmt.Errorf("role %q is on line %d already", role, seen[role])
	}
	seen[role] = number
	secret, err := ParseSecret(role, text)
	if err != nil {
		return fmt.Errorf("secret of role %q: %w", role, err)
	}
	u.secrets[role] = secret
	return nil
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
