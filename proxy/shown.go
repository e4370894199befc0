package proxy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How much the logs repeat of what clients send, who need not have shown who they are.
const (
	maxShownName    = 64  // bytes of a name, of which Postgres keeps 63
	maxShownSubject = 255 // bytes of a token's subject, as OpenID Connect bounds it
	maxShownError   = 500 // bytes of an error, which may repeat more than names: the protocols that a TLS handshake names
)

// shownName returns a name that a client has sent as logs have it: no longer than maxShownName, and in quotes if a terminal
// might obey it.
func shownName(name string) string { return shown(name, maxShownName) }

// shownError is shownName for what an error says.
func shownError(err error) string { return shown(err.Error(), maxShownError) }

// shown returns text, cut to that many bytes, and in quotes if something in it cannot be printed.
func shown(text string, most int) string {
	valid, ellipsis := utf8.ValidString(text), ""
	if len(text) > most {
		text, ellipsis = text[:most], "…"
	}
	if valid {
		text = strings.ToValidUTF8(text, "") // without the half of a character
	}
	if !valid || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	return text + ellipsis
}
