package proxy

import (
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// maxApplication is how much of an application_name Postgres keeps (NAMEDATALEN - 1).
const maxApplication = 63

// shownApplication is the application_name that the session's backends are to have at first.
func (s *session) shownApplication() string {
	if !s.lane.settings.addAddress {
		return s.application
	}
	where := s.clientAddr()
	if s.application == "" {
		return where
	}
	where = " - " + where
	n := min(len(s.application), maxApplication-len(where))
	for n > 0 && n < len(s.application) && !utf8.RuneStart(s.application[n]) {
		n-- // not in the middle of a character
	}
	return s.application[:n] + where
}

// nameApplication takes the application_name out of a StartupMessage's parameters: the options first, then the others in their
// order, as Postgres does.
func (s *startup) nameApplication(params []wire.Param) {
	told := true // of names that are too long
	take := func(_ []string, name, value string) {
		switch settingName(name) {
		case "client_min_messages":
			told = !aboveNotice(value)
		case "application_name":
			kept := clipName(value)
			if s.application = cleanName(kept); kept != value && told {
				s.tooLong = append(s.tooLong, value)
			}
		}
	}
	for _, p := range params {
		if p.Name == "options" {
			eachOption(p.Value, take)
		}
	}
	for _, p := range params {
		if p.Name != "options" && p.Value != "" {
			take(nil, p.Name, p.Value)
		}
	}
}

// settingName returns how Postgres spells the name of a setting that stands in the options.
func settingName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }

// aboveNotice reports whether a client with this client_min_messages is not told what is no worse than a notice.
func aboveNotice(level string) bool {
	switch strings.ToLower(level) {
	case "warning", "error", "fatal", "panic":
		return true
	}
	return false
}

// noticeTooLong is what Postgres says of an application_name of which it does not keep all.
func noticeTooLong(name string) *pgproto3.NoticeResponse {
	return &pgproto3.NoticeResponse{
		Severity:            "NOTICE",
		SeverityUnlocalized: "NOTICE",
		Code:                "42622",
		Message:             `identifier "` + name + `" will be truncated to "` + clipName(name) + `"`,
		File:                "scansup.c",
		Routine:             "truncate_identifier",
	}
}

// clipName returns what Postgres keeps of an application_name: at most 63 bytes, and no part of a character of UTF-8.
func clipName(s string) string {
	if len(s) <= maxApplication {
		return s
	}
	n := 0
	for next := 0; next <= maxApplication; next += characterLen(s[n]) {
		n = next
	}
	return s[:n]
}

// characterLen returns how many bytes a character of UTF-8 has that begins with c; Postgres looks at no others.
func characterLen(c byte) int {
	switch {
	case c&0xe0 == 0xc0:
		return 2
	case c&0xf0 == 0xe0:
		return 3
	case c&0xf8 == 0xf0:
		return 4
	}
	return 1
}

// cleanName returns what Postgres makes of an application_name's bytes other than printable ASCII.
func cleanName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 32 || c > 126 {
			b[i] = '?'
		}
	}
	return string(b)
}
