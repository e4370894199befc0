package scram

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// prepare returns the password as it goes into the derivation of keys: by SASLprep, or unchanged where that does not
// admit it. Like Postgres it takes passwords of only ASCII as they are, control characters included, and looks for
// what is prohibited, unassigned or of mixed direction in the characters before they are normalized.
//
// Specification: RFC 4013; RFC 3454, "Preparation Overview" and "Bidirectional Characters".
func prepare(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped := mapRunes(password)
	if mapped == "" || !admitted(mapped) || !oneDirection(mapped) {
		return password
	}
	return norm.NFKC.String(mapped)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// mapRunes replaces spaces and drops what maps to nothing. U+200B is in both tables; Postgres takes it for a space.
func mapRunes(s string) string {
	space, dropped := table(spaces), table(nothing)
	return strings.Map(func(r rune) rune {
		switch {
		case space.has(r):
			return ' '
		case dropped.has(r):
			return -1
		}
		return r
	}, s)
}

func admitted(s string) bool {
	bad, unknown := table(prohibited), table(unassigned)
	return strings.IndexFunc(s, func(r rune) bool { return bad.has(r) || unknown.has(r) }) < 0
}

// oneDirection reports whether s has no character from right to left, or begins and ends with one and has none from
// left to right.
func oneDirection(s string) bool {
	right, left := table(rightToLeft), table(leftToRight)
	if strings.IndexFunc(s, right.has) < 0 {
		return true
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return right.has(first) && right.has(last) && strings.IndexFunc(s, left.has) < 0
}

// ranges is a table ready to be searched: passwords in clear may be long, and come from anybody.
type ranges []rune

// table reads one of the tables.
func table(pairs string) ranges { return ranges(pairs) }

// has reports whether r lies in one of the ranges. Between two of them the search ends at an even place.
func (t ranges) has(r rune) bool {
	i, found := slices.BinarySearch(t, r)
	return found || i%2 == 1
}
