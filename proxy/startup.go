package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// startup is what a client asks for in its StartupMessage.
type startup struct {
	user        string // as typed: role, or role.tenant
	database    string
	application string
	tooLong     []string // application_names of which Postgres does not keep all, as typed
	replication bool
	tenants     []string     // tenants named by options
	params      []wire.Param // for Postgres, in order; each name once
	unknown     []string     // _pq_. options
}

// parseStartup sorts a StartupMessage's parameters into what is ours and what is Postgres's.
func parseStartup(r *wire.Request) (*startup, *endError) {
	s := &startup{}
	for _, p := range r.Params {
		switch {
		case p.Name == "user":
			s.user = p.Value
		case p.Name == "database":
			s.database = p.Value
		case p.Name == "application_name":
		case p.Name == "replication":
			s.replication = p.Value != "" && !isFalse(p.Value)
		case p.Name == "options":
			options, tenants := splitOptions(p.Value)
			s.tenants = append(s.tenants, tenants...)
			if options != "" {
				s.set("options", options)
			}
		case strings.HasPrefix(p.Name, "_pq_."):
			s.unknown = append(s.unknown, p.Name)
		default:
			s.set(p.Name, p.Value)
		}
	}
	s.nameApplication(r.Params)
	if s.user == "" {
		return nil, &endError{reason: ReasonInvalidStartup}
	}
	if s.replication {
		return nil, &endError{reason: ReasonFeatureNotSupported, message: "replication connections are not supported by Sluice"}
	}
	return s, nil
}

// set sets a parameter; the last value counts, as in Postgres.
func (s *startup) set(name, value string) {
	for i := range s.params {
		if s.params[i].Name == name {
			s.params[i].Value = value
			return
		}
	}
	s.params = append(s.params, wire.Param{Name: name, Value: value})
}

// newestVersion is the newest protocol that we speak.
const newestVersion = wire.Version32

// negotiation returns the one NegotiateProtocolVersion that a client of a newer minor version, or with options that we do
// not know, is owed; nil for others. As in Postgres it names the version that is spoken from now on: the client's own,
// unless ours is older. Protocol: "Start-up".
func negotiation(r *wire.Request, s *startup) wire.Message {
	if r.Version <= newestVersion && len(s.unknown) == 0 {
		return nil
	}
	return &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: min(r.Version, newestVersion), UnrecognizedOptions: s.unknown}
}

// Lengths of the keys that clients are given for cancelling.
const (
	shortKey = 4  // all that protocols before 3.2 take
	longKey  = 32 // as Postgres has it (MAX_CANCEL_KEY_LENGTH)
)

// keyLength returns how long the key of a client of this protocol version is.
func keyLength(version uint32) int {
	if version >= wire.Version32 {
		return longKey
	}
	return shortKey
}

// unsupported is the refusal of another major version than 3. Those before it understand an error in their own form only: a
// text without SQLSTATE. Protocol 3 has that from Postgres as well.
func unsupported(r *wire.Request) *endError {
	e := &endError{reason: ReasonFeatureNotSupported,
		message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", r.Major(), r.Minor(), newestVersion&0xffff),
		hint:    "Use a client of PostgreSQL 7.4 or newer.",
	}
	if r.Major() < 3 {
		e.raw = fmt.Appendf(nil, "EFATAL:  %s\nHINT:  %s\n\x00", e.message, e.hint)
	}
	return e
}

// splitOptions takes what is meant for Sluice out of the options parameter: -c sluice.tenant=NAME, --sluice.tenant=NAME
// and reference=NAME. What is left is Postgres's, in its own words. Backslashes escape, as in Postgres.
func splitOptions(options string) (rest string, tenants []string) {
	var kept []string
	eachOption(options, func(words []string, name, value string) {
		if name == "sluice.tenant" || name == "reference" {
			tenants = append(tenants, value)
		} else {
			kept = append(kept, words...)
		}
	})
	if len(tenants) == 0 {
		return options, nil
	}
	return strings.Join(kept, " "), tenants
}

// eachOption calls f for each option: its one or two words as they stand, and the setting that they make.
func eachOption(options string, f func(words []string, name, value string)) {
	words := optionWords(options)
	for i := 0; i < len(words); {
		word, used := words[i], 1
		setting := ""
		switch {
		case word == "-c" && i+1 < len(words):
			setting, used = words[i+1], 2
		case strings.HasPrefix(word, "--"), strings.HasPrefix(word, "-c"):
			setting = word[2:]
		case strings.HasPrefix(word, "reference="):
			setting = word
		}
		name, value, _ := strings.Cut(setting, "=")
		f(words[i:i+used], name, unescape(value))
		i += used
	}
}

// optionWords splits at white space that no backslash escapes; the backslashes stay.
func optionWords(s string) []string {
	var words []string
	start, escaped := -1, false
	for i := 0; i < len(s); i++ {
		space := s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r' || s[i] == '\v' || s[i] == '\f'
		switch {
		case space && !escaped && start >= 0:
			words = append(words, s[start:i])
			start = -1
		case (!space || escaped) && start < 0:
			start = i
		}
		escaped = s[i] == '\\' && !escaped
	}
	if start >= 0 {
		words = append(words, s[start:])
	}
	return words
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isFalse reports whether Postgres takes s for a boolean that is false: also the beginning of a word that is clear.
func isFalse(s string) bool {
	s = strings.ToLower(s)
	switch s {
	case "of", "off", "0":
		return true
	}
	return s != "" && (strings.HasPrefix("false", s) || strings.HasPrefix("no", s))
}

// baselineKey tells backends apart that were opened with different parameters, whose order does not matter, or for sessions between
// which redefined, see tenant, has changed.
func baselineKey(params []wire.Param, redefined uint64) string {
	sorted := slices.Clone(params)
	slices.SortFunc(sorted, func(a, b wire.Param) int { return strings.Compare(a.Name, b.Name) })
	length := 0
	for _, p := range sorted {
		length += len(p.Name) + len(p.Value) + 2
	}
	var b strings.Builder
	b.Grow(length)
	for _, p := range sorted {
		for _, part := range [...]string{p.Name, "\x00", p.Value, "\x00"} {
			b.WriteString(part)
		}
	}
	if redefined > 0 {
		b.WriteString("\x00" + strconv.FormatUint(redefined, 10)) // no parameter has an empty name
	}
	return b.String()
}
