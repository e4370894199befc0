package sessionstate

import (
	"cmp"
	"slices"
	"strconv"
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
	calm     *State // without its timeouts
	identity bool   // it says who the session is
	hasty    bool   // it has timeouts that could end Sluice's own commands
}

// NewState returns the state with these settings, in whatever order; nil if there are none.
func NewState(settings []Setting) *State {
	if len(settings) == 0 {
		return nil
	}
	s := &State{settings: slices.Clone(settings)}
	slices.SortFunc(s.settings, func(a, b Setting) int {
		return cmp.Or(cmp.Compare(rank(a.Name), rank(b.Name)), strings.Compare(a.Name, b.Name))
	})
	var key, parse strings.Builder
	for _, set := range s.settings {
		pair := set.Name + "\x00" + set.Value + "\x00"
		key.WriteString(pair)
		if actsAtParse(set.Name) {
			parse.WriteString(pair)
		}
		s.identity = s.identity || identifies(set.Name)
		s.hasty = s.hasty || isTimeout(set) && !patient(set.Value)
	}
	s.key, s.parse = key.String(), parse.String()
	if s.calm = s; slices.ContainsFunc(s.settings, isTimeout) {
		s.calm = NewState(slices.DeleteFunc(slices.Clone(s.settings), isTimeout))
	}
	return s
}

// The order in which settings are set.
const (
	rankEncoding = iota // before values that are written in it
	rankPlain
	rankAuthorization // behind what another user could not set
	rankRole
	rankTimeout // it would act on what is set behind it
)

func rank(name string) int {
	switch name {
	case "client_encoding":
		return rankEncoding
	case "session_authorization":
		return rankAuthorization
	case "role":
		return rankRole
	}
	if isTimeout(Setting{Name: name}) {
		return rankTimeout
	}
	return rankPlain
}

// identifies reports whether the setting says who the session is.
func identifies(name string) bool { return name == "role" || name == "session_authorization" }

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
func (s *State) Equal(other *State) bool { return s == other || s.Key() == other.Key() }

// Key tells states apart; that of nil is empty.
func (s *State) Key() string {
	if s == nil {
		return ""
	}
	return s.key
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
func (s *State) Identity() bool { return s != nil && s.identity }

// Hasty reports whether s has a timeout that may end what follows in the same breath, however simple that is.
func (s *State) Hasty() bool { return s != nil && s.hasty }

// WithoutTimeouts returns what is left of s on a backend that waits for its next session: a timeout would act there.
func (s *State) WithoutTimeouts() *State {
	if s == nil {
		return nil
	}
	return s.calm
}

// patient reports whether a timeout, in milliseconds, leaves time for anything that is not meant to wait.
func patient(value string) bool {
	ms, err := strconv.Atoi(value)
	return err == nil && (ms == 0 || ms >= 1000)
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
		if _, kept := to.Value(old[i].Name); !kept || reidentify && identifies(old[i].Name) {
			steps = append(steps, Change{Setting: Setting{Name: old[i].Name}, Reset: true})
		}
	}
	for _, set := range to.Settings() {
		if was, ok := from.Value(set.Name); !ok || was != set.Value || reidentify && identifies(set.Name) {
			steps = append(steps, Change{Setting: set})
		}
	}
	return steps
}
