// Package spelling finds the word that somebody has meant who has written another one.
package spelling

import (
	"strings"
	"unicode"
)

// maxWord is the longest word, in bytes, that is compared with others.
const maxWord = 64

// Hint returns "; did you mean WORD?", as the end of an error, with the one of known that is nearest to written. It is empty
// if none is near or several are equally so. Case does not count. Near is what differs by two letters, or by a third of
// those of a longer word, but by no more than half of them.
func Hint(written string, known []string) string {
	if len(written) > maxWord || !strings.ContainsFunc(written, unicode.IsLetter) {
		return ""
	}
	written = strings.ToLower(written)
	best, found, alone := len(written), "", false
	for _, word := range known {
		switch d := distance(written, strings.ToLower(word)); {
		case len(word) > maxWord || d > max(2, len(written)/3) || 2*d > max(len(written), len(word)):
		case found == "" || d < best:
			best, found, alone = d, word, true
		case d == best:
			alone = false
		}
	}
	if !alone {
		return ""
	}
	return "; did you mean " + found + "?"
}

// distance returns how many bytes have to be inserted, deleted or replaced to make one word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // of the first i bytes of a, to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
