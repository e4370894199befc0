package proxy

import "unicode/utf8"

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
