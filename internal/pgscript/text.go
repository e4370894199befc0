package pgscript

import (
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// reportedNames are the settings whose changes Postgres reports.
func reportedNames() []string {
	return []string{"DateStyle", "IntervalStyle", "TimeZone", "application_name", "client_encoding",
		"integer_datetimes", "is_superuser", "server_encoding", "server_version", "session_authorization",
		"standard_conforming_strings"}
}

// canonical is a setting's name as Postgres writes it.
func canonical(name string) string {
	for _, n := range reportedNames() {
		if strings.EqualFold(n, name) {
			return n
		}
	}
	return strings.ToLower(name)
}

// splitTop cuts s at sep outside of quotes and parentheses and drops what is blank.
func splitTop(s string, sep byte) (parts []string) {
	depth, start, quoted := 0, 0, false
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == sep && depth == 0 && !quoted {
			if p := strings.TrimSpace(s[start:i]); p != "" {
				parts = append(parts, p)
			}
			start = i + 1
			continue
		}
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '(' && !quoted:
			depth++
		case s[i] == ')' && !quoted:
			depth--
		}
	}
	return parts
}

// unquote takes the quotes of a SQL literal off.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		return strings.ReplaceAll(s[1:len(s)-1], "''", "'")
	}
	return s
}

// cutFold is strings.Cut without regard to case.
func cutFold(s, sep string) (before, after string, found bool) {
	i := strings.Index(strings.ToUpper(s), sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// between returns what stands in the outer parentheses.
func between(s string) string {
	i, j := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if i < 0 || j < i {
		return ""
	}
	return s[i+1 : j]
}

// call returns the arguments if s calls the named function.
func call(s, name string) (args string, ok bool) {
	if !strings.HasPrefix(strings.ToLower(s), name+"(") {
		return "", false
	}
	return between(s), true
}

// names are the columns' names of a SELECT list.
func names(list string) (out []string) {
	for _, e := range splitTop(list, ',') {
		name := "?column?"
		if _, alias, ok := cutFold(e, " AS "); ok {
			name = strings.TrimSpace(alias)
		} else if fn, _, ok := strings.Cut(e, "("); ok && !strings.ContainsAny(fn, "' $") {
			name = strings.ToLower(fn)
		} else if _, cast, ok := strings.Cut(e, "::"); ok {
			name = cast
		}
		out = append(out, name)
	}
	return out
}

// outline returns the columns that a statement will return, nil if it returns none.
func outline(sql string) []string {
	verb, rest, _ := strings.Cut(strings.TrimSpace(sql), " ")
	switch strings.ToUpper(verb) {
	case "SELECT":
		return names(rest)
	case "SHOW":
		return []string{canonical(strings.TrimSpace(rest))}
	}
	return nil
}

func describe(columns []string) *pgproto3.RowDescription {
	m := &pgproto3.RowDescription{}
	for _, name := range columns {
		m.Fields = append(m.Fields, column(name, textOID))
	}
	return m
}

// parameters are the types of a statement's parameters: those given, text for the others.
func parameters(sql string, given []uint32) []uint32 {
	out := slices.Clone(given)
	for i := 1; strings.Contains(sql, "$"+strconv.Itoa(i)); i++ {
		if i > len(out) {
			out = append(out, textOID)
		}
	}
	for i, oid := range out {
		if oid == 0 {
			out[i] = textOID
		}
	}
	return out
}
