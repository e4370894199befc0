package sessionstate

import (
	"slices"
	"strings"
)

// ParseAgain returns under which settings a text is to be parsed for a session that now has others than when it was parsed
// first; both are what State.Parse returns. It is as where Postgres keeps it prepared: literals stay what they were made, unless
// search_path is another, for then Postgres looks at all but the letters of the text again. Names, and who one is, are of now.
func ParseAgain(was, now string) string {
	before, current := NewState(pairs(was)), NewState(pairs(now))
	oldPath, _ := before.Value("search_path")
	path, _ := current.Value("search_path")
	kept := func(s Setting) bool { return readsLetters(s.Name) || oldPath == path && !ofNow(s.Name) }
	settings := slices.DeleteFunc(slices.Clone(current.Settings()), kept)
	for _, s := range before.Settings() {
		if kept(s) {
			settings = append(settings, s)
		}
	}
	return NewState(settings).Parse()
}

// ParseChanges returns the steps from the settings of one ParseAgain to another's, or to State.Parse, of the same session.
func ParseChanges(from, to string) []Change {
	some := func(key string) *State {
		return NewState(slices.DeleteFunc(pairs(key), func(s Setting) bool { return ofNow(s.Name) }))
	}
	return Changes(some(from), some(to))
}

// readsLetters reports whether the setting says how the letters of a text are read: Postgres does that once.
func readsLetters(name string) bool {
	switch strings.ToLower(name) {
	case "client_encoding", "standard_conforming_strings", "backslash_quote":
		return true
	}
	return false
}

// ofNow reports whether the setting acts whenever a statement is used, whatever it was when that was parsed.
func ofNow(name string) bool { return name == "search_path" || identifies(name) }

// pairs returns the settings in what State.Parse returns.
func pairs(key string) (settings []Setting) {
	for key != "" {
		name, rest, _ := strings.Cut(key, "\x00")
		value, rest, _ := strings.Cut(rest, "\x00")
		settings, key = append(settings, Setting{Name: name, Value: value}), rest
	}
	return settings
}
