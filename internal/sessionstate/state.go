package sessionstate

import (
	"slices"
	"strings"
)

// Setting is a setting's name and its value as set_config takes it.
type Setting struct{ Name, Value string }

// State is what a session has set, and what another backend needs to be given to serve it. It does not change; nil is a
// session that has set nothing.
type State struct {
	settings []Setting // in the order in which they are to be set
	key      string
	parse    string
}

// NewState returns the state with these settings, in whatever order; nil if there are none.
func NewState(settings []Setting) *State {
	if len(settings) == 0 {
		return nil
	}
	s := &State{settings: slices.Clone(settings)}
	slices.SortFunc(s.settings, func(a, b Setting) int {
		if a, b := rank(a.Name), rank(b.Name); a != b {
			return a - b
		}
		return strings.Compare(a.Name, b.Name)
	})
	var key, parse strings.Builder
	for _, set := range s.settings {
		pair := set.Name + "\x00" + set.Value + "\x00"
		key.WriteString(pair)
		if actsAtParse(set.Name) {
			parse.WriteString(pair)
		}
	}
	s.key, s.parse = key.String(), parse.String()
	return s
}

// rank orders settings: client_encoding before values that are written in it, who one is last.
func rank(name string) int {
	switch name {
	case "client_encoding":
		return 0
	case "session_authorization":
		return 2
	case "role":
		return 3
	}
	return 1
}

// actsAtParse reports whether a setting has a say in what Postgres makes of a text when it parses it: literals are folded
// and names looked up then.
func actsAtParse(name string) bool {
	switch strings.ToLower(name) {
	case "timezone", "datestyle", "intervalstyle", "client_encoding", "search_path", "standard_conforming_strings",
		"backslash_quote", "array_nulls", "transform_null_equals", "xmloption", "lc_monetary", "timezone_abbreviations",
		"bytea_output", "extra_float_digits", // which are folded into the plan
		"role", "session_authorization":
		return true
	}
	return false
}

// Equal reports whether both are the same state.
func (s *State) Equal(other *State) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s == other || s.key == other.key
}

// Parse returns what of the state acts when a text is parsed: statements may be shared between states with the same.
func (s *State) Parse() string {
	if s == nil {
		return ""
	}
	return s.parse
}

// Settings returns what is set, in the order in which it is to be set. It is not to be changed.
func (s *State) Settings() []Setting {
	if s == nil {
		return nil
	}
	return s.settings
}

// Value returns what s sets name to.
func (s *State) Value(name string) (string, bool) {
	for _, set := range s.Settings() {
		if set.Name == name {
			return set.Value, true
		}
	}
	return "", false
}

// Identity reports whether s says who the session is.
func (s *State) Identity() bool {
	n := len(s.Settings())
	return n > 0 && rank(s.settings[n-1].Name) >= 2
}

// WithoutTimeouts returns what is left of s on a backend that waits for its next session: a timeout would act there.
func (s *State) WithoutTimeouts() *State {
	if !slices.ContainsFunc(s.Settings(), isTimeout) {
		return s
	}
	return NewState(slices.DeleteFunc(slices.Clone(s.settings), isTimeout))
}

func isTimeout(set Setting) bool {
	switch set.Name {
	case "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout",
		"client_connection_check_interval":
		return true
	}
	return false
}

// Change is one step from a state to another: set_config of Name to Value, or to its default if Reset.
type Change struct {
	Setting
	Reset bool
}

// Changes returns the steps that lead from one state to another, in their order: what the first one set is given back, who
// one is first; then the second is set.
func Changes(from, to *State) []Change {
	if from.Equal(to) {
		return nil
	}
	var steps []Change
	// As another role some settings could neither be given back nor set.
	reidentify := from.Identity() || to.Identity()
	old := from.Settings()
	for i := len(old) - 1; i >= 0; i-- {
		if _, kept := to.Value(old[i].Name); !kept || reidentify && rank(old[i].Name) >= 2 {
			steps = append(steps, Change{Setting: Setting{Name: old[i].Name}, Reset: true})
		}
	}
	for _, set := range to.Settings() {
		if was, ok := from.Value(set.Name); !ok || was != set.Value || reidentify && rank(set.Name) >= 2 {
			steps = append(steps, Change{Setting: set})
		}
	}
	return steps
}
